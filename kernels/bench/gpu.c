/* gpu.c - times of the vtable's entries on a GPU, beside what it sustains, a line of JSON each.
 *
 *     bench_gpu [copy] [gemm] [passes] [attention] [decode] [head] [small]   no part: all of them
 *
 * Timed by CUDA events in the backend's own stream: medians of calls behind a warm-up, on random
 * numbers; `small` takes toy shapes, for the emulator. Passes take tensors far larger than a cache.
 * A line has the entry, its shape, milliseconds, the FLOPs or bytes that it cannot do without, and
 * `share`: of the rate that the largest product or the copy reached in this same run. Attention's
 * FLOPs are those of the visible pairs: 4 D forward, 10 D backward. Decoding is one new row behind
 * so many cached ones, and its bytes are those of K and V.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/cuda/cuda.h"

enum { WARM_UP = 2, MOST_CALLS = 20, MOST_BUFFERS = 16 };
#define ENOUGH_MS 150.0f /* of calls: more add nothing */
#define LONGEST_MS 1500  /* a case that would take longer is left out */

static struct device dev;
static int small;
static const char *engine = "";     /* of attention */
static double copy_rate, gemm_rate; /* bytes and FLOPs a second */

static void fail(const char *what)
{
    fprintf(stderr, "bench_gpu: %s\n", what);
    exit(1);
}

static void sync(void)
{
    struct err e = {0};
    if (dev.k->sync(&dev, &e)) fail(e.message);
}

/* --- memory: what a case takes is given back behind it --- */

static struct {
    void *p;
    size_t bytes;
} taken[MOST_BUFFERS];
static int num_taken;

static void *take(size_t bytes)
{
    struct err e = {0};
    if (num_taken == MOST_BUFFERS || dev.k->alloc(&dev, bytes, &taken[num_taken].p, &e))
        fail(e.message);
    taken[num_taken].bytes = bytes;
    return taken[num_taken++].p;
}

static void give_back(void)
{
    sync();
    while (num_taken--) dev.k->release(&dev, taken[num_taken].p, taken[num_taken].bytes);
    num_taken = 0;
}

/* n random elements, fp32 or of the device's type */
static void *numbers(size_t n, int floats, float std)
{
    void *p = take(n * (floats ? sizeof(float) : dtype_size(dev.type)));
    struct rng_key key = rng_key(1, RNG_INIT, (uint64_t)num_taken);
    dev.k->fill_normal(&dev, p, floats, n, key, 0, std);
    return p;
}

static void *values(size_t n) { return numbers(n, 0, 1); }
static void *floats(size_t n) { return numbers(n, 1, 1); }

static void *ints(int32_t n, int32_t step, int32_t below)
{
    int32_t *host = mem_calloc((size_t)n, sizeof *host);
    void *p = take((size_t)n * sizeof *host);
    if (!host) fail("no memory");
    for (int32_t i = 0; i < n; i++) host[i] = (int32_t)((int64_t)i * step % below);
    dev.k->upload(&dev, p, host, (size_t)n * sizeof *host);
    mem_free(host);
    return p;
}

/* --- time --- */

static cudaEvent_t begin_event, end_event;

