/* blas.c - cblas_sgemm, cut so that threads do not show.
 *
 * OpenBLAS 0.3.21 cuts K at its cache size and halves what is left; the serial driver rounds the
 * half to another unit than the threaded one. So a K of 600 gives other bits on two threads than
 * on one (200 of 200 calls tried), while multiples of 64 and short K agree (0 of 800 differ). A
 * ragged end of K therefore is a call of its own: at most 2 % of a weight gradient of 2047 rows.
 */
#include "kernels/cpu/blas.h"

#include <cblas.h>

enum { UNIT = 64, SHORT = 128 };

void cpu_gemm(enum blas_form form_a, enum blas_form form_b, int32_t M, int32_t N, int32_t K,
              const float *a, int32_t lda, const float *b, int32_t ldb, int accumulate, float *c,
              int32_t ldc)
{
    if (M <= 0 || N <= 0) return;
    enum CBLAS_TRANSPOSE ta = form_a == BLAS_TURNED ? CblasTrans : CblasNoTrans;
    enum CBLAS_TRANSPOSE tb = form_b == BLAS_TURNED ? CblasTrans : CblasNoTrans;
    int32_t whole = K <= SHORT ? K : K / UNIT * UNIT;
    cblas_sgemm(CblasRowMajor, ta, tb, M, N, whole, 1.f, a, lda, b, ldb, accumulate ? 1.f : 0.f, c,
                ldc);
    if (whole == K) return;
    a += form_a == BLAS_TURNED ? (size_t)whole * (size_t)lda : (size_t)whole;
    b += form_b == BLAS_TURNED ? (size_t)whole : (size_t)whole * (size_t)ldb;
    cblas_sgemm(CblasRowMajor, ta, tb, M, N, K - whole, 1.f, a, lda, b, ldb, 1.f, c, ldc);
}
