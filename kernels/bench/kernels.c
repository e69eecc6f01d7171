/* kernels.c - times of the vtable's entries beside what the device sustains.
 *
 *     bench_kernels [attention] [linear] [lora] [head] [rows]      no name: all
 *
 * Threads as OMP_NUM_THREADS says. Each figure is the best of several calls. Products are held
 * against the GEMM rate, passes against the copy bandwidth, both measured at the start.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kernels/kernels.h"

static struct device dev;
static double peak, copy; /* GF/s, GB/s */

static void *memory(size_t bytes)
{
    struct err e = {0};
    void *p;
    if (!dev.k->alloc(&dev, bytes, &p, &e)) return p;
    fprintf(stderr, "%s\n", e.message);
    exit(1);
}

static float *numbers(size_t n)
{
    float *p = memory(n * sizeof *p);
    rng_fill_uniform(rng_key(1, RNG_INIT, n), p, (int64_t)n, -1, 1);
    return p;
}

static void drop(void *p, size_t n) { dev.k->release(&dev, p, n * sizeof(float)); }

/* Best seconds of a call over about half a second. */
static double best(void (*call)(void *), void *with)
{
    double least = 1e30, begin = clock_seconds();
    for (int i = 0; i < 3 || clock_seconds() - begin < 0.5; i++) {
        double t = clock_seconds();
        call(with);
        t = clock_seconds() - t;
        if (t < least) least = t;
    }
    return least;
}

static void print_rate(const char *what, double seconds, double flops)
{
    double rate = flops / seconds / 1e9;
    printf("%-44s %9.3f ms %7.1f GF/s %4.0f %%\n", what, seconds * 1e3, rate, 100 * rate / peak);
}

static void print_bytes(const char *what, double seconds, double floats)
{
    double rate = floats * 4 / seconds / 1e9;
    printf("%-44s %9.3f ms %7.1f GB/s %4.0f %%\n", what, seconds * 1e3, rate, 100 * rate / copy);
}

/* --- attention: N tokens in documents of `length` (at most 64) --- */

struct attention_call {
    struct kern_attention a;
    struct kern_attention_grad g;
    void *scratch;
};

static void attention_forward(void *p)
{
    struct attention_call *c = p;
    dev.k->attention_forward(&dev, &c->a, c->scratch);
}

static void attention_backward(void *p)
{
    struct attention_call *c = p;
    dev.k->attention_backward(&dev, &c->a, &c->g, c->scratch);
}

static void bench_attention_at(int32_t N, int32_t length, int32_t H, int32_t KV, int32_t D)
{
    size_t q = (size_t)N * (size_t)(H * D), kv = (size_t)N * (size_t)(KV * D), h = (size_t)N * H;
    struct segment s[64];
    struct attention_call c = {.a = {N, H, KV, D, 0, 0.125f, s, N / length, 0, NULL, NULL, NULL,
                                     H * D, KV * D, KV * D, H * D, NULL, NULL},
                               .g = {NULL, NULL, NULL, NULL, H * D, KV * D, KV * D}};
    float *b[] = {numbers(q), numbers(kv), numbers(kv), numbers(q), numbers(h),
                  numbers(q), numbers(q),  numbers(kv), numbers(kv)};
    size_t size[] = {q, kv, kv, q, h, q, q, kv, kv}, scratch, total = 0;
    for (int32_t i = 0; i < N / length; i++)
        s[i] = (struct segment){i * length, length, 0, 0, 0, i};
    c.a.q = b[0], c.a.k = b[1], c.a.v = b[2], c.a.o = b[3], c.a.lse = b[4];
    c.g.d_o = b[5], c.g.dq = b[6], c.g.dk = b[7], c.g.dv = b[8];
    scratch = dev.k->attention_scratch(&dev, &c.a);
    c.scratch = memory(scratch);
    double forward = best(attention_forward, &c), backward = best(attention_backward, &c);
    double pairs = (double)N * (length + 1) / 2 * H * D;
    for (int i = 0; i < 9; i++) total += size[i] * sizeof(float), drop(b[i], size[i]);
    drop(c.scratch, scratch / sizeof(float));
    printf("%6d %6d %3d %3d %3d %10.1f %7.1f %10.1f %7.1f %9.1f %9.1f\n", N, length, H, KV, D,
           forward * 1e3, 4 * pairs / forward / 1e9, backward * 1e3, 10 * pairs / backward / 1e9,
           (double)scratch / 1024, (double)total / 1048576);
}