static float one_call(void (*call)(void *), void *with)
{
    float ms = 0;
    cudaEventRecord(begin_event, cuda_state(&dev)->compute);
    call(with);
    cudaEventRecord(end_event, cuda_state(&dev)->compute);
    cudaEventSynchronize(end_event);
    cudaEventElapsedTime(&ms, begin_event, end_event);
    return ms;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Median milliseconds of a call. A slow one is called less often, down to once. */
static double median_ms(void (*call)(void *), void *with)
{
    float ms[MOST_CALLS], sum = one_call(call, with);
    int n = 0, most = small ? 1 : MOST_CALLS;
    ms[n++] = sum;
    if (sum < ENOUGH_MS && !small) {
        for (int i = 1; i < WARM_UP; i++) (void)one_call(call, with);
        for (n = 0, sum = 0; n < most && (n < 3 || sum < ENOUGH_MS); n++)
            sum += ms[n] = one_call(call, with);
    }
    sync();
    qsort(ms, (size_t)n, sizeof *ms, by_size);
    return (double)ms[n / 2];
}

/* --- lines --- */

static double print_flops(const char *entry, const char *shape, double ms, double flops)
{
    double rate = flops / ms * 1e3;
    printf("{\"entry\": \"%s\", \"shape\": \"%s\", \"ms\": %.6g, \"flops\": %.6g, "
           "\"tflops\": %.5g, \"share\": %.4g, \"engine\": \"%s\"}\n",
           entry, shape, ms, flops, rate / 1e12, gemm_rate > 0 ? rate / gemm_rate : 1, engine);
    fflush(stdout);
    return rate;
}

static double print_bytes(const char *entry, const char *shape, double ms, double bytes)
{
    double rate = bytes / ms * 1e3;
    printf("{\"entry\": \"%s\", \"shape\": \"%s\", \"ms\": %.6g, \"bytes\": %.6g, "
           "\"gb_per_second\": %.5g, \"share\": %.4g}\n",
           entry, shape, ms, bytes, rate / 1e9, copy_rate > 0 ? rate / copy_rate : 1);
    fflush(stdout);
    return rate;
}

/* --- copy --- */

struct copy_call {
    void *to, *from;
    int32_t rows;
};

enum { COPY_ROW = 1 << 16 };

static void copy(void *p)
{
    struct copy_call *c = p;
    dev.k->copy_rows(&dev, c->to, COPY_ROW, c->from, COPY_ROW, c->rows, COPY_ROW);
}

static void bench_copy(void)
{
    struct copy_call c = {.rows = small ? 4 : 1 << 15}; /* 2 GB */
    size_t bytes = (size_t)c.rows * COPY_ROW;
    char shape[64];
    c.to = take(bytes), c.from = values(bytes / dtype_size(dev.type));
    snprintf(shape, sizeof shape, "%zu MB", bytes >> 20);
    copy_rate = print_bytes("copy", shape, median_ms(copy, &c), 2 * (double)bytes);
    give_back();
}

/* --- products --- */

struct product_call {
    int32_t N, I, O;
    void *y, *x, *w;
    float *dw;
};

static void product_forward(void *p)
{
    struct product_call *c = p;
    dev.k->linear_forward(&dev, c->y, c->x, c->w, NULL, NULL, c->N, c->I, c->O, c->O, c->I, 0);
}

static void product_input(void *p)
{
    struct product_call *c = p;
    dev.k->linear_backward_input(&dev, c->x, c->y, c->w, c->N, c->I, c->O, c->I, c->O, 0);
}

static void product_weight(void *p)
{
    struct product_call *c = p;
    dev.k->linear_backward_weight(&dev, c->dw, c->y, c->x, c->N, c->I, c->O, c->O, c->I);
}

static void bench_product(int32_t N, int32_t I, int32_t O, int largest)
{
    struct product_call c = {.N = N, .I = I, .O = O};
    double flops = 2.0 * N * I * O;
    char shape[64];
    c.y = values((size_t)N * (size_t)O), c.x = values((size_t)N * (size_t)I);
    c.w = values((size_t)O * (size_t)I), c.dw = floats((size_t)O * (size_t)I);
    snprintf(shape, sizeof shape, "%dx%dx%d", N, I, O);
    double rate = print_flops("linear forward", shape, median_ms(product_forward, &c), flops);
    if (largest) {
        gemm_rate = rate;
    } else {
        print_flops("linear by input", shape, median_ms(product_input, &c), flops);
        print_flops("linear by weight", shape, median_ms(product_weight, &c), flops);
    }
    give_back();
}

/* The largest first: the others' shares are of it. The rest are an 8B Llama-3's at 4096 rows. */
static void bench_gemm(void)
{
    static const int32_t shapes[][3] = {
        {4096, 4096, 6144}, {4096, 4096, 4096}, {4096, 4096, 28672}, {4096, 14336, 4096}};
    if (small) {
        bench_product(64, 32, 32, 1);
        bench_product(33, 40, 24, 0);
        return;
    }
    bench_product(8192, 8192, 8192, 1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        bench_product(shapes[i][0], shapes[i][1], shapes[i][2], 0);
}

/* --- passes over rows --- */

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

PASS(norm_forward, dev.k->norm_forward(&dev, v[0], c->few, v[1], c->w, N, 1, C, C, C, 1e-5f))
PASS(norm_backward, dev.k->norm_backward(&dev, v[0], NULL, v[1], v[2], c->w, c->few, N, 1, C, C, C,
                                         C, 1, c->scratch))
PASS(rope, dev.k->rope(&dev, v[0], c->angles, c->at, N, C / HEAD_SIZE, HEAD_SIZE, C, 0))
PASS(swiglu_forward, dev.k->swiglu_forward(&dev, v[0], v[1], v[2], N, C, C, C, C))
PASS(swiglu_backward,
     dev.k->swiglu_backward(&dev, v[0], v[1], v[2], v[3], v[4], N, C, C, C, C, C, C))
PASS(embedding_forward, dev.k->embedding_forward(&dev, v[0], v[1], c->at, N, C))
PASS(grad_norm, dev.k->grad_norm(&dev, c->few, c->f[0], (size_t)N *(size_t)C, 1, 1, c->scratch))

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
                           .data = dev.type == DTYPE_F32 ? NULL : c->v[0]};
    dev.k->adamw(&dev, &a);
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
                                      .data = dev.type == DTYPE_F32 ? NULL : c->v[0]},
                                .m = (uint8_t *)c->f[1],
                                .v = (uint8_t *)c->f[1] + n,
                                .m_max = c->f[2],
                                .v_max = c->f[2] + n / 2};
    dev.k->adamw_8bit(&dev, &k);
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
    for (int i = 0; i < 5; i++) c.v[i] = values(n);
    for (int i = 0; i < 4; i++) c.f[i] = numbers(n, 1, 0.02f);
    c.few = floats((size_t)N);
    c.angles = floats((size_t)N * HEAD_SIZE);
    c.at = ints(N, 7, N);
    c.w = values((size_t)C);
    size_t scratch = dev.k->norm_scratch(&dev, N, 1, C), norm = dev.k->grad_norm_scratch(&dev, n);
    c.scratch = take(scratch > norm ? scratch : norm);
    dev.k->zero(&dev, c.f[2], n * sizeof(float)); /* squares */
    dev.k->norm_forward(&dev, c.v[0], c.few, c.v[2], c.w, N, 1, C, C, C, 1e-5f);
    return c;
}

