/* gemm_shape.h - what decides a product's algorithm, as numbers and as a line of text.
 *
 * The text is what a checkpoint carries beside the algorithm, so that a run that goes on can ask
 * again for just these products (kernels.h: products, product_algorithm).
 */
#ifndef CRIA_KERNELS_CUDA_GEMM_SHAPE_H
#define CRIA_KERNELS_CUDA_GEMM_SHAPE_H

#include "kernels/cuda/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All fields are compared as bytes; there is no padding. */
struct gemm_shape {
    int32_t M, N, K, lda, ldb, ldc, ldc0;
    int32_t type, out, turn_a, turn_b, bias, add;
    int32_t align[4]; /* of a, b, c, c0: 16, 8, 4 or 2 bytes */
};

struct gemm_shape gemm_shape_of(const struct gemm *g);
void gemm_shape_text(const struct gemm_shape *s, char *out, size_t size);

/* ERR_FORMAT: not such a text, or of a shape that no product has. */
enum status gemm_shape_parse(struct gemm_shape *s, const char *text, struct err *e);

/* A product of this shape without operands, to ask about. */
struct gemm gemm_of_shape(const struct gemm_shape *s);

#ifdef __cplusplus
}
#endif

#endif
