#include "kernels/kernels.h"

#include <string.h>

#include "base/log.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {[DTYPE_F32] = {"f32", 4}, [DTYPE_BF16] = {"bf16", 2}, [DTYPE_F16] = {"f16", 2}};

size_t dtype_size(enum dtype t) { return dtypes[t].size; }
const char *dtype_name(enum dtype t) { return dtypes[t].name; }

/* kernels_cuda is NULL in a program without it. */
static const struct kernels *const backends[] = {&kernels_cpu, &kernels_null, &kernels_cuda};
static const struct {
    const char *name;
    enum dtype type; /* unless another one is asked for */
} names[] = {{"cpu", DTYPE_F32}, {"null", DTYPE_F32}, {"cuda", DTYPE_BF16}};
enum { NUM_BACKENDS = sizeof backends / sizeof *backends };

static int find_backend(const char *name)
{
    int i = 0;
    while (i < NUM_BACKENDS && strcmp(names[i].name, name) != 0) i++;
    return i;
}

enum status device_open_type(struct device *d, const char *name, enum dtype type, int threads,
                             struct err *e)
{
    int i = find_backend(name);
    *d = (struct device){.threads = threads, .type = type};
    if (i == NUM_BACKENDS) {
        err_set(e, ERR_CONFIG, "no device is called \"%s\"", name);
        return err_hint(e, "use device: cpu");
    }
    if (!backends[i]) {
        err_set(e, ERR_DEVICE, "this cria was built without CUDA");
        return err_hint(e, "build it where nvcc is found, or use device: cpu");
    }
    TRY(backends[i]->open(d, e));
    d->k = backends[i];
    return OK;
}

enum status device_open(struct device *d, const char *name, int threads, struct err *e)
{
    int i = find_backend(name);
    return device_open_type(d, name, i < NUM_BACKENDS ? names[i].type : DTYPE_F32, threads, e);
}

enum status device_open_best(struct device *d, int fp32, int threads, struct err *why,
                             struct err *e)
{
    *why = (struct err){0};
    enum dtype type = fp32 ? DTYPE_F32 : DTYPE_BF16;
    if (&kernels_cuda && !device_open_type(d, "cuda", type, threads, why)) return OK;
    return device_open(d, "cpu", threads, e);
}

void device_close(struct device *d)
{
    if (d->k) d->k->close(d);
    *d = (struct device){0};
}

enum status device_set_attention(struct device *d, enum attention_engine wish, int32_t D,
                                 struct err *e)
{
    static const char *const words[] = {"auto", "plain", "flash", "hopper", "cudnn"};
    static const char *const needs[] = {
        [ATTENTION_AUTO] = "it is always there",
        [ATTENTION_PLAIN] = "it is always there",
        [ATTENTION_FLASH] = "flash is for GPUs, bf16 and heads of 64 or 128",
        [ATTENTION_HOPPER] = "hopper is for GPUs of capability 9.0 (H100, H200), bf16 and heads of "
                             "64 or 128",
        [ATTENTION_CUDNN] = "cudnn is for GPUs from Hopper on, bf16 and heads up to 256; it wants "
                            "cuDNN 9.19 or newer, which PyPI's nvidia-cudnn-cu13 brings "
                            "(LD_LIBRARY_PATH names the folder of its libcudnn.so.9)"};
    const struct kernels *k = d->k;
    d->attention = wish;
    if (k == &kernels_null) return OK;
    if (k->attention_engine ? k->attention_engine(d, D) != NULL : wish <= ATTENTION_PLAIN)
        return OK;
    err_set(e, ERR_UNSUPPORTED, "%s is not to be had on the device \"%s\" in %s with heads of %d",
            words[wish], k->name, dtype_name(d->type), (int)D);
    return err_hint(e, "use attention: auto; %s", needs[wish]);
}

