/* decode.c - one token of an answer: attention of one new row behind cached ones, whose bytes are
 * those of K and V, and the draw of a token from its logits. */
#include <stdio.h>

#include "kernels/bench/gpu/bench.h"

struct decode_call {
    struct kern_attention a;
    void *scratch;
};

static void decode(void *p)
{
    struct decode_call *c = p;
    bench.device.k->attention_forward(&bench.device, &c->a, c->scratch);
}

/* One row behind rows - 1 cached ones: forward alone. */
static void bench_decode_at(int32_t rows, int32_t H, int32_t KV, int32_t D)
{
    size_t q = (size_t)(H * D), kv = (size_t)rows * (size_t)(KV * D);
    struct segment s = {rows - 1, 1, rows - 1, 0, rows - 1, 0}, *on_device = bench_take(sizeof s);
    struct decode_call c = {
        .a = {.N = 1, .H = H, .KV = KV, .D = D, .scale = 0.088f, .segments = on_device}};
    char shape[BENCH_SHAPE];
    bench.device.k->upload(&bench.device, on_device, &s, sizeof s);
    c.a.num_segments = 1, c.a.first_row = rows - 1;
    c.a.q = bench_values(q), c.a.k = bench_values(kv), c.a.v = bench_values(kv),
    c.a.o = bench_values(q);
    c.a.ldq = c.a.ldo = H * D, c.a.ldk = c.a.ldv = KV * D;
    c.scratch = bench_take(bench.device.k->attention_scratch(&bench.device, &c.a));
    snprintf(shape, sizeof shape, "1x%dx%dx%dx%d", rows, H, KV, D);
    bench_print_bytes("decoding attention", shape, bench_median_ms(decode, &c),
                      2.0 * (double)kv * (double)dtype_size(bench.device.type));
    bench_give_back();
}

struct sample_call {
    int32_t *id, V;
    void *logits;
    struct kern_sample how;
};

static void sample(void *p)
{
    struct sample_call *c = p;
    bench.device.k->sample(&bench.device, c->id, c->logits, c->V, &c->how);
}

/* The largest of a row of logits, and a draw with all there is. */
static void bench_sampling(void)
{
    struct sample_call c = {.V = bench.small ? 301 : 128256, .how = {.top_p = 1}};
    double bytes = (double)c.V * (double)dtype_size(bench.device.type);
    char shape[BENCH_SHAPE];
    c.logits = bench_values((size_t)c.V), c.id = bench_take(sizeof *c.id);
    snprintf(shape, sizeof shape, "%d", c.V);
    bench_print_bytes("sampling, greedy", shape, bench_median_ms(sample, &c), bytes);
    c.how = (struct kern_sample){.scale = 1.4427f, .top_p = 0.9, .top_k = 100, .word = 1u << 31};
    bench_print_bytes("sampling, top_k and top_p", shape, bench_median_ms(sample, &c), bytes);
    bench_give_back();
}

void bench_decode(void)
{
    int32_t first = bench.small ? 200 : 2048, last = bench.small ? 200 : 131072;
    bench_sampling();
    for (int32_t D = 64; D <= 128; D *= 2)
        for (int32_t rows = first; rows <= last; rows *= 4)
            bench_decode_at(rows, bench.small ? 2 : 32, bench.small ? 1 : 8, D);
}