static void bench_passes(void)
{
    struct pass_call c = make_pass(small ? 8 : 32768, small ? 256 : 4096); /* 256 MB in bf16 */
    char shape[64];
    snprintf(shape, sizeof shape, "%dx%d", c.N, c.C);
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        double each = passes[i].values * (double)dtype_size(dev.type) + passes[i].floats * 4.0;
        print_bytes(passes[i].name, shape, median_ms(passes[i].call, &c), each * c.N * c.C);
    }
    give_back();
}

/* --- attention --- */

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

/* `documents` of `length`, end to end. */
static struct attention_call make_attention(int32_t length, int32_t documents, int32_t H,
                                            int32_t KV, int32_t D)
{
    int32_t N = length * documents;
    size_t q = (size_t)N * (size_t)(H * D), kv = (size_t)N * (size_t)(KV * D);
    struct segment s[64], *on_device = take(sizeof s);
    struct attention_call c = {
        .a = {.N = N, .H = H, .KV = KV, .D = D, .scale = 0.088f, .segments = on_device},
        .g = {.lddq = H * D, .lddk = KV * D, .lddv = KV * D}};
    for (int32_t i = 0; i < documents; i++) s[i] = (struct segment){i * length, length, 0, 0, 0, i};
    dev.k->upload(&dev, on_device, s, sizeof *s * (size_t)documents);
    c.a.num_segments = documents, c.a.longest = length;
    c.a.q = values(q), c.a.k = values(kv), c.a.v = values(kv), c.a.o = values(q);
    c.a.lse = floats((size_t)N * (size_t)H);
    c.a.ldq = c.a.ldo = H * D, c.a.ldk = c.a.ldv = KV * D;
    c.g.d_o = values(q), c.g.dq = values(q), c.g.dk = values(kv), c.g.dv = values(kv);
    c.scratch = take(dev.k->attention_scratch(&dev, &c.a));
    return c;
}