static void bench_attention(void)
{
    static const int32_t heads[][3] = {{6, 6, 64}, {6, 2, 64}, {32, 8, 128}};
    printf(
        "\nattention, causal documents; GF/s of the visible pairs, 4 D forward, 10 D backward\n"
        "     N length   H  KV   D forward ms    GF/s backward ms   GF/s scratch K  tensors M\n");
    for (int i = 0; i < 3; i++)
        for (int32_t N = 1024; N <= (i < 2 ? 16384 : 2048); N *= 2)
            bench_attention_at(N, N, heads[i][0], heads[i][1], heads[i][2]);
    bench_attention_at(2048, 128, 6, 6, 64);
    bench_attention_at(2048, 512, 6, 6, 64);
}

/* --- linear --- */

struct linear_call {
    int32_t N, I, O;
    float *y, *x, *w;
};

static void linear_forward(void *p)
{
    struct linear_call *c = p;
    dev.k->linear_forward(&dev, c->y, c->x, c->w, NULL, NULL, c->N, c->I, c->O, c->O, c->I, 0);
}

static void linear_input(void *p)
{
    struct linear_call *c = p;
    dev.k->linear_backward_input(&dev, c->x, c->y, c->w, c->N, c->I, c->O, c->I, c->O, 0);
}

static void linear_weight(void *p)
{
    struct linear_call *c = p;
    dev.k->linear_backward_weight(&dev, c->w, c->y, c->x, c->N, c->I, c->O, c->O, c->I);
}

static void bench_linear(void)
{
    static const int32_t shapes[][3] = {{2048, 384, 1152}, {2048, 384, 384},  {2048, 384, 2048},
                                        {2048, 1024, 384}, {2047, 384, 1024}, {1024, 2048, 2048},
                                        {1, 384, 1024},    {1, 2048, 5632},   {8, 2048, 5632}};
    static const struct {
        const char *name;
        void (*call)(void *);
    } entries[] = {{"y", linear_forward}, {"dx", linear_input}, {"dw", linear_weight}};
    printf("\nlinear N x I x O\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct linear_call c = {.N = shapes[i][0], .I = shapes[i][1], .O = shapes[i][2]};
        size_t y = (size_t)c.N * c.O, x = (size_t)c.N * c.I, w = (size_t)c.O * c.I;
        c.y = numbers(y), c.x = numbers(x), c.w = numbers(w);
        for (int j = 0; j < 3; j++) {
            char text[80];
            snprintf(text, sizeof text, "  %-2s %d x %d x %d", entries[j].name, c.N, c.I, c.O);
            print_rate(text, best(entries[j].call, &c), 2.0 * (double)c.N * c.I * c.O);
        }
        drop(c.y, y), drop(c.x, x), drop(c.w, w);
    }
}

/* --- LoRA --- */

struct lora_call {
    struct kern_lora l;
    float *y, *dx, *da;
    void *scratch;
};

static void lora_forward(void *p)
{
    struct lora_call *c = p;
    dev.k->lora_forward(&dev, c->y, &c->l, c->scratch);
}

static void lora_backward(void *p)
{
    struct lora_call *c = p;
    dev.k->lora_backward(&dev, c->dx, c->da, c->y, &c->l, c->l.I, 1, c->scratch);
}

/* Rate of the bytes that have to move (dropout does not count) and of the arithmetic. */
static void print_lora(const char *way, int32_t N, int32_t I, int32_t out, int32_t parts,
                       int32_t rank, float p, double seconds, double floats)
{
    char text[80];
    double flops = 2.0 * N * rank * parts * ((double)I + out) * (way[0] == 'b' ? 2 : 1);
    snprintf(text, sizeof text, "  %-8s %d x %d x %d*%d r %d p %g", way, N, I, parts, out, rank, p);
    printf("%-44s %9.3f ms %7.1f GB/s %4.0f %% %7.1f GF/s\n", text, seconds * 1e3,
           floats * 4 / seconds / 1e9, 100 * floats * 4 / seconds / 1e9 / copy,
           flops / seconds / 1e9);
}

