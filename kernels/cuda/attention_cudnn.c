/* attention_cudnn.c - attention by cuDNN's graphs (cudnn_graph.h), as one of the engines.
 *
 * NOT RUN ON A DEVICE YET. In emulation a stand-in computes what the graphs say; without a device
 * the library itself is asked whether it has an engine for them (tests/ops/test_cudnn.c).
 *
 * A call goes here when the host knows its longest segment (a->longest: no segment has a prefix),
 * nothing is cached before it, rows are 16-aligned, and cuDNN has a deterministic engine for
 * forward and backward both, within the scratch there is. The rest goes the way of the engine
 * behind. So heads, types and devices are cuDNN's to refuse: 9.19 to 9.28 take heads of multiples
 * of 8 up to 256 on Hopper, with or without a window; on sm_80 they have no deterministic gradient
 * of ragged batches, and the engine is not to be had.
 *
 * Plans are made for a number of segments and a length rounded up to four steps an octave, so that
 * few are made: 1, 2, ... 8, 10, 12, 14, 16, 20, ... segments; 128, 256, ... 1024, 1280, ... rows.
 *
 * Scratch: lengths, offsets, delta, cuDNN's workspace. For Hopper the latter holds 2 bytes for
 * each pair of rows that the rounded shape has, sequences * H * length^2: most for a few long
 * segments of equal length, and far too much where one is long and many are short.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/cuda/attention_sequences.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/cudnn_graph.h"

/* A full table of plans starts anew, which costs time only. */
enum { PLANS = 128, ALIGN = 256, LEAST_LENGTH = 128, LONGEST_PAIRED = 8192 };
static const size_t LEAST_SCRATCH = (size_t)16 << 20;

struct cudnn_engine {
    struct sdpa_target target; /* no handle: not to be had */
    struct sdpa_plan plans[PLANS];
    int count;
};

/* --- the library and its plans --- */

static struct cudnn_engine *engine_of(const struct device *d)
{
    struct cuda_state *state = cuda_state(d);
    struct err why = {0};
    if (state->cudnn) return state->cudnn;
    struct cudnn_engine *c = mem_calloc(1, sizeof *c);
    if (!c) return NULL;
    c->target.lib = cudnn_load(&why);
    if (c->target.lib && c->target.lib->cudnnCreate(&c->target.handle)) c->target.handle = NULL;
    if (c->target.handle) c->target.lib->cudnnSetStream(c->target.handle, state->compute);
    return state->cudnn = c;
}

static void forget_plans(struct cudnn_engine *c)
{
    for (int i = 0; i < c->count; i++) sdpa_plan_free(&c->plans[i], c->target.lib);
    c->count = 0;
}

void cuda_cudnn_close(struct device *d)
{
    struct cudnn_engine *c = cuda_state(d)->cudnn;
    if (!c) return;
    forget_plans(c);
    if (c->target.handle) c->target.lib->cudnnDestroy(c->target.handle);
    mem_free(c);
    cuda_state(d)->cudnn = NULL;
}

int cuda_cudnn_version(const struct device *d)
{
    const struct cudnn_engine *c = cuda_state(d)->cudnn;
    return c && c->target.handle ? (int)c->target.lib->cudnnGetVersion() : 0;
}

/* The plan for a shape, known or asked for now; without a config where cuDNN has none. */
static struct sdpa_plan *find_plan(struct cudnn_engine *c, const struct sdpa_shape *s)
{
    struct err why = {0};
    for (int i = 0; i < c->count; i++)
        if (memcmp(&c->plans[i].shape, s, sizeof *s) == 0) return &c->plans[i];
    if (c->count == PLANS) forget_plans(c);
    struct sdpa_plan *p = &c->plans[c->count++];
    if (sdpa_choose(p, &c->target, s, &why)) p->config = NULL;
    return p;
}

/* --- shapes --- */

/* n units, rounded up to four steps an octave. */
static int32_t rounded(int32_t n, int32_t unit)
{
    int32_t units = (n + unit - 1) / unit, step = 1;
    while (units > 8 * step) step *= 2;
    return (units + step - 1) / step * step * unit;
}

/* g NULL: forward; its strides are not looked at in the backward of a call that is only judged. */
static struct sdpa_shape shape_of(const struct kern_attention *a, int backward,
                                  const struct kern_attention_grad *g)
{
    struct sdpa_shape s = {.backward = backward,
                           .sequences = rounded(a->num_segments, 1),
                           .length = rounded(a->longest, LEAST_LENGTH),
                           .H = a->H,
                           .KV = a->KV,
                           .D = a->D,
                           .window = a->window < a->longest ? a->window : 0,
                           .ldq = a->ldq,
                           .ldk = a->ldk,
                           .ldv = a->ldv,
                           .ldo = a->ldo};
    if (!backward) return s;
    s.lddq = g ? g->lddq : a->ldq;
    s.lddk = g ? g->lddk : a->ldk;
    s.lddv = g ? g->lddv : a->ldv;
    return s;
}

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

struct parts {
    size_t offsets, delta, workspace, end; /* lengths begin at 0 */
};

static struct parts parts_of(const struct sdpa_plan *p)
{
    const struct sdpa_shape *s = &p->shape;
    size_t n = (size_t)s->sequences, each = (size_t)s->H * (size_t)s->length * sizeof(float);
    struct parts at = {.offsets = aligned(n * sizeof(int32_t))};
    at.delta = at.offsets + aligned(SEQUENCE_ARRAYS * (n + 1) * sizeof(int64_t));
    at.workspace = at.delta + (s->backward ? aligned(n * each) : 0);
    at.end = at.workspace + p->workspace;
    return at;
}

