/* attention.c - the ladder of attention: each engine there is, forward and backward, causal.
 *
 * Heads of 64 and 128; 32 of queries over 8 of keys (as Llama-3) in documents of one length, 1k to
 * 16k, that fill 16384 rows; as many heads of keys as of queries at 8k; and documents of differing
 * lengths end to end, as packing lays them. FLOPs are those of the visible pairs: 4 D forward, 10 D
 * backward. A shape reads documents x length x query heads x key heads x D, or packed x rows x ...
 * What an engine cannot take is left out: another one would answer for it.
 */
#include <stdio.h>

#include "kernels/bench/gpu/bench.h"
#include "kernels/cuda/attention.h"

enum { ROWS = 16384, MOST_DOCUMENTS = 64 };
#define LONGEST_MS 1500 /* a case that would take longer is left out */

static const int32_t packed[] = {5000, 3177, 2100, 1500, 1111, 900,
                                 700,  613,  500,  333,  250,  200}; /* together ROWS */
static const int32_t packed_small[] = {33, 20, 7, 1};

struct documents {
    int32_t length; /* of each; 0: `lengths` */
    const int32_t *lengths;
    int32_t count, H, KV, D;
};

struct attention_call {
    struct kern_attention a;
    struct kern_attention_grad g;
    void *scratch;
};

static void attention_forward(void *p)
{
    struct attention_call *c = p;
    bench.device.k->attention_forward(&bench.device, &c->a, c->scratch);
}

static void attention_backward(void *p)
{
    struct attention_call *c = p;
    bench.device.k->attention_backward(&bench.device, &c->a, &c->g, c->scratch);
}

/* End to end on the device; *pairs: visible ones. */
static void lay_documents(const struct documents *t, struct kern_attention *a, double *pairs)
{
    struct segment s[MOST_DOCUMENTS];
    *pairs = 0;
    for (int32_t i = 0; i < t->count; i++) {
        int32_t n = t->length ? t->length : t->lengths[i];
        s[i] = (struct segment){a->N, n, 0, 0, 0, i};
        a->N += n;
        *pairs += (double)n * (n + 1) / 2;
        if (n > a->longest) a->longest = n;
    }
    size_t bytes = sizeof *s * (size_t)t->count;
    struct segment *there = bench_take(bytes);
    bench.device.k->upload(&bench.device, there, s, bytes);
    a->segments = there;
    a->num_segments = t->count;
}

static struct attention_call make_call(const struct documents *t, double *pairs)
{
    int32_t queries = t->H * t->D, keys = t->KV * t->D;
    struct attention_call c = {.a = {.H = t->H, .KV = t->KV, .D = t->D, .scale = 0.088f},
                               .g = {.lddq = queries, .lddk = keys, .lddv = keys}};
    lay_documents(t, &c.a, pairs);
    size_t q = (size_t)c.a.N * (size_t)queries, kv = (size_t)c.a.N * (size_t)keys;
    c.a.q = bench_values(q), c.a.k = bench_values(kv), c.a.v = bench_values(kv);
    c.a.o = bench_values(q), c.a.lse = bench_floats((size_t)c.a.N * (size_t)t->H);
    c.a.ldq = c.a.ldo = queries, c.a.ldk = c.a.ldv = keys;
    c.g.d_o = bench_values(q), c.g.dq = bench_values(q);
    c.g.dk = bench_values(kv), c.g.dv = bench_values(kv);
    c.scratch = bench_take(bench.device.k->attention_scratch(&bench.device, &c.a));
    return c;
}

/* Returns the backward's milliseconds; 0: left out. */
static double bench_documents(const struct documents *t)
{
    double pairs, ms = 0;
    struct attention_call c = make_call(t, &pairs);
    char shape[BENCH_SHAPE];
    if (t->length)
        snprintf(shape, sizeof shape, "%dx%dx%dx%dx%d", t->count, t->length, t->H, t->KV, t->D);
    else
        snprintf(shape, sizeof shape, "packedx%dx%dx%dx%d", c.a.N, t->H, t->KV, t->D);
    if (bench.device.attention != ATTENTION_CUDNN ||
        cuda_cudnn_attention_fits(&bench.device, &c.a)) {
        pairs *= t->H * t->D;
        bench_print_flops("attention forward", shape, bench_median_ms(attention_forward, &c),
                          4 * pairs);
        ms = bench_median_ms(attention_backward, &c);
        bench_print_flops("attention backward", shape, ms, 10 * pairs);
    }
    bench_give_back();
    return ms;
}

static void bench_size(int32_t D)
{
    struct documents even = {.H = 32, .KV = 8, .D = D}, mixed = even;
    double last = 0;
    if (bench.small) {
        even = (struct documents){.length = 33, .count = 2, .H = 2, .KV = 1, .D = D};
        (void)bench_documents(&even);
        mixed = even, mixed.length = 0, mixed.lengths = packed_small;
        mixed.count = sizeof packed_small / sizeof *packed_small;
        (void)bench_documents(&mixed);
        return;
    }
    for (int32_t n = bench.one_length ? 4096 : 1024; n <= (bench.one_length ? 4096 : ROWS);
         n *= 2) {
        if (2 * last > LONGEST_MS) break;
        even.length = n, even.count = ROWS / n;
        last = bench_documents(&even);
    }
    if (bench.one_length) return;
    even.length = 8192, even.count = ROWS / 8192, even.KV = even.H;
    (void)bench_documents(&even);
    mixed.lengths = packed, mixed.count = sizeof packed / sizeof *packed;
    (void)bench_documents(&mixed);
}

static void bench_engine(enum attention_engine wish)
{
    if (bench.engines && !(bench.engines >> wish & 1)) return;
    for (int32_t D = 64; D <= 128; D *= 2) {
        struct err e = {0};
        if (device_set_attention(&bench.device, wish, D, &e)) {
            fprintf(stderr, "bench_gpu: heads of %d: %s\n", D, e.message);
            continue;
        }
        bench.engine = bench.device.k->attention_engine(&bench.device, D);
        bench_size(D);
    }
    bench.device.attention = ATTENTION_AUTO;
    bench.engine = "";
}

void bench_attention(void)
{
    bench_engine(ATTENTION_HOPPER);
    bench_engine(ATTENTION_FLASH);
    bench_engine(ATTENTION_CUDNN);
    bench_engine(ATTENTION_PLAIN);
}
