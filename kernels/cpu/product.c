/* product.c - c += a b for the small and narrow products that a CBLAS call is too heavy for:
 * attention's tiles and LoRA's rank-wide ones.
 *
 * a is read one element at a time with two free strides, so it may be transposed and needs no
 * packing; b and c are rows of `width` floats. A block of c stays in registers while k runs, its
 * shape chosen by the level's registers (rows x vectors):
 *   avx512    wide 4 x 4, narrow 8 x 2 and 8 x 1 of 16 floats, then 8 and 4    32 registers
 *   avx2      wide 6 x 2, narrow 8 x 1 of 8 floats, then 4                     16; 4 x 4 spills
 *   portable  wide 4 x 2, narrow 8 x 1 of 4 floats                             16, no FMA
 * Narrow blocks are taller so that eight chains cover the latency of an addition.
 *
 * FLOPs 2 rows width depth; bytes: c twice, a once for every block of columns, b once for every
 * block of rows. Deterministic: each c[i][j] is one chain over k from its old value or zero.
 */
#include "kernels/cpu/cpu.h"

enum { MOST_ROWS = 8, MOST_VECTORS = 4 };

struct product {
    float *c;
    size_t ldc;
    const float *a;
    size_t stride_a, stride_k;
    const float *b;
    size_t ldb;
    int rows, width, depth, fresh;
};

#define PRODUCT_TARGET
#define PRODUCT(name) name##_portable4
#define LANE 4
#include "kernels/cpu/product.inc"
#undef PRODUCT
#undef LANE
#undef PRODUCT_TARGET

#ifdef __x86_64__
#define PRODUCT_TARGET CPU_TARGET_AVX2
#define PRODUCT(name) name##_avx2x8
#define LANE 8
#include "kernels/cpu/product.inc"
#undef PRODUCT
#undef LANE
#define PRODUCT(name) name##_avx2x4
#define LANE 4
#include "kernels/cpu/product.inc"
#undef PRODUCT
#undef LANE
#undef PRODUCT_TARGET

#define PRODUCT_TARGET CPU_TARGET_AVX512
#define PRODUCT(name) name##_avx512x16
#define LANE 16
#include "kernels/cpu/product.inc"
#undef PRODUCT
#undef LANE
#define PRODUCT(name) name##_avx512x8
#define LANE 8
#include "kernels/cpu/product.inc"
#undef PRODUCT
#undef LANE
#define PRODUCT(name) name##_avx512x4
#define LANE 4
#include "kernels/cpu/product.inc"
#undef PRODUCT
#undef LANE
#undef PRODUCT_TARGET
#endif

/* Columns from j on while blocks of this shape fit, rows i ... i + rows. */
#define COLUMNS(block, lane, rows, vectors)                             \
    for (; j + (lane) * (vectors) <= p->width; j += (lane) * (vectors)) \
    block(p, i, j, rows, vectors, lane)

/* The last width % 4. */
#define REMAINDER(block, rows)      \
    if (p->width - j == 1)          \
        block(p, i, j, rows, 1, 1); \
    else if (p->width - j == 2)     \
        block(p, i, j, rows, 1, 2); \
    else if (p->width - j == 3)     \
    block(p, i, j, rows, 1, 3)

CPU_INLINE void panel_portable(const struct product *p, int i, const int rows)
{
    int j = 0;
    if (rows <= 4) COLUMNS(block_portable4, 4, rows, 2);
    COLUMNS(block_portable4, 4, rows, 1);
    REMAINDER(block_portable4, rows);
}

static void product_portable(const struct product *p)
{
    int i = 0;
    if (p->width < 8)
        for (; i + 8 <= p->rows; i += 8) panel_portable(p, i, 8);
    for (; i + 4 <= p->rows; i += 4) panel_portable(p, i, 4);
    for (; i < p->rows; i++) panel_portable(p, i, 1);
}

#ifdef __x86_64__
CPU_TARGET_AVX2 CPU_INLINE void panel_avx2(const struct product *p, int i, const int rows)
{
    int j = 0;
    if (rows <= 6) COLUMNS(block_avx2x8, 8, rows, 2);
    COLUMNS(block_avx2x8, 8, rows, 1);
    COLUMNS(block_avx2x4, 4, rows, 1);
    REMAINDER(block_avx2x4, rows);
}

CPU_TARGET_AVX2 static void product_avx2(const struct product *p)
{
    int i = 0;
    if (p->width < 16)
        for (; i + 8 <= p->rows; i += 8) panel_avx2(p, i, 8);
    for (; i + 6 <= p->rows; i += 6) panel_avx2(p, i, 6);
    for (; i + 2 <= p->rows; i += 2) panel_avx2(p, i, 2);
    for (; i < p->rows; i++) panel_avx2(p, i, 1);
}

CPU_TARGET_AVX512 CPU_INLINE void panel_avx512(const struct product *p, int i, const int rows)
{
    int j = 0;
    if (rows <= 4) COLUMNS(block_avx512x16, 16, rows, 4);
    COLUMNS(block_avx512x16, 16, rows, 2);
    COLUMNS(block_avx512x16, 16, rows, 1);
    COLUMNS(block_avx512x8, 8, rows, 1);
    COLUMNS(block_avx512x4, 4, rows, 1);
    REMAINDER(block_avx512x4, rows);
}

CPU_TARGET_AVX512 static void product_avx512(const struct product *p)
{
    int i = 0;
    if (p->width < 64)
        for (; i + 8 <= p->rows; i += 8) panel_avx512(p, i, 8);
    for (; i + 4 <= p->rows; i += 4) panel_avx512(p, i, 4);
    for (; i < p->rows; i++) panel_avx512(p, i, 1);
}
#endif

static void product(const struct product *p)
{
#ifdef __x86_64__
    if (cpu_simd == SIMD_AVX512) return product_avx512(p);
    if (cpu_simd == SIMD_AVX2) return product_avx2(p);
#endif
    product_portable(p);
}

void cpu_product(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                 const float *b, size_t ldb, int rows, int width, int depth)
{
    product(&(struct product){c, ldc, a, stride_a, stride_k, b, ldb, rows, width, depth, 0});
}

void cpu_product_new(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                     const float *b, size_t ldb, int rows, int width, int depth)
{
    product(&(struct product){c, ldc, a, stride_a, stride_k, b, ldb, rows, width, depth, 1});
}
