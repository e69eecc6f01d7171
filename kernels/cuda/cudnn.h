/* cudnn.h - the part of cuDNN 9's backend API that attention uses, loaded when a GPU is opened.
 *
 * cuDNN comes with PyTorch and as PyPI's nvidia-cudnn-cu13, not with CUDA; its headers are not
 * needed to build. What stands here of them are numbers and signatures of its binary interface,
 * under names of our own (DNN_X is its CUDNN_X); tests/ops/test_cudnn.c holds them against the
 * headers where they are found.
 *
 * The model: everything is a descriptor, made, given attributes, finalized. Tensors and operations
 * make a graph, a heuristic names engines for it, an engine with its choices makes a plan, and a
 * plan runs on a pack of addresses, by the tensors' ids. kernels/emu/cudnn.cc stands in for it.
 */
#ifndef CRIA_KERNELS_CUDA_CUDNN_H
#define CRIA_KERNELS_CUDA_CUDNN_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* The oldest that is used: the first whose engines have been asked for these graphs. */
enum { CUDNN_OLDEST = 91900, CUDNN_MAJOR_USED = 9 };

/* name, what it takes; all return a status but the first and the second, 0: well */
#define CUDNN_FUNCTIONS(X)                                                                \
    X(size_t, cudnnGetVersion, (void))                                                    \
    X(const char *, cudnnGetErrorString, (int status))                                    \
    X(int, cudnnCreate, (void **handle))                                                  \
    X(int, cudnnDestroy, (void *handle))                                                  \
    X(int, cudnnSetStream, (void *handle, void *stream))                                  \
    X(int, cudnnBackendCreateDescriptor, (int kind, void **out))                          \
    X(int, cudnnBackendDestroyDescriptor, (void *descriptor))                             \
    X(int, cudnnBackendFinalize, (void *descriptor))                                      \
    X(int, cudnnBackendSetAttribute,                                                      \
      (void *descriptor, int name, int type, int64_t count, const void *values))          \
    X(int, cudnnBackendGetAttribute,                                                      \
      (void *descriptor, int name, int type, int64_t room, int64_t *count, void *values)) \
    X(int, cudnnBackendExecute, (void *handle, void *plan, void *pack))

struct cudnn {
#define X(type, name, arguments) type(*name) arguments;
    CUDNN_FUNCTIONS(X)
#undef X
};

