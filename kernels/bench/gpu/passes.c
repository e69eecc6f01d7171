/* passes.c - what passes over rows once: norms, rope, SwiGLU, the embedding, the optimisers. Their
 * tensors are far larger than a cache. */
#include <stdio.h>

#include "kernels/bench/gpu/bench.h"

struct pass_call {
    int32_t N, C;  /* elements: N * C */
    void *v[5];    /* [N, C] of the device's type */
    float *f[4];   /* [N * C] */
    float *few;    /* [N], rstd; its first two a norm's */
    float *angles; /* [N, 128] */
    int32_t *at;   /* [N] */
    void *w, *scratch;
};

#define PASS(name, call)            \
    static void name(void *p)       \
    {                               \
        struct pass_call *c = p;    \
        int32_t N = c->N, C = c->C; \
        void **v = c->v;            \
        (void)v;                    \
        call;                       \
    }

enum { HEAD_SIZE = 128 };

PASS(norm_forward,
     bench.device.k->norm_forward(&bench.device, v[0], c->few, v[1], c->w, N, 1, C, C, C, 1e-5f))
PASS(norm_backward, bench.device.k->norm_backward(&bench.device, v[0], NULL, v[1], v[2], c->w,
                                                  c->few, N, 1, C, C, C, C, 1, c->scratch))
PASS(rope,
     bench.device.k->rope(&bench.device, v[0], c->angles, c->at, N, C / HEAD_SIZE, HEAD_SIZE, C, 0))
PASS(swiglu_forward, bench.device.k->swiglu_forward(&bench.device, v[0], v[1], v[2], N, C, C, C, C))
PASS(swiglu_backward, bench.device.k->swiglu_backward(&bench.device, v[0], v[1], v[2], v[3], v[4],
                                                      N, C, C, C, C, C, C))
PASS(embedding_forward, bench.device.k->embedding_forward(&bench.device, v[0], v[1], c->at, N, C))
PASS(grad_norm, bench.device.k->grad_norm(&bench.device, c->few, c->f[0], (size_t)N *(size_t)C, 1,
                                          1, c->scratch))

static void adamw(void *p)
{
    struct pass_call *c = p;
    struct kern_adamw a = {.n = (size_t)c->N * (size_t)c->C,
                           .param = c->f[0],
                           .m = c->f[1],
                           .v = c->f[2],
                           .grad = c->f[3],
                           .scale = c->few,
                           .lr = 1e-4f,
                           .beta1 = 0.9f,
                           .beta2 = 0.999f,
                           .eps = 1e-8f,
                           .bias1 = 0.1f,
                           .bias2 = 0.001f,
                           .data = bench.device.type == DTYPE_F32 ? NULL : c->v[0]};
    bench.device.k->adamw(&bench.device, &a);
}

static void adamw_8bit(void *p)
{
    struct pass_call *c = p;
    size_t n = (size_t)c->N * (size_t)c->C;
    struct kern_adamw_8bit k = {.a = {.n = n,
                                      .param = c->f[0],
                                      .grad = c->f[3],
                                      .scale = c->few,
                                      .lr = 1e-4f,
                                      .beta1 = 0.9f,
                                      .beta2 = 0.999f,
                                      .eps = 1e-8f,
                                      .bias1 = 0.1f,
                                      .bias2 = 0.001f,
                                      .data = bench.device.type == DTYPE_F32 ? NULL : c->v[0]},
                                .m = (uint8_t *)c->f[1],
                                .v = (uint8_t *)c->f[1] + n,
                                .m_max = c->f[2],
                                .v_max = c->f[2] + n / 2};
    bench.device.k->adamw_8bit(&bench.device, &k);
}

/* Bytes that have to move for each element: of the device's type, and fp32. */
static const struct {
    const char *name;
    void (*call)(void *);
    int values, floats;
} passes[] = {
    {"norm forward", norm_forward, 2, 0},
    {"norm backward", norm_backward, 4, 0}, /* dx is added to */
    {"rope", rope, 2, 0},
    {"swiglu forward", swiglu_forward, 3, 0},
    {"swiglu backward", swiglu_backward, 5, 0},
    {"embedding forward", embedding_forward, 2, 0},
    {"grad_norm", grad_norm, 0, 1},
    {"adamw", adamw, 1, 7},
    {"adamw_8bit", adamw_8bit, 1, 4},
};

static struct pass_call make_pass(int32_t N, int32_t C)
{
    struct pass_call c = {.N = N, .C = C};
    size_t n = (size_t)N * (size_t)C;
    for (int i = 0; i < 5; i++) c.v[i] = bench_values(n);
    for (int i = 0; i < 4; i++) c.f[i] = bench_numbers(n, 1, 0.02f);
    c.few = bench_floats((size_t)N);
    c.angles = bench_floats((size_t)N * HEAD_SIZE);
    c.at = bench_ints(N, 7, N);
    c.w = bench_values((size_t)C);
    size_t scratch = bench.device.k->norm_scratch(&bench.device, N, 1, C),
           norm = bench.device.k->grad_norm_scratch(&bench.device, n);
    c.scratch = bench_take(scratch > norm ? scratch : norm);
    bench.device.k->zero(&bench.device, c.f[2], n * sizeof(float)); /* squares */
    bench.device.k->norm_forward(&bench.device, c.v[0], c.few, c.v[2], c.w, N, 1, C, C, C, 1e-5f);
    return c;
}

void bench_passes(void)
{
    struct pass_call c =
        make_pass(bench.small ? 8 : 32768, bench.small ? 256 : 4096); /* 256 MB in bf16 */
    char shape[BENCH_SHAPE];
    snprintf(shape, sizeof shape, "%dx%d", c.N, c.C);
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        double each =
            passes[i].values * (double)dtype_size(bench.device.type) + passes[i].floats * 4.0;
        bench_print_bytes(passes[i].name, shape, bench_median_ms(passes[i].call, &c),
                          each * c.N * c.C);
    }
    bench_give_back();
}
