/* attention_line.cuh - a line of attention by itself, for those that a product has spoilt.
 *
 * Tensor cores multiply whole tiles, and a probability of 0 does not hide a NaN in v: 0 NaN = NaN.
 * Rows of v that some lines of a tile see and others do not, do come in; where one holds a NaN or
 * an infinity, the others end as NaN too, and are computed anew, key by key. Where all is finite
 * that costs a look at the sums of a block's end.
 *
 * Forward alone. Whatever is no number in q, k or v is one in the gradients of the weights that it
 * came from, by any kernel, since the row itself sees it: such a step is left out as a whole, and
 * which document was at fault is told by the losses.
 */
#ifndef CRIA_KERNELS_CUDA_ATTENTION_LINE_CUH
#define CRIA_KERNELS_CUDA_ATTENTION_LINE_CUH

#include "kernels/cuda/attention_flash.cuh"

/* Whether a NaN or an infinity is among a thread's columns 2 half and 2 half + 1 of each 4, or
 * those of the other lanes of its line. */
template <int N> DEVICE int is_broken(const float (&sums)[N][4], int half)
{
    float sum = 0;
    UNROLL for (int n = 0; n < N; n++) sum += 0 * sums[n][2 * half] + 0 * sums[n][2 * half + 1];
    return quad_sum(sum) != 0;
}

/* o of a row of a segment and a query head, by a warp: D/32 columns a lane, from D/32 lane on. */
template <int D>
DEVICE void compute_line(float (&o)[D / WARP_SIZE], const struct kern_attention &a,
                         const struct segment &s, int32_t head, int32_t row)
{
    enum { EACH = D / WARP_SIZE };
    int32_t mine = EACH * lane_id(), position = s.position + row, kv_head = head / (a.H / a.KV);
    float q[EACH], top = -INFINITY, sum = 0;
    const struct bf16 *from =
        (const struct bf16 *)a.q + mine + head * D + (size_t)(s.start + row - a.first_row) * a.ldq;
    for (int i = 0; i < EACH; i++) q[i] = to_float(from[i]) * a.scale * LOG2_E, o[i] = 0;
    for (int which = 0; which < SPANS; which++) {
        struct key_span span = span_of(s, which, a.window, position, position);
        for (int32_t j = span.begin; j < span.end; j++) {
            size_t at = (size_t)(span.row + j), column = (size_t)(kv_head * D + mine);
            const struct bf16 *k = (const struct bf16 *)a.k + at * a.ldk + column;
            const struct bf16 *v = (const struct bf16 *)a.v + at * a.ldv + column;
            float score = 0, most, keep, p;
            for (int i = 0; i < EACH; i++) score += q[i] * to_float(k[i]);
            score = warp_sum(score);
            most = fmaxf(top, score);
            keep = power_of_2(top - most), p = power_of_2(score - most);
            top = most, sum = sum * keep + p;
            for (int i = 0; i < EACH; i++) o[i] = o[i] * keep + p * to_float(v[i]);
        }
    }
    for (int i = 0; i < EACH; i++) o[i] /= sum;
}

#endif
