/* head.c - log-probabilities of the targets, in chunks of rows; logits are never whole. Where dw is
 * not wanted in the same pass, head_stream.c does it by blocks of the vocabulary.
 *
 * z = W x_s;  lse = log sum exp z;  logp = z[target] - lse;  p = exp(z - lse)
 * dx_s = W[target] - sum_v p_v W_v;  dW += sum_s dlogp_s (onehot(target) - p) x_s^T
 * entropy = lse - sum p z;  sum_p2 = log sum p^2;  mean_logit = mean z
 * x [*, C] gathered by row[], W [V, C], everything else [S].
 * FLOPs: 2 S C V for each product: logits, dx, dW. Bytes: W once a chunk and product, the
 * chunk of logits: written, read for the maximum, read and written for the exponentials, read by
 * the products; a row's second pass finds it in L2. Probabilities are never made: with e = exp(z -
 * max) the chunk holds e - onehot(target) sum e, and the factor -1 / sum e goes into dx and, for
 * dW, x. Deterministic: rows are swept by one thread each; sums over V go in blocks of 1024 added
 * in order, in double; the chunk follows from V alone.
 */
#include "base/size.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/head.h"

enum { BLOCK = 1024 };

/* Rows at a time. Each chunk packs W anew, so few rows are slow: C 384, V 32000, two threads of a
 * Xeon, oneDNN's GF/s of the three products at 256, 512, 1024 rows: logits 190, 262, 267; dx 253,
 * 300, 307; dW 195, 231, 183. A large vocabulary takes fewer, for the sake of memory. */
enum { ROWS_LEAST = 256, ROWS_MOST = 512, LOGITS = 16 << 20 };

static int32_t chunk_rows(const struct kern_head *h)
{
    int32_t rows = LOGITS / cpu_max(h->V, 1) / 32 * 32;
    return cpu_max(1, cpu_min(h->S, cpu_max(ROWS_LEAST, cpu_min(rows, ROWS_MOST))));
}

static size_t chunk_scratch(const struct kern_head *h)
{
    size_t rows = (size_t)chunk_rows(h);
    return (size_align(rows * (size_t)h->V, 16) + rows * (size_t)h->C + rows) * sizeof(float);
}

size_t cpu_head_scratch(const struct device *d, const struct kern_head *h)
{
    (void)d;
    size_t chunk = h->dw || h->late_dw ? chunk_scratch(h) : 0;
    size_t stream = h->dw ? 0 : cpu_head_stream_scratch(h);
    return chunk > stream ? chunk : stream;
}

struct kern_head_cut cpu_head_cut(const struct device *d, const struct kern_head *h)
{
    (void)d;
    return h->dw ? (struct kern_head_cut){chunk_rows(h), h->V} : cpu_head_stream_cut(h);
}

/* A chunk's logits, inputs, and factors of what z becomes. */
struct chunk {
    float *z;     /* [rows, V] */
    float *x;     /* [rows, C] */
    float *scale; /* [rows] */
};

static struct chunk carve(void *scratch, const struct kern_head *h)
{
    size_t rows = (size_t)chunk_rows(h);
    float *z = scratch, *x = z + size_align(rows * (size_t)h->V, 16);
    return (struct chunk){z, x, x + rows * (size_t)h->C};
}

void cpu_head_gather(struct device *d, float *xs, const struct kern_head *h, int32_t s0,
                     int32_t rows, const float *scale)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t i = 0; i < rows; i++) {
        const float *from = (const float *)h->x + (size_t)h->row[s0 + i] * h->ldx;
        float *to = xs + (size_t)i * h->C, f = scale ? scale[i] : 1.f;
#pragma omp simd
        for (int32_t c = 0; c < h->C; c++) to[c] = f * from[c];
    }
}

static void logits(float *z, const float *xs, const struct kern_head *h, int32_t rows)
{
    cpu_gemm(BLAS_PLAIN, BLAS_TURNED, rows, h->V, h->C, xs, h->C, h->w, h->C, 0, z, h->V);
}

struct sums {
    double e, ez, e2; /* of e = exp(z - max): sum e, sum e (z - max), sum e^2 */
};

CPU_INLINE float maximum_any(const float *z, int32_t V, double *sum)
{
    float top = z[0];
    *sum = 0;
    for (int32_t v0 = 0; v0 < V; v0 += BLOCK) {
        int32_t end = cpu_min(V, v0 + BLOCK);
        float part = 0;
#pragma omp simd reduction(max : top) reduction(+ : part)
        for (int32_t v = v0; v < end; v++) {
            top = z[v] > top ? z[v] : top;
            part += z[v];
        }
        *sum += (double)part;
    }
    return top;
}
CPU_LEVELS(float, maximum, (const float *z, int32_t V, double *sum), (z, V, sum))

/* Sums over e = exp(z - top), which z becomes. */
CPU_INLINE struct sums exponentials_of(float *z, int32_t V, float top, const int more)
{
    struct sums s = {0};
    for (int32_t v0 = 0; v0 < V; v0 += BLOCK) {
        int32_t end = cpu_min(V, v0 + BLOCK);
        float e1 = 0, ez = 0, e2 = 0;
#pragma omp simd reduction(+ : e1, ez, e2)
        for (int32_t v = v0; v < end; v++) {
            float e = cpu_exp(z[v] - top);
            e1 += e;
            if (more) ez += e * (z[v] - top);
            if (more) e2 += e * e;
            z[v] = e;
        }
        s.e += (double)e1, s.ez += (double)ez, s.e2 += (double)e2;
    }
    return s;
}

