/* gemm.h - the one door to dense products: cuBLASLt, or the CBLAS in emulation.
 *
 *   c [M, N] = alpha a b + beta c0 + bias        a [M, K], b [K, N], row-major, fp32 accumulation
 *
 * An operand that is `turned` is stored transposed ([K, M], [N, K]). a and b are of `type`, c and
 * c0 of `out`, bias [N] of `type`. c0 may be c; beta 0: it is not read. Nothing to do for M or N
 * 0; K = 0 needs beta 1 and no bias.
 *
 * Deterministic: the algorithm is what cuBLASLt's heuristic names first for shape, strides and
 * alignment, among those that use no atomics; nothing is timed. It is asked once a shape and kept,
 * and a checkpoint carries what was chosen.
 */
#ifndef CRIA_KERNELS_CUDA_GEMM_H
#define CRIA_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

struct gemm {
    int32_t M, N, K;
    enum dtype type, out; /* out: type or DTYPE_F32 */
    const void *a, *b;
    void *c;
    const void *c0, *bias;
    int32_t lda, ldb, ldc, ldc0;
    int turn_a, turn_b;
    float alpha, beta;
};

/* ERR_DEVICE: cuBLASLt is not there or does not start; ERR_MEMORY. */
enum status gemm_open(struct device *d, struct err *e);
void gemm_close(struct device *d);
void gemm_run(struct device *d, const struct gemm *g);
void gemm_trace(struct device *d, const struct gemm *g); /* cuda_trace_begin of this product */
int gemm_version(const struct device *d); /* the library's, as it counts; 0: emulated */

/* What kernels.h says of products and product_algorithm. */
int32_t gemm_products(const struct device *d, struct kern_product *out, int32_t room);
enum status gemm_algorithm(struct device *d, struct kern_product *p, struct err *e);

#ifdef __cplusplus
}
#endif

#endif
