/* cpu.h - what the files of the CPU backend share: the small product, exp, entries.
 *
 * One file an op; its opening comment gives equation, layout, cost and determinism, and is the
 * specification that a CUDA kernel of the same name is held against. Everything is fp32.
 *
 * Parallel loops run over independent outputs. A sum across rows is cut into blocks by the shapes
 * alone and the blocks are added in order, so thread counts never show in the bits.
 */
#ifndef CRIA_KERNELS_CPU_CPU_H
#define CRIA_KERNELS_CPU_CPU_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/simd.h"
#include "kernels/kernels.h"

/* c[i][j] += sum_k a[i*stride_a + k*stride_k] b[k][j], i < rows, j < width, k < depth.
 * Row strides ldc, ldb. The sum starts from c and takes k in order, whatever the blocking, so any
 * cut of i, j or (in order) k gives the same bits. Widths that are multiples of 16 are fast, of 8
 * and 4 nearly. */
void cpu_product(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                 const float *b, size_t ldb, int rows, int width, int depth);

/* The same with the sum from zero: c is overwritten. */
void cpu_product_new(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                     const float *b, size_t ldb, int rows, int width, int depth);

/* e^x, relative error below 2e-7; 0 below -87.3, inf above 88.4, NaN stays. Vectorises. */
CPU_INLINE float cpu_exp(float x)
{
    const float shift = 12582912.f; /* 1.5 * 2^23: adding it rounds to an integer */
    float y = x < -87.3f ? -87.3f : x > 89.f ? 89.f : x;
    float t = y * 1.44269504f + shift, n = t - shift, scale;
    float r = (y - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts */
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    memcpy(&scale, &bits, sizeof scale);
    float p = 1 / 5040.f; /* Taylor: |r| <= ln2/2, so the rest is below 6e-9 */
    p = p * r + 1 / 720.f;
    p = p * r + 1 / 120.f;
    p = p * r + 1 / 24.f;
    p = p * r + 1 / 6.f;
    p = p * r + 0.5f;
    p = p * r + 1.f;
    p = p * r + 1.f;
    return x < -87.3f ? 0.f : p * scale;
}

CPU_INLINE int32_t cpu_min(int32_t a, int32_t b) { return a < b ? a : b; }
CPU_INLINE int32_t cpu_max(int32_t a, int32_t b) { return a > b ? a : b; }
CPU_INLINE int32_t cpu_blocks(int32_t n, int32_t each) { return (n + each - 1) / each; }

/* keep[j] = 0 or 1/(1-p) for columns first ... first+n of a row (struct kern_dropout); first is a
 * multiple of 4. */
void cpu_dropout_row(float *keep, const struct kern_dropout *d, uint32_t module, int32_t row,
                     int32_t first, int32_t n);

/* The entries; contracts in kernels.h. */
void cpu_embedding_forward(struct device *d, void *out, const void *table, const int32_t *ids,
                           int32_t N, int32_t C);
void cpu_embedding_backward(struct device *d, float *dtable, const void *dout, const int32_t *ids,
                            int32_t N, int32_t C);
void cpu_norm_forward(struct device *d, void *y, float *rstd, const void *x, const void *w,
                      int32_t N, int32_t G, int32_t D, int32_t ldy, int32_t ldx, float eps);
void cpu_norm_backward(struct device *d, void *dx, float *dw, const void *dy, const void *x,
                       const void *w, const float *rstd, int32_t N, int32_t G, int32_t D,
                       int32_t lddx, int32_t lddy, int32_t ldx, int accumulate, void *scratch);
size_t cpu_norm_scratch(const struct device *d, int32_t N, int32_t G, int32_t D);
void cpu_rope(struct device *d, void *x, const float *table, const int32_t *position, int32_t N,
              int32_t G, int32_t D, int32_t ldx, int inverse);
void cpu_linear_forward(struct device *d, void *y, const void *x, const void *w, const void *bias,
                        const void *addend, int32_t N, int32_t I, int32_t O, int32_t ldy,
                        int32_t ldx, int32_t ld_addend);
void cpu_linear_backward_input(struct device *d, void *dx, const void *dy, const void *w, int32_t N,
                               int32_t I, int32_t O, int32_t lddx, int32_t lddy, int accumulate);
void cpu_linear_backward_weight(struct device *d, float *dw, const void *dy, const void *x,
                                int32_t N, int32_t I, int32_t O, int32_t lddy, int32_t ldx);
void cpu_linear_backward_bias(struct device *d, float *db, const void *dy, int32_t N, int32_t O,
                              int32_t lddy);
void cpu_lora_forward(struct device *d, void *y, const struct kern_lora *l, void *scratch);
void cpu_lora_backward(struct device *d, void *dx, float *da, const void *dy,
                       const struct kern_lora *l, int32_t lddx, int accumulate, void *scratch);
size_t cpu_lora_scratch(const struct device *d, const struct kern_lora *l);
void cpu_attention_forward(struct device *d, const struct kern_attention *a, void *scratch);
void cpu_attention_backward(struct device *d, const struct kern_attention *a,
                            const struct kern_attention_grad *g, void *scratch);
size_t cpu_attention_scratch(const struct device *d, const struct kern_attention *a);
void cpu_swiglu_forward(struct device *d, void *out, const void *gate, const void *up, int32_t N,
                        int32_t F, int32_t ldo, int32_t ldg, int32_t ldu);
void cpu_swiglu_backward(struct device *d, void *dgate, void *dup, const void *dout,
                         const void *gate, const void *up, int32_t N, int32_t F, int32_t lddo,
                         int32_t ldg, int32_t ldu, int32_t lddg, int32_t lddu);
void cpu_head_forward(struct device *d, const struct kern_head *h, void *scratch);
void cpu_head_backward_input(struct device *d, void *dx_out, const float *dlogp,
                             const struct kern_head *h, int32_t N, int32_t lddx, int accumulate);
void cpu_head_backward_weight(struct device *d, float *dw, const float *dlogp,
                              const struct kern_head *h, void *scratch);
size_t cpu_head_scratch(const struct device *d, const struct kern_head *h);
struct kern_head_cut cpu_head_cut(const struct device *d, const struct kern_head *h);
void cpu_grad_norm(struct device *d, float out[2], const float *grad, size_t n, float inv_weight,
                   float max_norm, void *scratch);
size_t cpu_grad_norm_scratch(const struct device *d, size_t n);
void cpu_adamw(struct device *d, const struct kern_adamw *a);
void cpu_adamw_8bit(struct device *d, const struct kern_adamw_8bit *k);

#endif