/* Runs y = x w^T (kind 0), dx = dy w (1) or dw += dy^T x (2) on the first elements of m[3]. */
static void product(struct device *d, int kind, void *const m[3], int32_t N, int32_t I, int32_t O)
{
    const struct kernels *k = d->k;
    if (kind == 0) k->linear_forward(d, m[0], m[1], m[2], NULL, NULL, N, I, O, O, I, 0);
    if (kind == 1) k->linear_backward_input(d, m[0], m[1], m[2], N, I, O, I, O, 0);
    if (kind == 2) k->linear_backward_weight(d, m[0], m[1], m[2], N, I, O, O, I);
}

static void release_all(struct device *d, void **m, const size_t *bytes, int n)
{
    for (int i = 0; i < n; i++)
        if (m[i]) d->k->release(d, m[i], bytes[i]);
}

static enum status alloc_all(struct device *d, void **m, const size_t *bytes, int n, struct err *e)
{
    for (int i = 0; i < n; i++) m[i] = NULL; /* whichever fails, all are released */
    for (int i = 0; i < n; i++) {
        if (d->k->alloc(d, bytes[i], &m[i], e)) {
            release_all(d, m, bytes, n);
            return e->code;
        }
    }
    return OK;
}

/* Seconds of a call: the mean of as many, between two waits, as take `seconds` in all; the first
 * ones wake threads and pages. 0: it failed. */
static double call_seconds(struct device *d, void (*call)(struct device *, const void *),
                           const void *with, double seconds)
{
    struct err e = {0};
    for (int calls = 1;; calls *= 2) {
        double began = clock_seconds(), took;
        for (int i = 0; i < calls; i++) call(d, with);
        if (d->k->sync(d, &e)) return 0;
        took = clock_seconds() - began;
        if (calls > 1 && took > seconds / 3) return took / calls;
    }
}

struct square {
    void *m[3];
    int32_t side;
};

static void square_product(struct device *d, const void *with)
{
    const struct square *s = with;
    product(d, 0, s->m, s->side, s->side, s->side);
}

/* 1024 cubed takes some 10 ms on two cores: large enough to be at speed, small enough to stop. A
 * GPU is not awake before it is through with it. */
enum { LEAST_SIDE = 1024, MOST_SIDE = 8192 };
#define LEAST_SECONDS 1e-3

double device_gemm_peak(struct device *d, double seconds)
{
    double rate = 0;
    if (d->k == &kernels_null) return 0;
    for (int32_t side = LEAST_SIDE; side <= MOST_SIDE; side *= 2) {
        const size_t square = (size_t)side * (size_t)side * dtype_size(d->type);
        const size_t bytes[3] = {square, square, square};
        struct square s = {.side = side};
        struct err e = {0};
        if (alloc_all(d, s.m, bytes, 3, &e)) return rate;
        double took = call_seconds(d, square_product, &s, seconds);
        release_all(d, s.m, bytes, 3);
        if (took <= 0) return 0;
        rate = 2.0 * side * side * side / took;
        if (took > LEAST_SECONDS) break;
    }
    return rate;
}

struct pass {
    void *m[4];
    int32_t rows;
};

enum { PASS_ROW_BYTES = 1 << 16, LEAST_ROWS = 1 << 10, MOST_ROWS = 1 << 13 }; /* 64 to 512 MB */

static void copy_pass(struct device *d, const void *with)
{
    const struct pass *p = with;
    d->k->copy_rows(d, p->m[0], PASS_ROW_BYTES, p->m[1], PASS_ROW_BYTES, p->rows, PASS_ROW_BYTES);
}

static void adamw_pass(struct device *d, const void *with)
{
    const struct pass *p = with;
    struct kern_adamw a = {.n = (size_t)p->rows * PASS_ROW_BYTES / sizeof(float),
                           .param = p->m[0],
                           .m = p->m[1],
                           .v = p->m[2],
                           .grad = p->m[3],
                           .scale = p->m[3],
                           .eps = 1,
                           .bias1 = 1,
                           .bias2 = 1};
    d->k->adamw(d, &a);
}

