/* linear.c - the dense products, through blas.h.
 *
 * y = x w^T + bias + addend;  dx (+)= dy w;  dw += dy^T x;  db += column sums of dy
 * x [N, I], w [O, I], y [N, O], row-major with row strides; w without.
 * FLOPs 2 N I O each. The addend is put into y first and the product added to it (beta = 1), so
 * a residual costs one copy, or nothing in place; the bias is one fused pass with that copy.
 * One row (decoding) reads each weight once, so it is a pass over w at memory speed and no GEMM.
 * Deterministic: blas.c cuts the products so that their library is.
 * db: threads own columns; rows go in blocks of 256 whose sums are added in order.
 */
#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu.h"

/* y = bias + addend, either may be NULL. */
static void fill_rows(struct device *d, float *y, const float *bias, const float *addend, int32_t N,
                      int32_t O, int32_t ldy, int32_t ld_addend)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t n = 0; n < N; n++) {
        float *row = y + (size_t)n * ldy;
        const float *from = addend ? addend + (size_t)n * ld_addend : NULL;
        if (from && bias) {
#pragma omp simd
            for (int32_t o = 0; o < O; o++) row[o] = from[o] + bias[o];
        } else {
            memcpy(row, from ? from : bias, (size_t)O * sizeof(float));
        }
    }
}

CPU_INLINE float dot_any(const float *x, const float *y, int32_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}
CPU_LEVELS(float, dot, (const float *x, const float *y, int32_t n), (x, y, n))

static void one_row(struct device *d, float *y, const float *x, const float *w, const float *bias,
                    const float *addend, int32_t I, int32_t O)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t o = 0; o < O; o++)
        y[o] = dot(x, w + (size_t)o * I, I) + (addend ? addend[o] : 0) + (bias ? bias[o] : 0);
}

void cpu_linear_forward(struct device *d, void *y, const void *x, const void *w, const void *bias,
                        const void *addend, int32_t N, int32_t I, int32_t O, int32_t ldy,
                        int32_t ldx, int32_t ld_addend)
{
    if (N == 1) {
        one_row(d, y, x, w, bias, addend, I, O);
        return;
    }
    int in_place = addend == y && !bias;
    if ((bias || addend) && !in_place) fill_rows(d, y, bias, addend, N, O, ldy, ld_addend);
    cpu_gemm(BLAS_PLAIN, BLAS_TURNED, N, O, I, x, ldx, w, I, bias || addend, y, ldy);
}

void cpu_linear_backward_input(struct device *d, void *dx, const void *dy, const void *w, int32_t N,
                               int32_t I, int32_t O, int32_t lddx, int32_t lddy, int accumulate)
{
    (void)d;
    cpu_gemm(BLAS_PLAIN, BLAS_PLAIN, N, I, O, dy, lddy, w, I, accumulate, dx, lddx);
}

void cpu_linear_backward_weight(struct device *d, float *dw, const void *dy, const void *x,
                                int32_t N, int32_t I, int32_t O, int32_t lddy, int32_t ldx)
{
    (void)d;
    cpu_gemm(BLAS_TURNED, BLAS_PLAIN, O, I, N, dy, lddy, x, ldx, 1, dw, I);
}

enum { COLUMNS = 64, ROWS = 256 };

void cpu_linear_backward_bias(struct device *d, float *db, const void *dy, int32_t N, int32_t O,
                              int32_t lddy)
{
    const float *g = dy;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t block = 0; block < cpu_blocks(O, COLUMNS); block++) {
        int32_t o0 = block * COLUMNS, width = cpu_min(COLUMNS, O - o0);
        for (int32_t n0 = 0; n0 < N; n0 += ROWS) {
            float sum[COLUMNS] = {0};
            for (int32_t n = n0; n < cpu_min(N, n0 + ROWS); n++) {
                const float *row = g + (size_t)n * lddy + o0;
#pragma omp simd
                for (int32_t o = 0; o < width; o++) sum[o] += row[o];
            }
            for (int32_t o = 0; o < width; o++) db[o0 + o] += sum[o];
        }
    }
}
