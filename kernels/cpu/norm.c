/* norm.c - RMSNorm over groups of D values.
 *
 * Forward   rstd = 1/sqrt(mean x^2 + eps);  xhat = x rstd;  y = xhat w
 * Backward  g = dy w;  dx (+)= rstd (g - xhat mean(g xhat));  dw += sum over rows of dy xhat
 * Layout    row n, group g: D values at x + n*ldx + g*D; rstd [N*G]; w, dw [D]
 * Cost      forward 2 N G D floats moved, 4 FLOP each; backward 4 N G D moved, 9 FLOP each
 * Deterministic: rows are independent; dw goes in at most 64 blocks of rows whose partial sums
 * are added in order.
 */
#include "kernels/cpu/cpu.h"

CPU_INLINE float sum_of_squares_any(const float *x, int32_t D)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < D; i++) sum += x[i] * x[i];
    return sum;
}
CPU_LEVELS(float, sum_of_squares, (const float *x, int32_t D), (x, D))

CPU_INLINE void scale_row_any(float *y, const float *x, const float *w, float rstd, int32_t D)
{
#pragma omp simd
    for (int32_t i = 0; i < D; i++) y[i] = x[i] * rstd * w[i];
}
CPU_LEVELS(void, scale_row, (float *y, const float *x, const float *w, float rstd, int32_t D),
           (y, x, w, rstd, D))

void cpu_norm_forward(struct device *d, void *y, float *rstd, const void *x, const void *w,
                      int32_t N, int32_t G, int32_t D, int32_t ldy, int32_t ldx, float eps)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t n = 0; n < N; n++)
        for (int32_t g = 0; g < G; g++) {
            const float *from = (const float *)x + (size_t)n * ldx + (size_t)g * D;
            float *to = (float *)y + (size_t)n * ldy + (size_t)g * D;
            float r = 1 / sqrtf(sum_of_squares(from, D) / (float)D + eps);
            rstd[(size_t)n * G + g] = r;
            scale_row(to, from, w, r, D);
        }
}

CPU_INLINE float dot_gradient_any(const float *dy, const float *x, const float *w, int32_t D)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < D; i++) sum += dy[i] * w[i] * x[i];
    return sum;
}
CPU_LEVELS(float, dot_gradient, (const float *dy, const float *x, const float *w, int32_t D),
           (dy, x, w, D))

/* The same, and dw += dy xhat on the way. */
CPU_INLINE float dot_and_weight_any(float *dw, const float *dy, const float *x, const float *w,
                                    float rstd, int32_t D)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < D; i++) {
        float product = dy[i] * x[i];
        sum += product * w[i];
        dw[i] += product * rstd;
    }
    return sum;
}
CPU_LEVELS(float, dot_and_weight,
           (float *dw, const float *dy, const float *x, const float *w, float rstd, int32_t D),
           (dw, dy, x, w, rstd, D))

/* mean = mean(g xhat) rstd, so that the row costs one product less. */
CPU_INLINE void gradient_row_any(float *dx, const float *dy, const float *x, const float *w,
                                 float rstd, float mean, int32_t D, int accumulate)
{
    if (accumulate) {
#pragma omp simd
        for (int32_t i = 0; i < D; i++) dx[i] += rstd * (dy[i] * w[i] - x[i] * mean);
    } else {
#pragma omp simd
        for (int32_t i = 0; i < D; i++) dx[i] = rstd * (dy[i] * w[i] - x[i] * mean);
    }
}
CPU_LEVELS(void, gradient_row,
           (float *dx, const float *dy, const float *x, const float *w, float rstd, float mean,
            int32_t D, int accumulate),
           (dx, dy, x, w, rstd, mean, D, accumulate))

static int32_t rows_a_block(int32_t N) { return cpu_max(16, cpu_blocks(N, 64)); }

size_t cpu_norm_scratch(const struct device *d, int32_t N, int32_t G, int32_t D)
{
    (void)d, (void)G;
    return (size_t)cpu_blocks(N, rows_a_block(N)) * (size_t)D * sizeof(float);
}

void cpu_norm_backward(struct device *d, void *dx, float *dw, const void *dy, const void *x,
                       const void *w, const float *rstd, int32_t N, int32_t G, int32_t D,
                       int32_t lddx, int32_t lddy, int32_t ldx, int accumulate, void *scratch)
{
    int32_t rows = rows_a_block(N), blocks = cpu_blocks(N, rows);
    float *partial = scratch;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t b = 0; b < blocks; b++) {
        float *sum = partial + (size_t)b * D;
        if (dw) memset(sum, 0, (size_t)D * sizeof(float));
        for (int32_t n = b * rows; n < cpu_min(N, (b + 1) * rows); n++)
            for (int32_t g = 0; g < G; g++) {
                size_t at = (size_t)g * D;
                const float *gy = (const float *)dy + (size_t)n * lddy + at;
                const float *gx = (const float *)x + (size_t)n * ldx + at;
                float r = rstd[(size_t)n * G + g];
                float dot = dw ? dot_and_weight(sum, gy, gx, w, r, D) : dot_gradient(gy, gx, w, D);
                if (!dx) continue;
                float mean = dot / (float)D * r * r;
                gradient_row((float *)dx + (size_t)n * lddx + at, gy, gx, w, r, mean, D,
                             accumulate);
            }
    }
    if (!dw) return;
    for (int32_t b = 0; b < blocks; b++) {
        const float *sum = partial + (size_t)b * D;
#pragma omp simd
        for (int32_t i = 0; i < D; i++) dw[i] += sum[i];
    }
}
