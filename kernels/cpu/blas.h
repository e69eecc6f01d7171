/* blas.h - the one door to the CBLAS: row-major products with the same bits on any thread count.
 *
 * <cblas.h> stays behind it: OpenBLAS's includes <complex.h>, whose I is our I.
 */
#ifndef CRIA_KERNELS_CPU_BLAS_H
#define CRIA_KERNELS_CPU_BLAS_H

#include <stdint.h>

enum blas_form { BLAS_PLAIN, BLAS_TURNED };

/* c [M, N] = a b or, accumulating, += a b; a is [M, K] (turned: stored [K, M]), b is [K, N]
 * (turned: stored [N, K]). */
void cpu_gemm(enum blas_form form_a, enum blas_form form_b, int32_t M, int32_t N, int32_t K,
              const float *a, int32_t lda, const float *b, int32_t ldb, int accumulate, float *c,
              int32_t ldc);

#endif
