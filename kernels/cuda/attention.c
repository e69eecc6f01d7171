/* attention.c - which kernels compute attention: the table of engines.
 *
 * The device's wish (`attention` of struct device) names one; a call whose shapes it does not fit
 * goes the plain way, which takes all. Under ATTENTION_AUTO that is the plain way for every call:
 * the others use PTX wrappers, and those have not passed on a device yet. Decoding few rows has an
 * engine of its own under every wish (cuda_decode_attention_fits: which calls); it has no wrapper.
 */
#include "kernels/cuda/cuda.h"

struct engine {
    const char *name;
    int (*fits)(const struct device *d, const struct kern_attention *a);
    size_t (*scratch)(const struct device *d, const struct kern_attention *a);
    void (*forward)(struct device *d, const struct kern_attention *a, void *scratch);
    void (*backward)(struct device *d, const struct kern_attention *a,
                     const struct kern_attention_grad *g, void *scratch);
};

static int fits_all(const struct device *d, const struct kern_attention *a)
{
    (void)d, (void)a;
    return 1;
}

static const struct engine plain = {"plain", fits_all, cuda_plain_attention_scratch,
                                    cuda_plain_attention_forward, cuda_plain_attention_backward};
static const struct engine flash = {"flash", cuda_flash_attention_fits,
                                    cuda_flash_attention_scratch, cuda_flash_attention_forward,
                                    cuda_flash_attention_backward};
static const struct engine decode = {"decode", cuda_decode_attention_fits,
                                     cuda_decode_attention_scratch, cuda_decode_attention_forward,
                                     cuda_plain_attention_backward};

static const struct engine *const wishes[] = {
    [ATTENTION_AUTO] = &plain, [ATTENTION_PLAIN] = &plain, [ATTENTION_FLASH] = &flash};

static const struct engine *engine_of(const struct device *d, const struct kern_attention *a)
{
    const struct engine *wish = wishes[d->attention];
    if (decode.fits(d, a)) return &decode;
    return wish->fits(d, a) ? wish : &plain;
}

const char *cuda_attention_engine(const struct device *d, int32_t D)
{
    struct kern_attention shape = {.H = 1, .KV = 1, .D = D, .scale = 1};
    const struct engine *e = wishes[d->attention];
    return e->fits(d, &shape) ? e->name : NULL;
}

/* A call's addresses may make it go the plain way, and while decoding fewer rows may follow. */
size_t cuda_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    size_t needed = wishes[d->attention]->scratch(d, a), all = plain.scratch(d, a);
    size_t few = a->first_row > 0 ? decode.scratch(d, a) : 0;
    if (needed < all) needed = all;
    return needed > few ? needed : few;
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
