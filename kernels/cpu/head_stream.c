/* head_stream.c - the head when its weight has no gradient in the same pass: the vocabulary goes by
 * in blocks, and of the logits only a block exists at a time.
 *
 * For every row the greatest logit so far `top`, sum e, sum e (z - top), sum e^2 with e = exp(z -
 * top), and dx = sum_v e_v W_v are kept. A block that raises top by d first multiplies them by
 * exp(-d). At the end p = e / sum e, so dx = W[target] - dx / sum e.
 *
 * FLOPs: 2 S C V for the logits, the same for dx. Bytes: W twice for 1024 rows; a block of logits
 * is written by one product, swept twice and read by the other without leaving the cache, which
 * is what makes this the faster form; a weight gradient needs sum e before the first product with
 * x, and takes the form of head.c. Deterministic: a row is swept by one thread, blocks in order,
 * their sums added in double.
 */
#include "base/size.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/head.h"

enum { ROWS = 1024, WORDS = 1024 };

/* Of one row, over the blocks so far. */
struct running {
    double e, ez, e2, z; /* sums: e, e (z - top), e^2, z */
    float top, at_target;
    int32_t first; /* the first word whose logit is top */
};

struct stream {
    float *z;  /* [rows, words] */
    float *xs; /* [rows, C] */
    struct running *state;
};

struct kern_head_cut cpu_head_stream_cut(const struct kern_head *h)
{
    return (struct kern_head_cut){cpu_max(1, cpu_min(h->S, ROWS)), cpu_min(h->V, WORDS)};
}

static size_t logits_size(const struct kern_head *h)
{
    struct kern_head_cut cut = cpu_head_stream_cut(h);
    return size_align((size_t)cut.rows * (size_t)cut.words * sizeof(float), 64);
}

static size_t inputs_size(const struct kern_head *h)
{
    return size_align((size_t)cpu_head_stream_cut(h).rows * (size_t)h->C * sizeof(float), 64);
}

size_t cpu_head_stream_scratch(const struct kern_head *h)
{
    return logits_size(h) + inputs_size(h) +
           (size_t)cpu_head_stream_cut(h).rows * sizeof(struct running);
}

static struct stream carve(void *scratch, const struct kern_head *h)
{
    char *at = scratch;
    return (struct stream){(float *)at, (float *)(at + logits_size(h)),
                           (struct running *)(at + logits_size(h) + inputs_size(h))};
}

CPU_INLINE float block_top_any(const float *z, int32_t n, float *sum)
{
    float top = z[0], part = 0;
#pragma omp simd reduction(max : top) reduction(+ : part)
    for (int32_t v = 0; v < n; v++) {
        top = z[v] > top ? z[v] : top;
        part += z[v];
    }
    *sum = part;
    return top;
}
CPU_LEVELS(float, block_top, (const float *z, int32_t n, float *sum), (z, n, sum))

/* z becomes e; adds the block's sums. */
CPU_INLINE void block_sums_of(struct running *r, float *z, int32_t n, const int more)
{
    float e1 = 0, ez = 0, e2 = 0, top = r->top;
#pragma omp simd reduction(+ : e1, ez, e2)
    for (int32_t v = 0; v < n; v++) {
        float e = cpu_exp(z[v] - top);
        e1 += e;
        if (more) ez += e * (z[v] - top);
        if (more) e2 += e * e;
        z[v] = e;
    }
    r->e += (double)e1, r->ez += (double)ez, r->e2 += (double)e2;
}

CPU_INLINE void block_sums_any(struct running *r, float *z, int32_t n, int more)
{
    if (more)
        block_sums_of(r, z, n, 1);
    else
        block_sums_of(r, z, n, 0);
}
CPU_LEVELS(void, block_sums, (struct running * r, float *z, int32_t n, int more), (r, z, n, more))

CPU_INLINE void multiply_any(float *x, int32_t n, float f)
{
#pragma omp simd
    for (int32_t i = 0; i < n; i++) x[i] *= f;
}
CPU_LEVELS(void, multiply, (float *x, int32_t n, float f), (x, n, f))

