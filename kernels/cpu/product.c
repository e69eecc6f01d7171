/* product.c - c += a b for the small and narrow products that a CBLAS call is too heavy for:
 * attention's tiles and LoRA's rank-wide ones.
 *
 * a is read one element at a time with two free strides, so it may be transposed and needs no
 * packing; b and c are rows of `width` floats. 4 rows x 64 columns of c stay in registers
 * (16 vectors of AVX-512) while k runs.
 *
 * Measured on one Xeon core with AVX-512 (peak 179 GF/s), 64x64x64: 153 GF/s with a by rows, 133
 * by columns; 8 rows x 32 columns 142 and 124, 6 x 32 120 and 105; cblas_sgemm of OpenBLAS 0.3.21
 * 167 and 156, but it shares buffers and, in its pthread build, a lock between threads.
 *
 * FLOPs 2 rows width depth; bytes: c twice, a once for every 64 columns, b once for every 4 rows.
 * Deterministic: each c[i][j] is one chain over k from its old value.
 */
#include "kernels/cpu/cpu.h"

#define LANE 16
#define ROWS 4
#define VECTORS 4
typedef float lane __attribute__((vector_size(LANE * sizeof(float)), aligned(4), may_alias));

CPU_INLINE void block(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                      const float *b, size_t ldb, int depth, const int rows, const int vectors)
{
    lane sum[ROWS][VECTORS], bk[VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) sum[i][v] = *(const lane *)(c + i * ldc + v * LANE);
    for (int k = 0; k < depth; k++) {
        for (int v = 0; v < vectors; v++) bk[v] = *(const lane *)(b + k * ldb + v * LANE);
        for (int i = 0; i < rows; i++) {
            float s = a[i * stride_a + k * stride_k];
            for (int v = 0; v < vectors; v++) sum[i][v] += s * bk[v];
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) *(lane *)(c + i * ldc + v * LANE) = sum[i][v];
}

/* The last width % 16 columns, one by one. */
CPU_INLINE void narrow(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                       const float *b, size_t ldb, int rows, int width, int depth)
{
    for (int i = 0; i < rows; i++) {
        float sum[LANE];
        for (int j = 0; j < width; j++) sum[j] = c[i * ldc + j];
        for (int k = 0; k < depth; k++) {
            float s = a[i * stride_a + k * stride_k];
            for (int j = 0; j < width; j++) sum[j] += s * b[k * ldb + j];
        }
        for (int j = 0; j < width; j++) c[i * ldc + j] = sum[j];
    }
}

CPU_INLINE void panel(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                      const float *b, size_t ldb, int width, int depth, const int rows)
{
    int j = 0;
    for (; j + VECTORS * LANE <= width; j += VECTORS * LANE)
        block(c + j, ldc, a, stride_a, stride_k, b + j, ldb, depth, rows, VECTORS);
    for (; j + LANE <= width; j += LANE)
        block(c + j, ldc, a, stride_a, stride_k, b + j, ldb, depth, rows, 1);
    if (j < width) narrow(c + j, ldc, a, stride_a, stride_k, b + j, ldb, rows, width - j, depth);
}

CPU_CLONES void cpu_product(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                            const float *b, size_t ldb, int rows, int width, int depth)
{
    int i = 0;
    for (; i + ROWS <= rows; i += ROWS)
        panel(c + i * ldc, ldc, a + i * stride_a, stride_a, stride_k, b, ldb, width, depth, ROWS);
    for (; i < rows; i++)
        panel(c + i * ldc, ldc, a + i * stride_a, stride_a, stride_k, b, ldb, width, depth, 1);
}
