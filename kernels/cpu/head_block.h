/* head_block.h - a block of the head: some rows by some words of the vocabulary.
 *
 * A pass goes through the vocabulary in blocks of `words`. A block's logits are made tile by tile,
 * PIECE rows by STRIP words, and each tile becomes e = exp(z - ref) before it leaves the cache:
 * ref is a row's anchor, known before the first product (its target's logit, or its lse), so
 * blocks need not wait for a maximum. Where a logit lies more than LIMIT above ref, ref is raised
 * to it and all there is of the row is scaled down; exp(LIMIT) squared and summed over a
 * vocabulary is far from what overflows.
 *
 * The target's e is 0 in the block: gradients need 1 - p of it, which is the others' share, and
 * exact however likely the target.
 *
 * Of every row over the blocks so far are kept: sum z, sum e, sum e (z - ref), sum e^2 (the last
 * two if the head's caller wants what comes of them), the greatest logit and its first word, and
 * sum_v e_v W_v.
 */
#ifndef CRIA_KERNELS_CPU_HEAD_BLOCK_H
#define CRIA_KERNELS_CPU_HEAD_BLOCK_H

#include "kernels/kernels.h"

/* A block is also a whole number of strips of the weight's gradient (CPU_TURNED_ROWS). */
enum { HEAD_PIECE = 128, HEAD_STRIP = 192, HEAD_WORDS = 4 * HEAD_STRIP };

/* Of one row, over the blocks so far. */
struct head_row {
    double e, ez, e2, z; /* sums: e, e (z - ref), e^2, z */
    float ref, top;      /* top: -inf before the first block */
    float at_target, e_target;
    int32_t first; /* the first word whose logit is top */
};

/* Of one row of a tile. */
struct head_tile {
    float e, ez, e2, z, ref, top;
    int32_t first; /* looked for only where top exceeds the row's */
};

/* `count` rows from s0 on, on their way through the vocabulary. */
struct head_pass {
    struct device *d;
    const struct kern_head *h;
    int32_t s0, count;
    int keep;                /* every block's e stays, behind the one before */
    float *dx;               /* [count, C] sum_v e_v W_v; NULL: not wanted */
    float *xs;               /* [count, C] inputs */
    float *wt;               /* [HEAD_WORDS, C] a block of W, its strips turned: [C, strip] each */
    float *e;                /* [count, words]; keeping: block v0 at e + count * v0 */
    struct head_row *rows;   /* [count]; ref and top set, the rest 0 */
    struct head_tile *tiles; /* [strips, count] */
};

/* Words v0 ... v0+n-1, n <= HEAD_WORDS. Afterwards the block lies at head_block_at(p, v0), row
 * stride n. */
void head_block_pass(struct head_pass *p, int32_t v0, int32_t n);

float *head_block_at(const struct head_pass *p, int32_t v0);

#endif
