/* cublaslt.h - cuBLASLt, loaded when a GPU is opened.
 *
 * A program with the CUDA backend so runs where there is no CUDA at all, and one that computes on
 * the CPU does not load half a gigabyte to begin with. `lt->cublasLtMatmul(...)` calls what the
 * library calls by that name.
 */
#ifndef CRIA_KERNELS_CUDA_CUBLASLT_H
#define CRIA_KERNELS_CUDA_CUBLASLT_H

#include <cublasLt.h>

#include "base/status.h"

#define CUBLASLT_FUNCTIONS(X)               \
    X(cublasLtCreate)                       \
    X(cublasLtDestroy)                      \
    X(cublasLtGetVersion)                   \
    X(cublasLtGetStatusName)                \
    X(cublasLtMatmul)                       \
    X(cublasLtMatmulAlgoGetHeuristic)       \
    X(cublasLtMatmulAlgoConfigGetAttribute) \
    X(cublasLtMatmulDescCreate)             \
    X(cublasLtMatmulDescDestroy)            \
    X(cublasLtMatmulDescSetAttribute)       \
    X(cublasLtMatmulPreferenceCreate)       \
    X(cublasLtMatmulPreferenceDestroy)      \
    X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatrixLayoutCreate)           \
    X(cublasLtMatrixLayoutDestroy)

struct cublaslt {
#define X(name) __typeof__(&name) name;
    CUBLASLT_FUNCTIONS(X)
#undef X
};

/* The library, from the first call on for as long as the process lives; NULL and ERR_DEVICE where
 * it is not found or too old. */
const struct cublaslt *cublaslt_load(struct err *e);

#endif