/* Rows at least `rows`, in documents of `length`; returns the backward's milliseconds. */
static double bench_attention_at(int32_t length, int32_t rows, int32_t H, int32_t KV, int32_t D)
{
    int32_t documents = rows > length ? rows / length : 1;
    struct attention_call c = make_attention(length, documents, H, KV, D);
    double pairs = (double)length * (length + 1) / 2 * documents * H * D;
    char shape[64];
    snprintf(shape, sizeof shape, "%dx%dx%dx%dx%d", documents, length, H, KV, D);
    print_flops("attention forward", shape, median_ms(attention_forward, &c), 4 * pairs);
    double ms = median_ms(attention_backward, &c);
    print_flops("attention backward", shape, ms, 10 * pairs);
    give_back();
    return ms;
}

/* Each engine there is, by its own name. */
static void bench_engine(enum attention_engine wish)
{
    for (int32_t D = 64; D <= 128; D *= 2) {
        struct err e = {0};
        double last = 0;
        if (device_set_attention(&dev, wish, D, &e)) continue;
        engine = dev.k->attention_engine(&dev, D);
        if (small) {
            (void)bench_attention_at(33, 66, 2, 1, D);
            continue;
        }
        for (int32_t N = 1024; N <= 32768; N *= 2) {
            double growth = N > 16384 ? 4 : 2; /* rows are the same up to there */
            if (last * growth > LONGEST_MS) break;
            if (wish == ATTENTION_CUDNN && N > 8192) break; /* others take what is longer */
            last = bench_attention_at(N, 16384, 32, 8, D);
        }
    }
}

static void bench_attention(void)
{
    bench_engine(ATTENTION_HOPPER);
    bench_engine(ATTENTION_FLASH);
    bench_engine(ATTENTION_CUDNN);
    bench_engine(ATTENTION_PLAIN);
    dev.attention = ATTENTION_AUTO;
    engine = "";
}

/* --- decoding --- */

/* One row behind rows - 1 cached ones: forward alone. */
static void bench_decode_at(int32_t rows, int32_t H, int32_t KV, int32_t D)
{
    size_t q = (size_t)(H * D), kv = (size_t)rows * (size_t)(KV * D);
    struct segment s = {rows - 1, 1, rows - 1, 0, rows - 1, 0}, *on_device = take(sizeof s);
    struct attention_call c = {
        .a = {.N = 1, .H = H, .KV = KV, .D = D, .scale = 0.088f, .segments = on_device}};
    char shape[64];
    dev.k->upload(&dev, on_device, &s, sizeof s);
    c.a.num_segments = 1, c.a.first_row = rows - 1;
    c.a.q = values(q), c.a.k = values(kv), c.a.v = values(kv), c.a.o = values(q);
    c.a.ldq = c.a.ldo = H * D, c.a.ldk = c.a.ldv = KV * D;
    c.scratch = take(dev.k->attention_scratch(&dev, &c.a));
    snprintf(shape, sizeof shape, "1x%dx%dx%dx%d", rows, H, KV, D);
    print_bytes("decoding attention", shape, median_ms(attention_forward, &c),
                2.0 * (double)kv * (double)dtype_size(dev.type));
    give_back();
}

struct sample_call {
    int32_t *id, V;
    void *logits;
    struct kern_sample how;
};

static void sample(void *p)
{
    struct sample_call *c = p;
    dev.k->sample(&dev, c->id, c->logits, c->V, &c->how);
}