CPU_INLINE struct sums exponentials_any(float *z, int32_t V, float top, int more)
{
    return more ? exponentials_of(z, V, top, 1) : exponentials_of(z, V, top, 0);
}
CPU_LEVELS(struct sums, exponentials, (float *z, int32_t V, float top, int more), (z, V, top, more))

CPU_INLINE void probabilities_any(float *z, int32_t V, float lse, float f)
{
#pragma omp simd
    for (int32_t v = 0; v < V; v++) z[v] = f * cpu_exp(z[v] - lse);
}
CPU_LEVELS(void, probabilities, (float *z, int32_t V, float lse, float f), (z, V, lse, f))

/* One row: its outputs, and z = e - onehot(target) sum e with the factor
 * that makes onehot(target) - p of it. */
static float sweep(const struct kern_head *h, int32_t s, float *z)
{
    int32_t target = h->target[s], first = 0;
    double sum;
    float at_target = z[target], top = maximum(z, h->V, &sum);
    if (at_target >= top)
        while (z[first] < top) first++;
    h->hit[s] = at_target >= top && first == target;
    struct sums e = exponentials(z, h->V, top, h->entropy || h->sum_p2);
    h->lse[s] = top + (float)log(e.e);
    h->logp[s] = (at_target - top) - (float)log(e.e);
    h->mean_logit[s] = (float)(sum / h->V);
    if (h->entropy) h->entropy[s] = (float)(log(e.e) - e.ez / e.e);
    if (h->sum_p2) h->sum_p2[s] = (float)(log(e.e2) - 2 * log(e.e));
    z[target] = (float)((double)z[target] - e.e);
    return (float)(-1 / e.e);
}

/* dx [rows, C] = scale[s] z W */
static void input_gradient(struct device *d, const struct chunk *c, const struct kern_head *h,
                           int32_t s0, int32_t rows)
{
    float *dx = (float *)h->dx + (size_t)s0 * h->C;
    cpu_gemm(BLAS_PLAIN, BLAS_PLAIN, rows, h->C, h->V, c->z, h->V, h->w, h->C, 0, dx, h->C);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t i = 0; i < rows; i++) {
        float *row = dx + (size_t)i * h->C, f = c->scale[i];
#pragma omp simd
        for (int32_t k = 0; k < h->C; k++) row[k] *= f;
    }
}

/* dw [V, C] += z^T xs; or of those columns of z that dw_row names, which move to its front: they
 * ascend, so none is overwritten before it is read. */
static void add_weight_gradient(struct device *d, float *dw, float *z, const float *xs,
                                const struct kern_head *h, int32_t rows)
{
    int32_t wanted = h->num_dw_rows ? h->num_dw_rows : h->V;
    if (h->num_dw_rows) {
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t i = 0; i < rows; i++) {
            float *row = z + (size_t)i * h->V;
            for (int32_t k = 0; k < wanted; k++) row[k] = row[h->dw_row[k]];
        }
    }
    cpu_gemm(BLAS_TURNED, BLAS_PLAIN, wanted, h->C, rows, z, h->V, xs, h->C, 1, dw, h->C);
}

void cpu_head_forward(struct device *d, const struct kern_head *h, void *scratch)
{
    if (!h->dw) {
        cpu_head_stream(d, h, scratch);
        return;
    }
    int32_t chunk = chunk_rows(h);
    struct chunk c = carve(scratch, h);
    for (int32_t s0 = 0; s0 < h->S; s0 += chunk) {
        int32_t rows = cpu_min(chunk, h->S - s0);
        cpu_head_gather(d, c.x, h, s0, rows, NULL);
        logits(c.z, c.x, h, rows);
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t i = 0; i < rows; i++) c.scale[i] = sweep(h, s0 + i, c.z + (size_t)i * h->V);
        if (h->dx) input_gradient(d, &c, h, s0, rows);
        for (int32_t i = 0; i < rows; i++) c.scale[i] *= h->dlogp[s0 + i];
        cpu_head_gather(d, c.x, h, s0, rows, c.scale); /* scaling x is cheaper than scaling z */
        add_weight_gradient(d, h->dw, c.z, c.x, h, rows);
    }
}

void cpu_head_backward_input(struct device *d, void *dx_out, const float *dlogp,
                             const struct kern_head *h, int32_t N, int32_t lddx, int accumulate)
{
    if (!accumulate) {
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t n = 0; n < N; n++)
            memset((float *)dx_out + (size_t)n * lddx, 0, (size_t)h->C * sizeof(float));
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t s = 0; s < h->S; s++) {
        float *to = (float *)dx_out + (size_t)h->row[s] * lddx, f = dlogp[s];
        const float *from = (const float *)h->dx + (size_t)s * h->C;
#pragma omp simd
        for (int32_t c = 0; c < h->C; c++) to[c] += f * from[c];
    }
}

void cpu_head_backward_weight(struct device *d, float *dw, const float *dlogp,
                              const struct kern_head *h, void *scratch)
{
    int32_t chunk = chunk_rows(h);
    struct chunk c = carve(scratch, h);
    for (int32_t s0 = 0; s0 < h->S; s0 += chunk) {
        int32_t rows = cpu_min(chunk, h->S - s0);
        cpu_head_gather(d, c.x, h, s0, rows, NULL);
        logits(c.z, c.x, h, rows);
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t i = 0; i < rows; i++) {
            float *row = c.z + (size_t)i * h->V, g = dlogp[s0 + i];
            probabilities(row, h->V, h->lse[s0 + i], -g);
            row[h->target[s0 + i]] += g;
        }
        add_weight_gradient(d, dw, c.z, c.x, h, rows);
    }
}