#define CUDNN_NUMBERS(X)                                \
    /* kinds of descriptors */                          \
    X(BACKEND_POINTWISE_DESCRIPTOR, 0)                  \
    X(BACKEND_ENGINECFG_DESCRIPTOR, 3)                  \
    X(BACKEND_ENGINE_DESCRIPTOR, 2)                     \
    X(BACKEND_ENGINEHEUR_DESCRIPTOR, 4)                 \
    X(BACKEND_EXECUTION_PLAN_DESCRIPTOR, 5)             \
    X(BACKEND_OPERATION_POINTWISE_DESCRIPTOR, 13)       \
    X(BACKEND_OPERATIONGRAPH_DESCRIPTOR, 15)            \
    X(BACKEND_VARIANT_PACK_DESCRIPTOR, 16)              \
    X(BACKEND_TENSOR_DESCRIPTOR, 17)                    \
    X(BACKEND_MATMUL_DESCRIPTOR, 18)                    \
    X(BACKEND_OPERATION_MATMUL_DESCRIPTOR, 19)          \
    X(BACKEND_REDUCTION_DESCRIPTOR, 21)                 \
    X(BACKEND_OPERATION_REDUCTION_DESCRIPTOR, 22)       \
    X(BACKEND_OPERATION_RESHAPE_DESCRIPTOR, 31)         \
    X(BACKEND_DEVICEPROP_DESCRIPTOR, 38)                \
    /* types of attributes */                           \
    X(TYPE_HANDLE, 0)                                   \
    X(TYPE_DATA_TYPE, 1)                                \
    X(TYPE_BOOLEAN, 2)                                  \
    X(TYPE_INT64, 3)                                    \
    X(TYPE_VOID_PTR, 6)                                 \
    X(TYPE_HEUR_MODE, 8)                                \
    X(TYPE_NUMERICAL_NOTE, 11)                          \
    X(TYPE_POINTWISE_MODE, 14)                          \
    X(TYPE_BACKEND_DESCRIPTOR, 15)                      \
    X(TYPE_REDUCTION_OPERATOR_TYPE, 18)                 \
    X(TYPE_CHAR, 24)                                    \
    /* attributes */                                    \
    X(ATTR_POINTWISE_MODE, 0)                           \
    X(ATTR_POINTWISE_MATH_PREC, 1)                      \
    X(ATTR_POINTWISE_AXIS, 9)                           \
    X(ATTR_ENGINEHEUR_MODE, 200)                        \
    X(ATTR_ENGINEHEUR_OPERATION_GRAPH, 201)             \
    X(ATTR_ENGINEHEUR_RESULTS, 202)                     \
    X(ATTR_ENGINEHEUR_DEVICEPROP, 204)                  \
    X(ATTR_ENGINECFG_ENGINE, 300)                       \
    X(ATTR_ENGINECFG_WORKSPACE_SIZE, 303)               \
    X(ATTR_EXECUTION_PLAN_HANDLE, 400)                  \
    X(ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 401)           \
    X(ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, 402)          \
    X(ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, 750)      \
    X(ATTR_OPERATION_POINTWISE_XDESC, 751)              \
    X(ATTR_OPERATION_POINTWISE_BDESC, 752)              \
    X(ATTR_OPERATION_POINTWISE_YDESC, 753)              \
    X(ATTR_OPERATION_POINTWISE_TDESC, 758)              \
    X(ATTR_OPERATIONGRAPH_HANDLE, 800)                  \
    X(ATTR_OPERATIONGRAPH_OPS, 801)                     \
    X(ATTR_TENSOR_BYTE_ALIGNMENT, 900)                  \
    X(ATTR_TENSOR_DATA_TYPE, 901)                       \
    X(ATTR_TENSOR_DIMENSIONS, 902)                      \
    X(ATTR_TENSOR_STRIDES, 903)                         \
    X(ATTR_TENSOR_UNIQUE_ID, 906)                       \
    X(ATTR_TENSOR_IS_VIRTUAL, 907)                      \
    X(ATTR_TENSOR_IS_BY_VALUE, 908)                     \
    X(ATTR_TENSOR_RAGGED_OFFSET_DESC, 913)              \
    X(ATTR_VARIANT_PACK_UNIQUE_IDS, 1000)               \
    X(ATTR_VARIANT_PACK_DATA_POINTERS, 1001)            \
    X(ATTR_VARIANT_PACK_WORKSPACE, 1003)                \
    X(ATTR_ENGINE_NUMERICAL_NOTE, 1303)                 \
    X(ATTR_MATMUL_COMP_TYPE, 1500)                      \
    X(ATTR_OPERATION_MATMUL_ADESC, 1520)                \
    X(ATTR_OPERATION_MATMUL_BDESC, 1521)                \
    X(ATTR_OPERATION_MATMUL_CDESC, 1522)                \
    X(ATTR_OPERATION_MATMUL_DESC, 1523)                 \
    X(ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, 1525) \
    X(ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, 1526) \
    X(ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, 1527) \
    X(ATTR_REDUCTION_OPERATOR, 1600)                    \
    X(ATTR_REDUCTION_COMP_TYPE, 1601)                   \
    X(ATTR_OPERATION_REDUCTION_XDESC, 1610)             \
    X(ATTR_OPERATION_REDUCTION_YDESC, 1611)             \
    X(ATTR_OPERATION_REDUCTION_DESC, 1612)              \
    X(ATTR_OPERATION_RESHAPE_XDESC, 2200)               \
    X(ATTR_OPERATION_RESHAPE_YDESC, 2201)               \
    X(ATTR_DEVICEPROP_JSON_REPRESENTATION, 2702)        \
    /* values */                                        \
    X(DATA_FLOAT, 0)                                    \
    X(DATA_INT32, 4)                                    \
    X(DATA_BFLOAT16, 9)                                 \
    X(DATA_INT64, 10)                                   \
    X(DATA_BOOLEAN, 11)                                 \
    X(POINTWISE_ADD, 0)                                 \
    X(POINTWISE_MUL, 1)                                 \
    X(POINTWISE_DIV, 6)                                 \
    X(POINTWISE_SUB, 9)                                 \
    X(POINTWISE_EXP, 13)                                \
    X(POINTWISE_LOG, 15)                                \
    X(POINTWISE_CMP_GT, 302)                            \
    X(POINTWISE_CMP_GE, 303)                            \
    X(POINTWISE_CMP_LT, 304)                            \
    X(POINTWISE_LOGICAL_AND, 400)                       \
    X(POINTWISE_GEN_INDEX, 501)                         \
    X(POINTWISE_BINARY_SELECT, 601)                     \
    X(REDUCE_TENSOR_ADD, 0)                             \
    X(REDUCE_TENSOR_MAX, 3)                             \
    X(HEUR_MODE_A, 3)                                   \
    X(NUMERICAL_NOTE_NONDETERMINISTIC, 4)               \
    X(NUMERICAL_NOTE_TYPE_COUNT, 10)

enum {
#define X(name, number) DNN_##name = number,
    CUDNN_NUMBERS(X)
#undef X
};

/* The library, from the first call on for as long as the process lives; NULL and ERR_DEVICE where
 * it is not found or too old, with the package that brings it as the hint. */
const struct cudnn *cudnn_load(struct err *e);

#endif
