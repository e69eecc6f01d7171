/* head.c - the head with its loss, over frozen and over trained weights. */
#include <stdio.h>

#include "kernels/bench/gpu/bench.h"

struct head_call {
    struct kern_head h;
    void *scratch;
};

static void head_forward(void *p)
{
    struct head_call *c = p;
    bench.device.k->head_forward(&bench.device, &c->h, c->scratch);
}

void bench_head(void)
{
    int32_t S = bench.small ? 16 : 8192, C = bench.small ? 32 : 4096,
            V = bench.small ? 301 : 128256;
    struct head_call c = {.h = {.S = S, .C = C, .V = V, .ldx = C}};
    double flops = 2.0 * S * C * V;
    char shape[BENCH_SHAPE];
    c.h.x = bench_values((size_t)S * (size_t)C);
    c.h.w = bench_numbers((size_t)V * (size_t)C, 0, 0.02f);
    c.h.row = bench_ints(S, 1, S), c.h.target = bench_ints(S, 7, V);
    c.h.logp = bench_floats((size_t)S), c.h.lse = bench_floats((size_t)S),
    c.h.mean_logit = bench_floats((size_t)S);
    c.h.hit = bench_take((size_t)S);
    c.h.dx = bench_values((size_t)S * (size_t)C);
    c.scratch = bench_take(bench.device.k->head_scratch(&bench.device, &c.h));
    snprintf(shape, sizeof shape, "%dx%dx%d", S, C, V);
    bench_print_flops("head frozen", shape, bench_median_ms(head_forward, &c), 2 * flops);
    c.h.dlogp = bench_floats((size_t)S), c.h.dw = bench_floats((size_t)V * (size_t)C);
    c.scratch = bench_take(bench.device.k->head_scratch(&bench.device, &c.h));
    bench_print_flops("head trained", shape, bench_median_ms(head_forward, &c), 3 * flops);
    printf("{\"entry\": \"head scratch\", \"shape\": \"%s\", \"bytes\": %zu}\n", shape,
           bench.device.k->head_scratch(&bench.device, &c.h));
    bench_give_back();
}