static void bench_lora_at(int32_t N, int32_t I, int32_t out, int32_t parts, int32_t rank, float p)
{
    int32_t position[4096], document[4096] = {0}, R = rank * parts, O = out * parts;
    size_t x = (size_t)N * I, y = (size_t)N * O, a = (size_t)R * I, b = (size_t)out * rank;
    struct kern_lora_part part[3];
    struct lora_call c = {.l = {N,
                                I,
                                R,
                                I,
                                O,
                                numbers(x),
                                numbers(a),
                                numbers((size_t)N * R),
                                part,
                                parts,
                                {p, rng_key(1, RNG_DROPOUT, 1), document, position}},
                          .y = numbers(y),
                          .dx = numbers(x),
                          .da = numbers(a)};
    for (int32_t i = 0; i < N; i++) position[i] = i;
    for (int32_t i = 0; i < parts; i++)
        part[i] = (struct kern_lora_part){i * out, out,        i * rank,   rank,
                                          1,       numbers(b), numbers(b), (uint32_t)i};
    c.scratch = memory(dev.k->lora_scratch(&dev, &c.l));
    /* x, y read and written; dy, x, dx read and written */
    print_lora("forward", N, I, out, parts, rank, p, best(lora_forward, &c),
               (double)N * (I + 2.0 * O));
    print_lora("backward", N, I, out, parts, rank, p, best(lora_backward, &c),
               (double)N * (O + 3.0 * I));
}

static void bench_lora(void)
{
    printf("\nLoRA N x I x parts*out; y, dy, x and dx once, beside the copy bandwidth\n");
    bench_lora_at(2048, 384, 384, 3, 8, 0);
    bench_lora_at(2048, 384, 1024, 2, 8, 0);
    bench_lora_at(2048, 1024, 384, 1, 8, 0);
    bench_lora_at(2048, 384, 384, 1, 8, 0);
    for (int32_t rank = 8; rank <= 64; rank *= 2) bench_lora_at(2048, 2048, 2048, 3, rank, 0);
    bench_lora_at(2048, 384, 384, 3, 8, 0.05f);
    bench_lora_at(2048, 2048, 2048, 3, 16, 0.05f);
}

/* --- head --- */

struct head_call {
    struct kern_head h;
    void *scratch;
};

static void head_forward(void *p)
{
    struct head_call *c = p;
    dev.k->head_forward(&dev, &c->h, c->scratch);
}

static void bench_head(void)
{
    enum { S = 2048, C = 384, V = 32000 };
    static int32_t row[S], target[S];
    static float stat[4][S];
    static uint8_t hit[S];
    struct head_call c = {.h = {.S = S,
                                .C = C,
                                .V = V,
                                .ldx = C,
                                .row = row,
                                .target = target,
                                .logp = stat[0],
                                .lse = stat[1],
                                .mean_logit = stat[2],
                                .hit = hit}};
    for (int32_t i = 0; i < S; i++) row[i] = i, target[i] = i * 7 % V;
    c.h.x = numbers((size_t)S * C), c.h.w = numbers((size_t)V * C);
    c.scratch = memory(dev.k->head_scratch(&dev, &c.h));
    printf("\nhead, S %d C %d V %d, scratch %.1f MB\n", S, C, V,
           (double)dev.k->head_scratch(&dev, &c.h) / 1048576);
    print_rate("  log-probabilities", best(head_forward, &c), 2.0 * S * C * V);
    c.h.dx = numbers((size_t)S * C);
    print_rate("  and dx", best(head_forward, &c), 4.0 * S * C * V);
    c.h.dlogp = stat[3], c.h.dw = numbers((size_t)V * C);
    print_rate("  and dx and dw", best(head_forward, &c), 6.0 * S * C * V);
}

/* --- passes over rows --- */

enum { ROWS = 2048, WIDTH = 2048 };

struct rows_call {
    float *b[6];
    int32_t *at;
    void *scratch;
};

#define ROWS_CALL(name, call)    \
    static void name(void *p)    \
    {                            \
        struct rows_call *r = p; \
        float **b = r->b;        \
        call;                    \
    }

ROWS_CALL(copy_rows, dev.k->copy_rows(&dev, b[0], WIDTH * 4, b[1], WIDTH * 4, ROWS, WIDTH * 4))
ROWS_CALL(norm_forward,
          dev.k->norm_forward(&dev, b[0], b[5], b[1], b[2], ROWS, 1, WIDTH, WIDTH, WIDTH, 1e-5f))
ROWS_CALL(norm_backward, dev.k->norm_backward(&dev, b[0], b[4], b[1], b[3], b[2], b[5], ROWS, 1,
                                              WIDTH, WIDTH, WIDTH, WIDTH, 0, r->scratch))
ROWS_CALL(rope, dev.k->rope(&dev, b[0], b[2], r->at, ROWS, WIDTH / 64, 64, WIDTH, 0))
ROWS_CALL(swiglu_forward,
          dev.k->swiglu_forward(&dev, b[0], b[1], b[2], ROWS, WIDTH, WIDTH, WIDTH, WIDTH))