/* top becomes that of the block, whose first word is v0; what was summed under the old one shrinks.
 * dx: [C] or NULL. */
static void raise_top(struct running *r, float top, const float *z, int32_t v0, float *dx,
                      int32_t C)
{
    int32_t i = 0;
    double d = (double)r->top - (double)top, f = exp(d);
    while (z[i] < top) i++;
    r->first = v0 + i;
    r->top = top;
    if (!v0) return; /* nothing was summed yet */
    r->ez = f * (r->ez + d * r->e);
    r->e *= f;
    r->e2 *= f * f;
    if (dx) multiply(dx, C, (float)f);
}

/* Block v0 ... v0+n-1 of one row. */
static void sweep_block(const struct kern_head *h, int32_t s, struct running *r, float *z,
                        int32_t v0, int32_t n)
{
    float sum, *dx = h->dx ? (float *)h->dx + (size_t)s * (size_t)h->C : NULL;
    float top = block_top(z, n, &sum);
    int32_t target = h->target[s] - v0;
    if (target >= 0 && target < n) r->at_target = z[target];
    if (!v0 || top > r->top) raise_top(r, top, z, v0, dx, h->C);
    r->z += (double)sum;
    block_sums(r, z, n, h->entropy || h->sum_p2);
}

CPU_INLINE void finish_gradient_any(float *dx, const float *w, int32_t C, float f)
{
#pragma omp simd
    for (int32_t c = 0; c < C; c++) dx[c] = w[c] - f * dx[c];
}
CPU_LEVELS(void, finish_gradient, (float *dx, const float *w, int32_t C, float f), (dx, w, C, f))

static void finish_row(const struct kern_head *h, int32_t s, const struct running *r)
{
    double log_e = log(r->e);
    h->hit[s] = r->first == h->target[s];
    h->lse[s] = r->top + (float)log_e;
    h->logp[s] = (r->at_target - r->top) - (float)log_e;
    h->mean_logit[s] = (float)(r->z / h->V);
    if (h->entropy) h->entropy[s] = (float)(log_e - r->ez / r->e);
    if (h->sum_p2) h->sum_p2[s] = (float)(log(r->e2) - 2 * log_e);
    if (h->dx)
        finish_gradient((float *)h->dx + (size_t)s * (size_t)h->C,
                        (const float *)h->w + (size_t)h->target[s] * (size_t)h->C, h->C,
                        (float)(1 / r->e));
}

static void pass_rows(struct device *d, const struct kern_head *h, const struct stream *t,
                      int32_t s0, int32_t rows)
{
    int32_t words = cpu_head_stream_cut(h).words;
    float *dx = h->dx ? (float *)h->dx + (size_t)s0 * (size_t)h->C : NULL;
    for (int32_t v0 = 0; v0 < h->V; v0 += words) {
        int32_t n = cpu_min(words, h->V - v0);
        const float *w = (const float *)h->w + (size_t)v0 * (size_t)h->C;
        cpu_gemm(BLAS_PLAIN, BLAS_TURNED, rows, n, h->C, t->xs, h->C, w, h->C, 0, t->z, words);
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t i = 0; i < rows; i++)
            sweep_block(h, s0 + i, &t->state[i], t->z + (size_t)i * (size_t)words, v0, n);
        if (dx)
            cpu_gemm(BLAS_PLAIN, BLAS_PLAIN, rows, h->C, n, t->z, words, w, h->C, v0 > 0, dx, h->C);
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t i = 0; i < rows; i++) finish_row(h, s0 + i, &t->state[i]);
}

void cpu_head_stream(struct device *d, const struct kern_head *h, void *scratch)
{
    struct stream t = carve(scratch, h);
    int32_t most = cpu_head_stream_cut(h).rows;
    for (int32_t s0 = 0; s0 < h->S; s0 += most) {
        int32_t rows = cpu_min(most, h->S - s0);
        memset(t.state, 0, (size_t)rows * sizeof *t.state);
        cpu_head_gather(d, t.xs, h, s0, rows, NULL);
        pass_rows(d, h, &t, s0, rows);
    }
}