double device_copy_peak(struct device *d, double seconds)
{
    double rate = 0;
    if (d->k == &kernels_null) return 0;
    for (int32_t rows = LEAST_ROWS; rows <= MOST_ROWS; rows = MOST_ROWS) {
        const size_t block = (size_t)rows * PASS_ROW_BYTES;
        const size_t bytes[4] = {block, block, block, block};
        struct pass p = {.rows = rows};
        struct err e = {0};
        if (alloc_all(d, p.m, bytes, 4, &e)) return rate;
        double copy = call_seconds(d, copy_pass, &p, seconds / 2);
        double update = call_seconds(d, adamw_pass, &p, seconds / 2);
        release_all(d, p.m, bytes, 4);
        if (copy <= 0 || update <= 0) return 0;
        double copied = 2 * (double)block / copy, updated = 7 * (double)block / update;
        rate = copied > updated ? copied : updated;
        if (rows == MOST_ROWS || copy > LEAST_SECONDS) break; /* else a cache has a part in it */
    }
    return rate;
}

/* What OpenBLAS packs grows with the rows of the result and, up to a block of its own, with what
 * is summed over; columns add little. Measured (0.3.21, SkylakeX, 2 threads), rows x columns,
 * depth: 128256x16, 512: 129 MB; 128256x1024, 512: 129 MB; 24576x64, 1024: 44 MB; 24576x2048, 4096:
 * 45 MB; 24576x64, 768: 37 MB; 512x2816, 1024: 2.9 MB. So the rows are those of the run, and few
 * columns do. Its buffers end at 128 MB a thread, so rows and operands may end somewhere too.
 */
enum {
    TOUCH_ROWS = 1 << 19,
    TOUCH_DEPTH = 2048,
    TOUCH_RESULT = 1 << 20,  /* elements */
    TOUCH_OPERAND = 1 << 28, /* elements */
    TOUCH_COLS_MIN = 16,
    TOUCH_COLS_MAX = 2048
};

static int32_t clamp(int32_t n, int32_t least, int32_t most)
{
    return n < least ? least : n < most ? n : most;
}

/* The operands are only read, so on the CPU they take no memory: fresh pages are all one of zeros.
 */
static enum status touch_product(struct device *d, int kind, int32_t rows, int32_t cols,
                                 int32_t depth, struct err *e)
{
    rows = clamp(rows, 1, TOUCH_ROWS);
    cols = clamp(cols, 1, clamp(TOUCH_RESULT / rows, TOUCH_COLS_MIN, TOUCH_COLS_MAX));
    depth = clamp(depth, 1, clamp(TOUCH_OPERAND / rows, 1, TOUCH_DEPTH));
    const size_t each = dtype_size(d->type), of_result = kind == 2 ? sizeof(float) : each;
    const size_t r = (size_t)rows, c = (size_t)cols, k = (size_t)depth;
    const size_t bytes[3] = {r * c * of_result, r * k * each, k * c * each};
    void *m[3];
    TRY(alloc_all(d, m, bytes, 3, e));
    if (kind == 0) product(d, 0, m, rows, depth, cols);
    if (kind == 1) product(d, 1, m, rows, cols, depth);
    if (kind == 2) product(d, 2, m, depth, cols, rows);
    enum status s = d->k->sync(d, e);
    release_all(d, m, bytes, 3);
    return s;
}

enum status device_touch_products(struct device *d, int32_t N, int32_t I, int32_t O, int weight,
                                  struct err *e)
{
    if (N <= 0 || I <= 0 || O <= 0) return OK;
    TRY(touch_product(d, 0, N, O, I, e));
    TRY(touch_product(d, 1, N, I, O, e));
    return weight ? touch_product(d, 2, O, I, N, e) : OK;
}
