/* swiglu.c - out = silu(gate) up, silu(g) = g s, s = 1/(1 + e^-g).
 *
 * Backward  dup = dout g s;  dgate = dout up s (1 + g (1 - s))
 * Rows of F with their own strides. Bytes: 3 N F floats forward, 5 N F backward; about 25 FLOP
 * each, most of them the exponential. Deterministic: every value on its own.
 */
#include "kernels/cpu/cpu.h"

CPU_INLINE void forward_row_any(float *out, const float *gate, const float *up, int32_t F)
{
#pragma omp simd
    for (int32_t i = 0; i < F; i++) out[i] = gate[i] / (1 + cpu_exp(-gate[i])) * up[i];
}
CPU_LEVELS(void, forward_row, (float *out, const float *gate, const float *up, int32_t F),
           (out, gate, up, F))

CPU_INLINE void backward_row_any(float *dgate, float *dup, const float *dout, const float *gate,
                                 const float *up, int32_t F)
{
#pragma omp simd
    for (int32_t i = 0; i < F; i++) {
        float g = gate[i], s = 1 / (1 + cpu_exp(-g)), go = dout[i];
        float du = go * g * s, dg = go * up[i] * s * (1 + g * (1 - s));
        dup[i] = du;
        dgate[i] = dg;
    }
}
CPU_LEVELS(void, backward_row,
           (float *dgate, float *dup, const float *dout, const float *gate, const float *up,
            int32_t F),
           (dgate, dup, dout, gate, up, F))

void cpu_swiglu_forward(struct device *d, void *out, const void *gate, const void *up, int32_t N,
                        int32_t F, int32_t ldo, int32_t ldg, int32_t ldu)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t n = 0; n < N; n++)
        forward_row((float *)out + (size_t)n * ldo, (const float *)gate + (size_t)n * ldg,
                    (const float *)up + (size_t)n * ldu, F);
}

void cpu_swiglu_backward(struct device *d, void *dgate, void *dup, const void *dout,
                         const void *gate, const void *up, int32_t N, int32_t F, int32_t lddo,
                         int32_t ldg, int32_t ldu, int32_t lddg, int32_t lddu)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t n = 0; n < N; n++)
        backward_row((float *)dgate + (size_t)n * lddg, (float *)dup + (size_t)n * lddu,
                     (const float *)dout + (size_t)n * lddo, (const float *)gate + (size_t)n * ldg,
                     (const float *)up + (size_t)n * ldu, F);
}
