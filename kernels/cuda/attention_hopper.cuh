/* attention_hopper.cuh - attention forward for sm_90a: the model, and what a block keeps.
 *
 * For bf16, heads of 64 and 128, rows that are 16-aligned, no cache; the rest goes to flash.
 * NOT RUN ON A DEVICE YET: emulated only (hopper.cuh). The schedule is FlashAttention-3's (Shah et
 * al. 2024, arXiv:2407.08608).
 *
 * The model
 *   A block owns R lines, which stay: `rows` rows of a segment for each of `heads` query heads that
 *   share a key head (line n: head n / rows, row n % rows). So a tile of four heads spans R/4
 *   positions, and a short segment fills it. C keys at a time pass by.
 *
 *   Of its warpgroups (128 threads) the last one produces: one thread issues copies (TMA) of K and
 *   V, two stages each; the others of it end, and its registers go to the rest.
 *
 *   The other warpgroups consume: 64 lines each, whose scores s and sums o are their registers, so
 *   that no softmax needs another's numbers.
 *     s [64, C] = q k^T    both in shared memory
 *     o [64, D] += p v     p in registers, where softmax left it
 *
 * What overlaps
 *   Within a consumer: it issues s(t+1) = q k(t+1)^T and behind it o += p(t) v(t), takes the
 *   softmax of s(t+1) as soon as that is there, under the second product, then brings o to the new
 *   maximum.
 *
 *   Between consumers (ping-pong): who issues has the turn and hands it on when both products are
 *   queued (named barriers, in a ring), so that one's softmax runs under another's products.
 *
 *   A stage of K is free when p is there, one of V when o is: an arrival of each consumer's warp.
 *
 * Hidden keys. Masks go by position, at tiles on a border alone (causal, window, ragged end). Rows
 * below a segment's end, another's or nobody's, never come in: the copy puts zeros there
 * (tensor_map.h). Lines that a NaN in a hidden row of v has reached are computed anew
 * (attention_line.cuh); their lse needs no repair: scores are hidden by choosing.
 *
 * Shared memory: q, then stages of k, then of v, all in panels of 64 columns (hopper.cuh), then
 * struct hopper_block. o goes out by way of q's place.
 *
 * Sizes: lines, keys a step, threads, KiB; registers of a consumer and of the producer.
 *   D  64   128 x 128   384    81   240   24
 *   D 128   128 x 128   384   161   240   24
 * One block an SM. ptxas names the registers at the start, 168; no spills.
 *
 * Cost. FLOPs a visible pair and query head: 4 D; an SM does 4096 a clock.
 *   C keys and values (4 C D bytes) serve R lines: 32 bytes a clock come from L2.
 *   Shared memory, of 128 bytes a clock: 96 for s (q and k, 6 KB in 64 clocks), 64 for o.
 *   Exponentials, 16 a clock: as many clocks as the products at D 64, half as many at D 128.
 * Floor, D 128, causal, 8192 rows, 32 heads: 0.55 TFLOP, at 790 TFLOP/s 0.7 ms; the goal is 500
 * TFLOP/s. What is not hidden: a block's first copies and its last product, since there is one
 * block an SM and blocks do not persist.
 */
#ifndef CRIA_KERNELS_CUDA_ATTENTION_HOPPER_CUH
#define CRIA_KERNELS_CUDA_ATTENTION_HOPPER_CUH

#include "kernels/cuda/attention_line.cuh"
#include "kernels/cuda/hopper.cuh"

/* A kernel's sizes. D columns; GROUPS consumers; C keys a step; registers that a thread of the
 * producer is left with, and that one of a consumer takes: of those that a block starts with. */
template <int D_, int GROUPS_, int C_, int LEFT_, int TAKEN_> struct hopper {
    enum { D = D_, GROUPS = GROUPS_, C = C_, LEFT = LEFT_, TAKEN = TAKEN_, STAGES = 2 };
    enum { GROUP = 128, CONSUMERS = GROUP * GROUPS, THREADS = CONSUMERS + GROUP };
    enum { GROUP_LINES = 64, R = GROUP_LINES * GROUPS, PANELS = D / 64 };
    enum { STAY_PANEL = R * 128, PASS_PANEL = C * 128 };
    enum { STAY = PANELS * STAY_PANEL, PASS = PANELS * PASS_PANEL };
    enum { K_AT = STAY, V_AT = K_AT + STAGES * PASS, BLOCK_AT = V_AT + STAGES * PASS };
    typedef float scores[C / 8][4];
    typedef float sums[D / 8][4];
    typedef uint32_t weights[C / 16][4]; /* scores as a left side, in bf16 */
    static_assert((LEFT + GROUPS * TAKEN) * GROUP <= 65536 / THREADS / 8 * 8 * THREADS,
                  "registers are given before they are taken");
};

/* Lines of a tile: `rows` each of `heads` heads; `box` at a time are copied. */
struct hopper_pack {
    int32_t heads, rows, box;
};

/* What a block's threads share beside the tiles. Barriers: of `stage`, phase n is its n-th use. */
template <class S> struct hopper_block {
    uint64_t q_there, k_there[S::STAGES], v_there[S::STAGES]; /* filled */
    uint64_t k_free[S::STAGES], v_free[S::STAGES];            /* through with */
    struct line_block lines; /* first and count: rows of the segment */
    int32_t head;            /* the first one of the tile */
};

#endif