ROWS_CALL(swiglu_backward, dev.k->swiglu_backward(&dev, b[0], b[1], b[2], b[3], b[4], ROWS, WIDTH,
                                                  WIDTH, WIDTH, WIDTH, WIDTH, WIDTH))
ROWS_CALL(embedding_backward, dev.k->embedding_backward(&dev, b[0], b[1], r->at, ROWS, WIDTH))
ROWS_CALL(grad_norm, dev.k->grad_norm(&dev, b[5], b[0], (size_t)ROWS *WIDTH, 1, 1, r->scratch))

static void adamw(void *p)
{
    struct rows_call *r = p;
    struct kern_adamw a = {(size_t)ROWS * WIDTH,
                           r->b[0],
                           r->b[1],
                           r->b[2],
                           r->b[3],
                           r->b[5],
                           1e-3f,
                           0.9f,
                           0.999f,
                           1e-8f,
                           0.1f,
                           0.1f,
                           0.001f};
    dev.k->adamw(&dev, &a);
}

static void adamw_8bit(void *p)
{
    struct rows_call *r = p;
    size_t n = (size_t)ROWS * WIDTH;
    struct kern_adamw_8bit k = {.a = {.n = n,
                                      .param = r->b[0],
                                      .grad = r->b[3],
                                      .scale = r->b[5],
                                      .lr = 1e-3f,
                                      .beta1 = 0.9f,
                                      .beta2 = 0.999f,
                                      .eps = 1e-8f,
                                      .weight_decay = 0.1f,
                                      .bias1 = 0.1f,
                                      .bias2 = 0.001f},
                                .m = (uint8_t *)r->b[1],
                                .v = (uint8_t *)r->b[1] + n,
                                .m_max = r->b[2],
                                .v_max = r->b[2] + n / 2};
    dev.k->adamw_8bit(&dev, &k);
}

/* floats moved for each of the ROWS * WIDTH */
static const struct {
    const char *name;
    void (*call)(void *);
    double floats;
} row_entries[] = {
    {"  copy", copy_rows, 2},
    {"  norm forward", norm_forward, 2},
    {"  norm backward", norm_backward, 3},
    {"  rope", rope, 2},
    {"  swiglu forward", swiglu_forward, 3},
    {"  swiglu backward", swiglu_backward, 5},
    {"  embedding backward", embedding_backward, 3},
    {"  grad_norm", grad_norm, 1},
    {"  adamw", adamw, 7},
    {"  adamw_8bit", adamw_8bit, 4},
};

static struct rows_call make_rows(void)
{
    struct rows_call r;
    for (int i = 0; i < 6; i++) r.b[i] = numbers((size_t)ROWS * WIDTH);
    for (size_t i = 0; i < (size_t)ROWS * WIDTH; i++) r.b[2][i] = r.b[2][i] * r.b[2][i];
    r.at = memory(ROWS * sizeof *r.at);
    r.scratch = memory(16 << 20);
    for (int32_t i = 0; i < ROWS; i++) r.at[i] = i;
    return r;
}

static void bench_rows(void)
{
    struct rows_call r = make_rows();
    printf("\npasses over %d x %d floats (16 MB each)\n", ROWS, WIDTH);
    for (size_t i = 0; i < sizeof row_entries / sizeof *row_entries; i++)
        print_bytes(row_entries[i].name, best(row_entries[i].call, &r),
                    row_entries[i].floats * ROWS * WIDTH);
}

/* What all threads sustain: the better of a copy and a norm, which reads and writes as much. */
static double copy_rate(void)
{
    struct rows_call r = make_rows();
    double one = best(copy_rows, &r), all = best(norm_forward, &r);
    return 2.0 * ROWS * WIDTH * sizeof(float) / (one < all ? one : all) / 1e9;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"attention", bench_attention},
                 {"linear", bench_linear},
                 {"lora", bench_lora},
                 {"head", bench_head},
                 {"rows", bench_rows}};
    struct err e = {0};
    if (device_open(&dev, "cpu", 0, &e)) return fprintf(stderr, "%s\n", e.message), 1;
    peak = device_gemm_peak(&dev, 1) / 1e9;
    copy = copy_rate();
    printf("%d threads, GEMM %.1f GF/s, copy %.1f GB/s\n", dev.threads, peak, copy);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int wanted = argc == 1;
        for (int j = 1; j < argc; j++) wanted |= !strcmp(argv[j], parts[i].name);
        if (wanted) parts[i].run();
    }
    device_close(&dev);
    return 0;
}
