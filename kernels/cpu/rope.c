/* rope.c - rotary position embedding, in place.
 *
 * With halves (x1, x2) of a head and angle t_j = position * f_j, j < D/2:
 *   x1' = x1 cos t - x2 sin t;   x2' = x2 cos t + x1 sin t;   inverse: sin t changes sign
 * x: row n, head g at x + n*ldx + g*D. table [positions, D]: cos t_j, then sin t_j.
 * Bytes: 2 N G D floats (the table's row stays in cache over the heads); 3 FLOP a float.
 * Deterministic: every value on its own.
 */
#include "kernels/cpu/cpu.h"

CPU_INLINE void turn_any(float *x, const float *cosine, const float *sine, float sign, int32_t half)
{
#pragma omp simd
    for (int32_t j = 0; j < half; j++) {
        float a = x[j], b = x[j + half], s = sign * sine[j];
        x[j] = a * cosine[j] - b * s;
        x[j + half] = b * cosine[j] + a * s;
    }
}
CPU_LEVELS(void, turn, (float *x, const float *cosine, const float *sine, float sign, int32_t half),
           (x, cosine, sine, sign, half))

void cpu_rope(struct device *d, void *x, const float *table, const int32_t *position, int32_t N,
              int32_t G, int32_t D, int32_t ldx, int inverse)
{
    int32_t half = D / 2;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t n = 0; n < N; n++) {
        const float *row = table + (size_t)position[n] * D;
        for (int32_t g = 0; g < G; g++)
            turn((float *)x + (size_t)n * ldx + (size_t)g * D, row, row + half,
                 inverse ? -1.f : 1.f, half);
    }
}
