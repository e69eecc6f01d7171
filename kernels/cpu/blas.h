/* blas.h - the one door to the dense products: row-major, with the same bits on one thread and two.
 *
 * Two libraries can stand behind it. oneDNN's fp32 products are taken where cria was built with it
 * and the processor has AVX2: measured on two cores (AVX-512), over the products of a training step
 * with rows of 384 to 2048, they reach 226 GFLOP/s where OpenBLAS reaches 195 in the same run. Any
 * CBLAS serves else. CRIA_GEMM=onednn|cblas asks for one by name.
 *
 * The headers of both stay behind this one: OpenBLAS's includes <complex.h>, whose I is our I.
 */
#ifndef CRIA_KERNELS_CPU_BLAS_H
#define CRIA_KERNELS_CPU_BLAS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum blas_form { BLAS_PLAIN, BLAS_TURNED };

/* c [M, N] = a b or, accumulating, += a b; a is [M, K] (turned: stored [K, M]), b is [K, N]
 * (turned: stored [N, K]). */
void cpu_gemm(enum blas_form form_a, enum blas_form form_b, int32_t M, int32_t N, int32_t K,
              const float *a, int32_t lda, const float *b, int32_t ldb, int accumulate, float *c,
              int32_t ldc);

/* c [M, N] += a^T b, a stored [K, M], M up to CPU_TURNED_ROWS: for a thread of several, which work
 * on other rows of c. Where N exceeds CPU_TURNED_WIDTH one cpu_gemm of all rows is faster. */
enum { CPU_TURNED_ROWS = 128, CPU_TURNED_WIDTH = 512 };
void cpu_gemm_turned(int32_t M, int32_t N, int32_t K, const float *a, int32_t lda, const float *b,
                     int32_t ldb, float *c, int32_t ldc);

/* cpu_gemm as one call of the library, uncut: what a replay of products alone is made of. */
void cpu_gemm_once(enum blas_form form_a, enum blas_form form_b, int32_t M, int32_t N, int32_t K,
                   const float *a, int32_t lda, const float *b, int32_t ldb, int accumulate,
                   float *c, int32_t ldc);

/* Takes the library that CRIA_GEMM names, or the best there is. ERR_CONFIG: it is not there. */
MUST_CHECK enum status cpu_blas_choose(struct err *e);

/* Name, version and what decides bits. */
void cpu_blas_describe(char *out, size_t size);

#endif
