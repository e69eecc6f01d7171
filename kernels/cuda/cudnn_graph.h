/* cudnn_graph.h - attention as a graph of cuDNN's, forward and backward.
 *
 * The graphs are those that cudnn-frontend 1.32 builds of its "sdpa" nodes (composite, padding
 * mask, causal from the top left, ragged): engines know them by their pattern, so nodes that
 * compute nothing (a product by one) stand here too.
 *
 *   forward   s = q k^T scale, masked: beyond a sequence, of the future, outside the window
 *             m = max s;  e = exp(s - m);  l = sum e;  stats = m + log l;  o = bf16(e / l) v
 *   backward  delta = sum do o;  p = exp(mask(q k^T scale - stats));  dv = bf16(p)^T do
 *             ds = (do v^T - delta) p scale;  dk = bf16(ds)^T q;  dq = ds k
 *             with fewer key heads: dk and dv of each query head, then summed
 *
 * Sequences. Tensors are [sequences, heads, length, D]. Sequence i begins `offset[i]` elements
 * behind a tensor's address, an array a tensor, and has len[i] rows; rows behind are neither read
 * nor written. So segments may lie anywhere, and rows of no segment are left alone.
 *
 * Determinism. dq is a product by itself, not summed in memory in any order: cuDNN then keeps ds
 * in its workspace (for Hopper sequences * H * length^2 bf16), which is the price. An engine that
 * cuDNN notes as not deterministic is passed over.
 */
#ifndef CRIA_KERNELS_CUDA_CUDNN_GRAPH_H
#define CRIA_KERNELS_CUDA_CUDNN_GRAPH_H

#include "kernels/cuda/cudnn.h"

/* What a plan is made for. Compared as bytes: all are int32_t, and none is left out. */
struct sdpa_shape {
    int32_t backward;
    int32_t sequences, length; /* at most: longer than any */
    int32_t H, KV, D;
    int32_t window;             /* keys a row sees; 0: all */
    int32_t ldq, ldk, ldv, ldo; /* elements from row to row; do has o's */
    int32_t lddq, lddk, lddv;   /* 0 in forward */
};

/* The tensors a plan is given addresses of, on the device:
 *   Q to DV          the matrices; STATS [rows, H] fp32
 *   DELTA            [sequences, H, length] fp32, backward's own
 *   ROWS, KEYS       [sequences] int32: how many of each
 *   AT_Q to AT_DV    [sequences + 1] int64: offsets into the matrices
 * and, on the host, floats: SCALE, ONE (1), HIDDEN (-inf) and WINDOW. */
#define SDPA_TENSORS(X) \
    X(Q)                \
    X(K)                \
    X(V)                \
    X(O)                \
    X(STATS)            \
    X(DO)               \
    X(DQ)               \
    X(DK)               \
    X(DV)               \
    X(DELTA)            \
    X(ROWS)             \
    X(KEYS)             \
    X(AT_Q)             \
    X(AT_K)             \
    X(AT_V)             \
    X(AT_O)             \
    X(AT_STATS)         \
    X(AT_DQ)            \
    X(AT_DK)            \
    X(AT_DV)            \
    X(SCALE)            \
    X(ONE)              \
    X(HIDDEN)           \
    X(WINDOW)

enum sdpa_tensor {
    SDPA_NO_TENSOR,
#define X(name) SDPA_##name,
    SDPA_TENSORS(X)
#undef X
        SDPA_TENSORS_END
};

/* Where plans are for: an open handle, or properties of a device that need not be there. */
struct sdpa_target {
    const struct cudnn *lib;
    void *handle, *properties; /* one of them */
};

struct sdpa_plan {
    struct sdpa_shape shape;
    void *config, *plan;
    size_t workspace; /* bytes */
};

/* Finds an engine: `config`, and how much workspace it asks for. Compiles nothing. ERR_UNSUPPORTED:
 * there is none; ERR_DEVICE: a call failed; the message says which. Free in any case. */
enum status sdpa_choose(struct sdpa_plan *p, const struct sdpa_target *t,
                        const struct sdpa_shape *s, struct err *e);
/* After sdpa_choose, with an open handle: makes `plan`, loading or compiling its kernels.
 * ERR_DEVICE. */
enum status sdpa_make(struct sdpa_plan *p, const struct sdpa_target *t, struct err *e);
void sdpa_plan_free(struct sdpa_plan *p, const struct cudnn *lib); /* a zeroed one is fine */

/* Whether a plan of this shape is given an address of this tensor. */
int sdpa_uses(const struct sdpa_shape *s, enum sdpa_tensor tensor);

/* Queues the plan on the handle's stream. at[SDPA_TENSORS_END]: what sdpa_uses. 0 or cuDNN's
 * status. */
int sdpa_run(const struct sdpa_plan *p, const struct sdpa_target *t, void *const *at,
             void *workspace);

#endif