/* What there is for a call, whatever its segments are, since a run is planned for all of them:
 * enough for N rows in segments of equal length up to 8192, whose rounding costs less than half.
 * Above that the gradient's workspace is larger than anything else in a step. */
size_t cuda_cudnn_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    (void)d;
    size_t N = (size_t)a->N, length = N < LONGEST_PAIRED ? N : LONGEST_PAIRED;
    size_t most = 2 * N * (size_t)a->H * (length + 4 * (size_t)a->D) + ((size_t)1 << 20);
    return most > LEAST_SCRATCH ? most : LEAST_SCRATCH;
}

/* --- the engine --- */

static struct sdpa_plan *fitting_plan(const struct device *d, const struct kern_attention *a,
                                      int backward, const struct kern_attention_grad *g)
{
    struct cudnn_engine *c = engine_of(d);
    struct err why = {0};
    if (!c || !c->target.handle) return NULL;
    struct sdpa_shape s = shape_of(a, backward, g);
    struct sdpa_plan *p = find_plan(c, &s);
    if (!p->config || parts_of(p).end > cuda_cudnn_attention_scratch(d, a)) return NULL;
    if (!p->plan && sdpa_make(p, &c->target, &why)) {
        sdpa_plan_free(p, c->target.lib);
        p->shape = s; /* not asked for again */
        return NULL;
    }
    return parts_of(p).end <= cuda_cudnn_attention_scratch(d, a) ? p : NULL;
}

int cuda_cudnn_attention_fits(const struct device *d, const struct kern_attention *a)
{
    struct kern_attention shape = *a;
    if (d->type != DTYPE_BF16) return 0;
    if (!a->segments) { /* whether there is an engine at all, for heads of D */
        shape.N = shape.longest = LEAST_LENGTH;
        shape.ldq = shape.ldk = shape.ldv = shape.ldo = a->D;
        shape.window = 0;
    } else if (a->longest < 1 || a->num_segments < 1 || a->first_row || !a->lse ||
               (((uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v | (uintptr_t)a->o) % 16) ||
               ((a->ldq | a->ldk | a->ldv | a->ldo | a->D) % 8)) {
        return 0;
    }
    return fitting_plan(d, &shape, 0, NULL) && fitting_plan(d, &shape, 1, NULL);
}

/* Addresses of what both directions have, and of the arrays, which are made here. */
static void prepare(struct device *d, const struct kern_attention *a,
                    const struct kern_attention_grad *g, const struct sdpa_plan *p,
                    unsigned char *scratch, void **at)
{
    const struct sdpa_shape *s = &p->shape;
    struct parts parts = parts_of(p);
    struct sequence_strides strides = {
        g ? SEQUENCE_ARRAYS : 5, {s->ldq, s->ldk, s->ldv, s->ldo, s->H, s->lddq, s->lddk, s->lddv}};
    int32_t *lengths = (int32_t *)(void *)scratch;
    int64_t *offsets = (int64_t *)(void *)(scratch + parts.offsets);
    cuda_list_sequences(d, lengths, offsets, s->sequences, a, &strides);
    for (int i = 0; i < strides.arrays; i++)
        at[SDPA_AT_Q + i] = offsets + (size_t)i * (size_t)(s->sequences + 1);
    at[SDPA_ROWS] = at[SDPA_KEYS] = lengths;
    at[SDPA_Q] = (void *)(uintptr_t)a->q;
    at[SDPA_K] = (void *)(uintptr_t)a->k;
    at[SDPA_V] = (void *)(uintptr_t)a->v;
    at[SDPA_O] = a->o;
    at[SDPA_STATS] = a->lse;
    at[SDPA_DELTA] = scratch + parts.delta;
}

static void run(struct device *d, const struct kern_attention *a, const struct sdpa_plan *p,
                unsigned char *scratch, void **at, const char *what)
{
    float scale = a->scale, one = 1, hidden = -INFINITY, window = (float)a->window;
    const struct cudnn_engine *c = cuda_state(d)->cudnn;
    at[SDPA_SCALE] = &scale;
    at[SDPA_ONE] = &one;
    at[SDPA_HIDDEN] = &hidden;
    at[SDPA_WINDOW] = &window;
    if (sdpa_run(p, &c->target, at, scratch + parts_of(p).workspace))
        cuda_note(d, cudaErrorNotSupported, what);
}

void cuda_cudnn_attention_forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    void *at[SDPA_TENSORS_END] = {NULL};
    const struct sdpa_plan *p = fitting_plan(d, a, 0, NULL);
    if (!p) { /* cuDNN took it a moment ago */
        cuda_note(d, cudaErrorNotSupported, "cuDNN's attention");
        return;
    }
    prepare(d, a, NULL, p, scratch, at);
    run(d, a, p, scratch, at, "cuDNN's attention");
}

void cuda_cudnn_attention_backward(struct device *d, const struct kern_attention *a,
                                   const struct kern_attention_grad *g, void *scratch)
{
    void *at[SDPA_TENSORS_END] = {NULL};
    uintptr_t bits = (uintptr_t)g->d_o | (uintptr_t)g->dq | (uintptr_t)g->dk | (uintptr_t)g->dv;
    const struct sdpa_plan *p = NULL;
    if (!(bits % 16) && !((g->lddq | g->lddk | g->lddv) % 8)) p = fitting_plan(d, a, 1, g);
    if (!p) {
        cuda_plain_attention_backward(d, a, g, scratch);
        return;
    }
    prepare(d, a, g, p, scratch, at);
    at[SDPA_DO] = (void *)(uintptr_t)g->d_o;
    at[SDPA_DQ] = g->dq;
    at[SDPA_DK] = g->dk;
    at[SDPA_DV] = g->dv;
    run(d, a, p, scratch, at, "cuDNN's attention, backward");
}
