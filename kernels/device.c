#include "kernels/kernels.h"

#include <string.h>

#include "base/log.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {[DTYPE_F32] = {"f32", 4}, [DTYPE_BF16] = {"bf16", 2}, [DTYPE_F16] = {"f16", 2}};

size_t dtype_size(enum dtype t) { return dtypes[t].size; }
const char *dtype_name(enum dtype t) { return dtypes[t].name; }

static const struct kernels *const backends[] = {&kernels_cpu, &kernels_null};
enum { NUM_BACKENDS = sizeof backends / sizeof *backends };

enum status device_open(struct device *d, const char *name, int threads, struct err *e)
{
    *d = (struct device){.threads = threads};
    for (int i = 0; i < NUM_BACKENDS; i++) {
        if (strcmp(backends[i]->name, name) != 0) continue;
        TRY(backends[i]->open(d, e));
        d->k = backends[i];
        return OK;
    }
    err_set(e, ERR_CONFIG, "no device is called \"%s\"", name);
    return err_hint(e, "use device: cpu");
}

void device_close(struct device *d)
{
    if (d->k) d->k->close(d);
    *d = (struct device){0};
}

/* Runs y = x w^T (kind 0), dx = dy w (1) or dw += dy^T x (2) on the first elements of m[3]. */
static void product(struct device *d, int kind, void *const m[3], int32_t N, int32_t I, int32_t O)
{
    const struct kernels *k = d->k;
    if (kind == 0) k->linear_forward(d, m[0], m[1], m[2], NULL, NULL, N, I, O, O, I, 0);
    if (kind == 1) k->linear_backward_input(d, m[0], m[1], m[2], N, I, O, I, O, 0);
    if (kind == 2) k->linear_backward_weight(d, m[0], m[1], m[2], N, I, O, O, I);
}

static void release_all(struct device *d, void *m[3], const size_t bytes[3])
{
    for (int i = 0; i < 3; i++)
        if (m[i]) d->k->release(d, m[i], bytes[i]);
}

static enum status alloc_all(struct device *d, void *m[3], const size_t bytes[3], struct err *e)
{
    for (int i = 0; i < 3; i++) {
        m[i] = NULL;
        if (d->k->alloc(d, bytes[i], &m[i], e)) {
            release_all(d, m, bytes);
            return e->code;
        }
    }
    return OK;
}

/* 1024 cubed takes some 10 ms on two cores: large enough to be at speed, small enough to stop. */
enum { PEAK_SIDE = 1024 };

double device_gemm_peak(struct device *d, double seconds)
{
    const size_t square = (size_t)PEAK_SIDE * PEAK_SIDE * dtype_size(d->type);
    const size_t bytes[3] = {square, square, square};
    void *m[3];
    struct err e = {0};
    double start = clock_seconds(), elapsed = 0;
    int calls = 0;
    if (d->k == &kernels_null || alloc_all(d, m, bytes, &e)) return 0;
    for (; elapsed < seconds || calls < 2; calls++) {
        if (calls == 1) start = clock_seconds(); /* the first call wakes threads and pages */
        product(d, 0, m, PEAK_SIDE, PEAK_SIDE, PEAK_SIDE);
        if (d->k->sync(d, &e)) break;
        elapsed = calls ? clock_seconds() - start : 0;
    }
    release_all(d, m, bytes);
    if (e.code || elapsed <= 0) return 0;
    return 2.0 * PEAK_SIDE * PEAK_SIDE * PEAK_SIDE * (calls - 1) / elapsed;
}

/* What a BLAS packs of a product depends on its extents up to the sizes of its blocks. OpenBLAS's
 * single-precision ones are below these on every core it knows: 24576 rows, 512 by 512 otherwise
 * (measured: nothing more is touched by 24576x4096x4096). */
enum { TOUCH_LONG = 24576, TOUCH_SHORT = 512 };

static int32_t at_most(int32_t n, int32_t most) { return n < most ? n : most; }

enum status device_touch_products(struct device *d, int32_t N, int32_t I, int32_t O, int weight,
                                  struct err *e)
{
    for (int kind = 0; kind < 2 + (weight != 0); kind++) {
        /* the extents of the result, rows first, and what is summed over */
        int32_t rows = kind == 2 ? O : N, cols = kind == 0 ? O : I;
        int32_t depth = kind == 0 ? I : kind == 1 ? O : N;
        rows = at_most(rows, TOUCH_LONG);
        cols = at_most(cols, TOUCH_SHORT);
        depth = at_most(depth, TOUCH_SHORT);
        const size_t each = dtype_size(d->type), r = (size_t)rows, c = (size_t)cols;
        const size_t k = (size_t)depth, bytes[3] = {r * c * each, r * k * each, k * c * each};
        void *m[3];
        if (rows <= 0 || cols <= 0 || depth <= 0) continue;
        TRY(alloc_all(d, m, bytes, e));
        if (kind == 0) product(d, 0, m, rows, depth, cols);
        if (kind == 1) product(d, 1, m, rows, cols, depth);
        if (kind == 2) product(d, 2, m, depth, cols, rows);
        enum status s = d->k->sync(d, e);
        release_all(d, m, bytes);
        TRY(s);
    }
    return OK;
}
