/* blas.c - sgemm of one of two libraries, cut so that threads do not show.
 *
 * Both libraries cut K, and where they cut it can depend on the number of threads. So K is cut
 * here, at multiples of what they leave alone:
 * OpenBLAS 0.3.21 cuts K at its cache size and halves what is left; the serial driver rounds the
 * half to another unit than the threaded one. A K of 600 gives other bits on two threads than on
 * one (200 of 200 calls tried), while multiples of 64 and short K agree (0 of 800 differ). The
 * ragged end of K therefore is a call of its own: at most 2 % of a weight gradient of 2047 rows.
 * oneDNN 2.6.3: of 4700 shapes (K from 32 to 2048, all forms, M or N above 1) none with K up to 512
 * differed on two or four threads, of those with K from 1024 on 67 did on two; on 8 and 16 threads
 * some do from 384 on. Vectors, whose sums it cuts by threads at any length, go to the CBLAS.
 *
 * Narrow results (N up to 512) are cut by rows instead: oneDNN shares them badly among threads.
 * Strips of 128 rows, each a call of one thread that takes K whole, go to whoever is free. Of the
 * products with 384 columns of a step of 2048 rows (two cores, AVX-512, beside one call of the
 * library in turn), strips are 1.17 (K = 384), 1.15 (1024), 1.06 (2048) and 1.01 (1152) times as
 * fast, one call cut at 512 is 0.93, 0.97, 0.96 and 0.95. Of wider results and weight gradients
 * they are slower (0.6 to 0.9), and those lose nothing by the cut.
 *
 * A weight gradient's left operand is stored by columns. Where those lie a multiple of 1 KB apart,
 * as they do at widths that are powers of two, they fall into few sets of the cache, which the
 * library suffers from: turned here, in strips, the product of [2048 x 2048]^T with 384 columns is
 * 1.19 times as fast, the head's, [512 x 768]^T of its blocks, 1.25; with 1152 columns, 0.89.
 */
#include "kernels/cpu/blas.h"

#include <cblas.h>
#ifdef CRIA_ONEDNN
#include <dnnl.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/turn.h"

enum { UNIT = 64, SHORT = 128, ONEDNN_DEPTH = 512 };
enum { STRIP_ROWS = 128, STRIP_WIDTH = CPU_TURNED_WIDTH };
enum { TURNED_LEAST = 1024, FAR = 256 }; /* rows of the result, floats from column to column */

enum library { LIBRARY_CBLAS, LIBRARY_ONEDNN, NUM_LIBRARIES };

static const char *const names[NUM_LIBRARIES] = {"cblas", "onednn"};

static enum library chosen = LIBRARY_CBLAS;

/* --- oneDNN --- */

#ifdef CRIA_ONEDNN

/* Below AVX2 its products are plain loops. */
static int onednn_there(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2;
}

static void onednn_describe(char *out, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, size, "oneDNN %d.%d.%d, isa %x", v->major, v->minor, v->patch,
             (unsigned)dnnl_get_effective_cpu_isa());
}

/* 0: it had no memory to pack into. */
static int onednn_sgemm(enum blas_form form_a, enum blas_form form_b, int32_t M, int32_t N,
                        int32_t K, const float *a, int32_t lda, const float *b, int32_t ldb,
                        int accumulate, float *c, int32_t ldc)
{
    return dnnl_sgemm(form_a == BLAS_TURNED ? 'T' : 'N', form_b == BLAS_TURNED ? 'T' : 'N', M, N, K,
                      1.f, a, lda, b, ldb, accumulate ? 1.f : 0.f, c, ldc) == dnnl_success;
}

#else

static int onednn_there(void) { return 0; }

static void onednn_describe(char *out, size_t size) { snprintf(out, size, "no oneDNN"); }

static int onednn_sgemm(enum blas_form form_a, enum blas_form form_b, int32_t M, int32_t N,
                        int32_t K, const float *a, int32_t lda, const float *b, int32_t ldb,
                        int accumulate, float *c, int32_t ldc)
{
    (void)form_a, (void)form_b, (void)M, (void)N, (void)K, (void)a, (void)lda, (void)b, (void)ldb;
    (void)accumulate, (void)c, (void)ldc;
    return 0;
}

#endif

/* --- the choice --- */

enum status cpu_blas_choose(struct err *e)
{
    const char *wish = getenv("CRIA_GEMM");
    if (!wish || !*wish) {
        chosen = onednn_there() ? LIBRARY_ONEDNN : LIBRARY_CBLAS;
        return OK;
    }
    int library = NUM_LIBRARIES - 1;
    while (library >= 0 && strcmp(names[library], wish) != 0) library--;
    if (library < 0 || (library == LIBRARY_ONEDNN && !onednn_there())) {
        err_set(e, ERR_CONFIG, "CRIA_GEMM=%s: %s", wish,
                library < 0 ? "there is no such library" : "built without it, or no AVX2 here");
        return err_hint(e, "use onednn or cblas, or unset it for the faster one");
    }
    chosen = (enum library)library;
    return OK;
}

/* OpenBLAS tells its version and the core it chose kernels for; another CBLAS has no such call. */
extern char *openblas_get_config(void) __attribute__((weak));
extern char *openblas_get_corename(void) __attribute__((weak));