/* The largest of a row of logits, and a draw with all there is. */
static void bench_sampling(void)
{
    struct sample_call c = {.V = small ? 301 : 128256, .how = {.top_p = 1}};
    double bytes = (double)c.V * (double)dtype_size(dev.type);
    char shape[64];
    c.logits = values((size_t)c.V), c.id = take(sizeof *c.id);
    snprintf(shape, sizeof shape, "%d", c.V);
    print_bytes("sampling, greedy", shape, median_ms(sample, &c), bytes);
    c.how = (struct kern_sample){.scale = 1.4427f, .top_p = 0.9, .top_k = 100, .word = 1u << 31};
    print_bytes("sampling, top_k and top_p", shape, median_ms(sample, &c), bytes);
    give_back();
}

static void bench_decode(void)
{
    bench_sampling();
    for (int32_t D = 64; D <= 128; D *= 2)
        for (int32_t rows = small ? 200 : 2048; rows <= (small ? 200 : 131072); rows *= 4)
            bench_decode_at(rows, small ? 2 : 32, small ? 1 : 8, D);
}

/* --- the head --- */

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
    int32_t S = small ? 16 : 8192, C = small ? 32 : 4096, V = small ? 301 : 128256;
    struct head_call c = {.h = {.S = S, .C = C, .V = V, .ldx = C}};
    double flops = 2.0 * S * C * V;
    char shape[64];
    c.h.x = values((size_t)S * (size_t)C);
    c.h.w = numbers((size_t)V * (size_t)C, 0, 0.02f);
    c.h.row = ints(S, 1, S), c.h.target = ints(S, 7, V);
    c.h.logp = floats((size_t)S), c.h.lse = floats((size_t)S), c.h.mean_logit = floats((size_t)S);
    c.h.hit = take((size_t)S);
    c.h.dx = values((size_t)S * (size_t)C);
    c.scratch = take(dev.k->head_scratch(&dev, &c.h));
    snprintf(shape, sizeof shape, "%dx%dx%d", S, C, V);
    print_flops("head frozen", shape, median_ms(head_forward, &c), 2 * flops);
    c.h.dlogp = floats((size_t)S), c.h.dw = floats((size_t)V * (size_t)C);
    c.scratch = take(dev.k->head_scratch(&dev, &c.h));
    print_flops("head trained", shape, median_ms(head_forward, &c), 3 * flops);
    printf("{\"entry\": \"head scratch\", \"shape\": \"%s\", \"bytes\": %zu}\n", shape,
           dev.k->head_scratch(&dev, &c.h));
    give_back();
}

static const struct {
    const char *name;
    void (*run)(void);
} parts[] = {{"copy", bench_copy},           {"gemm", bench_gemm},     {"passes", bench_passes},
             {"attention", bench_attention}, {"decode", bench_decode}, {"head", bench_head}};
enum { PARTS = sizeof parts / sizeof *parts };

int main(int argc, char **argv)
{
    int wanted[PARTS] = {0}, some = 0;
    struct err e = {0};
    char about[320];
    for (int i = 1; i < argc; i++) {
        int at = 0;
        while (at < PARTS && strcmp(argv[i], parts[at].name) != 0) at++;
        if (at < PARTS)
            wanted[at] = some = 1;
        else if (!strcmp(argv[i], "small"))
            small = 1;
        else
            fail("a part is copy, gemm, passes, attention, decode or head");
    }
    if (device_open(&dev, "cuda", 0, &e)) fail(e.message);
    if (cudaEventCreateWithFlags(&begin_event, cudaEventDefault) ||
        cudaEventCreateWithFlags(&end_event, cudaEventDefault))
        fail("no events");
    dev.k->describe(&dev, about, sizeof about);
    printf("{\"device\": \"%s\"}\n", about);
    for (int i = 0; i < PARTS; i++)
        if (wanted[i] || !some) parts[i].run();
    cudaEventDestroy(begin_event);
    cudaEventDestroy(end_event);
    device_close(&dev);
    return 0;
}
