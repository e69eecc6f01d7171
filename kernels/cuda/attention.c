/* attention.c - which kernels compute attention: the table of engines.
 *
 * The device's wish (`attention` of struct device) names one; a call whose shapes it does not fit
 * goes the way of the engine behind it, at last the plain one, which takes all. ATTENTION_AUTO
 * goes by what was measured. Decoding few rows has an engine of its own under every wish
 * (cuda_decode_attention_fits: which calls); it has no wrapper.
 */
#include "kernels/cuda/attention.h"

#include "kernels/cuda/cuda.h"

struct engine {
    const char *name;
    int (*fits)(const struct device *d, const struct kern_attention *a);
    size_t (*scratch)(const struct device *d, const struct kern_attention *a);
    void (*forward)(struct device *d, const struct kern_attention *a, void *scratch);
    void (*backward)(struct device *d, const struct kern_attention *a,
                     const struct kern_attention_grad *g, void *scratch);
    enum attention_engine behind; /* takes what does not fit */
};

static int fits_all(const struct device *d, const struct kern_attention *a)
{
    (void)d, (void)a;
    return 1;
}

static const struct engine engines[] = {
    [ATTENTION_PLAIN] = {"plain", fits_all, cuda_plain_attention_scratch,
                         cuda_plain_attention_forward, cuda_plain_attention_backward,
                         ATTENTION_PLAIN},
    [ATTENTION_FLASH] = {"flash", cuda_flash_attention_fits, cuda_flash_attention_scratch,
                         cuda_flash_attention_forward, cuda_flash_attention_backward,
                         ATTENTION_PLAIN},
    [ATTENTION_HOPPER] = {"hopper", cuda_hopper_attention_fits, cuda_hopper_attention_scratch,
                          cuda_hopper_attention_forward, cuda_hopper_attention_backward,
                          ATTENTION_FLASH},
    [ATTENTION_CUDNN] = {"cudnn", cuda_cudnn_attention_fits, cuda_cudnn_attention_scratch,
                         cuda_cudnn_attention_forward, cuda_cudnn_attention_backward,
                         ATTENTION_FLASH},
};
static const struct engine decode = {"decode",
                                     cuda_decode_attention_fits,
                                     cuda_decode_attention_scratch,
                                     cuda_decode_attention_forward,
                                     cuda_plain_attention_backward,
                                     ATTENTION_PLAIN};

/* The fastest engine by shape, the most special rule first, as devices measured it: tools/gpu-check
 * does, its result is committed, tools/attention-rules makes the rules of it. Where nothing was
 * measured, calls go the way that needs no PTX wrapper. */
static const struct attention_rule measured[] = {
#include "kernels/cuda/attention_measured.inc"
    {0, 0, 0, ATTENTION_PLAIN}};

static int concerns(const struct attention_rule *rule, int capability, int32_t D)
{
    return (!rule->capability || rule->capability == capability) && (!rule->D || rule->D == D);
}

enum attention_engine attention_pick(const struct attention_rule *rule, int capability,
                                     const struct kern_attention *a)
{
    int32_t length = a->N / (a->num_segments > 0 ? a->num_segments : 1);
    while (!concerns(rule, capability, a->D) || length < rule->length) rule++;
    return rule->engine;
}

static const struct engine *wish_of(const struct device *d, const struct kern_attention *a)
{
    enum attention_engine wish = d->attention;
    if (wish == ATTENTION_AUTO) wish = attention_pick(measured, cuda_state(d)->capability, a);
    return &engines[wish];
}

static const struct engine *engine_of(const struct device *d, const struct kern_attention *a)
{
    const struct engine *e = decode.fits(d, a) ? &decode : wish_of(d, a);
    while (!e->fits(d, a)) e = &engines[e->behind];
    return e;
}

const char *cuda_attention_engine(const struct device *d, int32_t D)
{
    struct kern_attention shape = {
        .N = INT32_MAX, .num_segments = 1, .H = 1, .KV = 1, .D = D, .scale = 1};
    if (d->attention == ATTENTION_AUTO) return engine_of(d, &shape)->name;
    const struct engine *e = wish_of(d, &shape);
    return e->fits(d, &shape) ? e->name : NULL;
}

static size_t larger(size_t x, size_t y) { return x > y ? x : y; }

/* Of an engine and those behind it: a call's addresses may make it go there. */
static size_t scratch_behind(const struct device *d, const struct kern_attention *a,
                             enum attention_engine wish)
{
    size_t needed = engines[wish].scratch(d, a);
    if (wish == engines[wish].behind) return needed;
    return larger(needed, scratch_behind(d, a, engines[wish].behind));
}

/* Under ATTENTION_AUTO a call may be shorter than the one that was planned for, so every rule for
 * such a device and head has a say; and while decoding fewer rows may follow. */
size_t cuda_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    size_t most = a->first_row > 0 ? decode.scratch(d, a) : 0;
    if (d->attention != ATTENTION_AUTO) return larger(most, scratch_behind(d, a, d->attention));
    for (size_t i = 0; i < sizeof measured / sizeof *measured; i++)
        if (concerns(&measured[i], cuda_state(d)->capability, a->D))
            most = larger(most, scratch_behind(d, a, measured[i].engine));
    return most;
}

void cuda_attention_forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    engine_of(d, a)->forward(d, a, scratch);
}

void cuda_attention_backward(struct device *d, const struct kern_attention *a,
                             const struct kern_attention_grad *g, void *scratch)
{
    engine_of(d, a)->backward(d, a, g, scratch);
}