void cpu_blas_describe(char *out, size_t size)
{
    char products[64] = "";
    if (chosen == LIBRARY_ONEDNN) onednn_describe(products, sizeof products);
    snprintf(out, size, "%s%s%s, core %s", products, products[0] ? ", " : "",
             openblas_get_config ? openblas_get_config() : "another CBLAS",
             openblas_get_corename ? openblas_get_corename() : "");
}

/* --- products --- */

void cpu_gemm_once(enum blas_form form_a, enum blas_form form_b, int32_t M, int32_t N, int32_t K,
                   const float *a, int32_t lda, const float *b, int32_t ldb, int accumulate,
                   float *c, int32_t ldc)
{
    if (chosen == LIBRARY_ONEDNN && M > 1 && N > 1 &&
        onednn_sgemm(form_a, form_b, M, N, K, a, lda, b, ldb, accumulate, c, ldc))
        return;
    cblas_sgemm(CblasRowMajor, form_a == BLAS_TURNED ? CblasTrans : CblasNoTrans,
                form_b == BLAS_TURNED ? CblasTrans : CblasNoTrans, M, N, K, 1.f, a, lda, b, ldb,
                accumulate ? 1.f : 0.f, c, ldc);
}

/* How much of K the next call takes. */
static int32_t piece_of(int32_t M, int32_t N, int32_t K)
{
    if (chosen == LIBRARY_ONEDNN && M > 1 && N > 1) return K < ONEDNN_DEPTH ? K : ONEDNN_DEPTH;
    return K <= SHORT ? K : K / UNIT * UNIT;
}

static int goes_in_strips(enum blas_form form_a, int32_t M, int32_t N)
{
    return chosen == LIBRARY_ONEDNN && form_a == BLAS_PLAIN && N <= STRIP_WIDTH &&
           M >= 2 * STRIP_ROWS;
}

static int goes_turned(int32_t M, int32_t N, int32_t lda)
{
    return chosen == LIBRARY_ONEDNN && N <= STRIP_WIDTH && M >= TURNED_LEAST && lda % FAR == 0;
}

/* Inside a parallel region the library works on the calling thread alone. */
static void gemm_in_strips(enum blas_form form_b, int32_t M, int32_t N, int32_t K, const float *a,
                           int32_t lda, const float *b, int32_t ldb, int accumulate, float *c,
                           int32_t ldc)
{
#pragma omp parallel for schedule(dynamic)
    for (int32_t m = 0; m < M; m += STRIP_ROWS) {
        int32_t rows = M - m < STRIP_ROWS ? M - m : STRIP_ROWS;
        cpu_gemm_once(BLAS_PLAIN, form_b, rows, N, K, a + (size_t)m * (size_t)lda, lda, b, ldb,
                      accumulate, c + (size_t)m * (size_t)ldc, ldc);
    }
}

/* a's rows come into a buffer in pieces of K; the stride of that keeps them in different sets of
 * the cache. */
void cpu_gemm_turned(int32_t M, int32_t N, int32_t K, const float *a, int32_t lda, const float *b,
                     int32_t ldb, float *c, int32_t ldc)
{
    enum { DEPTH = 256, STRIDE = DEPTH + 16 };
    _Alignas(64) float turned[CPU_TURNED_ROWS * STRIDE];
    for (int32_t k = 0; k < K; k += DEPTH) {
        int32_t depth = K - k < DEPTH ? K - k : DEPTH;
        cpu_turn(turned, STRIDE, a + (size_t)k * (size_t)lda, (size_t)lda, depth, M);
        cpu_gemm_once(BLAS_PLAIN, BLAS_PLAIN, M, N, depth, turned, STRIDE,
                      b + (size_t)k * (size_t)ldb, ldb, 1, c, ldc);
    }
}

static void gemm_in_turned_strips(int32_t M, int32_t N, int32_t K, const float *a, int32_t lda,
                                  const float *b, int32_t ldb, float *c, int32_t ldc)
{
#pragma omp parallel for schedule(dynamic)
    for (int32_t m = 0; m < M; m += CPU_TURNED_ROWS)
        cpu_gemm_turned(M - m < CPU_TURNED_ROWS ? M - m : CPU_TURNED_ROWS, N, K, a + m, lda, b, ldb,
                        c + (size_t)m * (size_t)ldc, ldc);
}

void cpu_gemm(enum blas_form form_a, enum blas_form form_b, int32_t M, int32_t N, int32_t K,
              const float *a, int32_t lda, const float *b, int32_t ldb, int accumulate, float *c,
              int32_t ldc)
{
    if (M <= 0 || N <= 0) return;
    if (goes_in_strips(form_a, M, N)) {
        gemm_in_strips(form_b, M, N, K, a, lda, b, ldb, accumulate, c, ldc);
        return;
    }
    if (form_a == BLAS_TURNED && form_b == BLAS_PLAIN && accumulate && goes_turned(M, N, lda)) {
        gemm_in_turned_strips(M, N, K, a, lda, b, ldb, c, ldc);
        return;
    }
    do {
        int32_t piece = piece_of(M, N, K);
        cpu_gemm_once(form_a, form_b, M, N, piece, a, lda, b, ldb, accumulate, c, ldc);
        a += form_a == BLAS_TURNED ? (size_t)piece * (size_t)lda : (size_t)piece;
        b += form_b == BLAS_TURNED ? (size_t)piece : (size_t)piece * (size_t)ldb;
        accumulate = 1;
        K -= piece;
    } while (K > 0);
}
