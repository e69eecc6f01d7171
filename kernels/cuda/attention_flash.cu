/* attention_flash.cu - o = softmax(q k^T * scale + mask) v and lse on tensor cores.
 *
 * The model, sizes, cost: attention_flash.cuh. A block owns R packed lines of one segment and key
 * head. For each tile of keys that some line sees, prefix first:
 *   s = q k^T;  m' = max(m, max s);  p = 2^((s - m') c), c = scale log2 e;  f = 2^((m - m') c)
 *   l = l f + sum p;  o = o f + bf16(p) v         at the end o / l, lse = m scale + ln l
 * A row that has seen no key yet has m = -inf, and 0 in its place where that would give NaN.
 * q [N, H*D], k and v [rows, KV*D], o [N, H*D], lse [N, H]; rows of q, o and lse count from
 * first_row, so decoding goes here too, but for few rows (attention_decode.cu).
 * Grid: tiles x KV, key head fastest; deterministic: a block goes over its keys in order.
 */
#include "kernels/cuda/attention_line.cuh"

/* Of a thread's rows: the largest score, and this lane's part of the sum. Where all else fills 255
 * registers the sums lie in shared memory, row r at sums[r * THREADS]. */
template <class S> struct softmax_state {
    enum { SHARED_SUMS = S::D == 128 && S::M == 2 };
    enum { SHARED_BYTES = SHARED_SUMS ? S::ROWS * S::THREADS * (int)sizeof(float) : 0 };
    float top[S::ROWS], own[SHARED_SUMS ? 1 : S::ROWS], *sums;
};

template <class S> DEVICE float &sum_of(struct softmax_state<S> &state, int r)
{
    if constexpr (softmax_state<S>::SHARED_SUMS)
        return state.sums[r * S::THREADS];
    else
        return state.own[r];
}

/* scores become p; what was summed up before is brought to the new maximum. */
template <class S>
DEVICE void take_softmax(struct softmax_state<S> &state, typename S::scores &scores,
                         typename S::sums &o, float to_base_2)
{
    UNROLL for (int r = 0; r < S::ROWS; r++)
    {
        float most = state.top[r];
        UNROLL for (int n = 0; n < S::C / 8; n++)
        {
            const float *c = &scores[r / 2][n][r % 2 * 2];
            most = fmaxf(most, fmaxf(c[0], c[1]));
        }
        most = quad_max(most);
        float base = most == -INFINITY ? 0 : most * to_base_2, sum = 0;
        float keep = power_of_2(state.top[r] * to_base_2 - base);
        UNROLL for (int n = 0; n < S::C / 8; n++)
        {
            float *c = &scores[r / 2][n][r % 2 * 2];
            c[0] = power_of_2(c[0] * to_base_2 - base);
            c[1] = power_of_2(c[1] * to_base_2 - base);
            sum += c[0] + c[1];
        }
        state.top[r] = most;
        sum_of(state, r) = sum_of(state, r) * keep + sum;
        UNROLL for (int n = 0; n < S::D / 8; n++)
        {
            o[r / 2][n][r % 2 * 2] *= keep;
            o[r / 2][n][r % 2 * 2 + 1] *= keep;
        }
    }
}

/* Computes anew those of the warp's lines that a hidden NaN may have reached. broken[r]: bit l says
 * what lane l knows of the row it holds. */
template <class S>
DEVICE void repair(const struct kern_attention &a, const struct line_group &group,
                   const struct line_block &b, const uint32_t (&broken)[S::ROWS])
{
    __syncwarp(); /* behind what other lanes wrote there */
    for (int i = 0; i < S::WARP_ROWS; i++) {
        uint32_t known = 0;
        UNROLL for (int r = 0; r < S::ROWS; r++) if (r == i / 8) known = broken[r];
        if (!(known >> i % 8 * 4 & 1)) continue;
        int32_t n = b.first + warp_id() * S::WARP_ROWS + i, row = row_of(group, n);
        int32_t head = b.kv_head * group.size + n - row * group.size;
        float o[S::D / WARP_SIZE];
        compute_line<S::D>(o, a, b.segment, head, row);
        struct bf16 *to = (struct bf16 *)a.o + (query_row(a, b) + row) * a.ldo + head * S::D;
        for (int e = 0; e < S::D / WARP_SIZE; e++)
            to[S::D / WARP_SIZE * lane_id() + e] = from_float<struct bf16>(o[e]);
    }
}

/* Ends the sums, writes o and lse. `tile` is q's, of which the warp's own rows are no longer read
 * by others. */
template <class S>
DEVICE void put_outputs(const struct kern_attention &a, const struct line_group &group,
                        const struct line_block &b, unsigned char *tile, typename S::sums &o,
                        struct softmax_state<S> &state)
{
    size_t row = query_row(a, b);
    float factor[S::ROWS];
    uint32_t broken[S::ROWS], any = 0;
    UNROLL for (int r = 0; r < S::ROWS; r++)
    {
        float sum = quad_sum(sum_of(state, r));
        int known = is_broken(o[r / 2], r % 2) && row_held<S>(r) < b.count;
        any |= broken[r] = __ballot_sync(ALL_LANES, known);
        int32_t n = b.first + row_held<S>(r), line = row_of(group, n);
        factor[r] = 1 / sum;
        if (a.lse && lane_id() % 4 == 0 && row_held<S>(r) < b.count)
            a.lse[(row + line) * a.H + b.kv_head * group.size + (n - line * group.size)] =
                state.top[r] * a.scale + logf(sum);
    }
    __syncwarp(); /* all lanes have read q */
    put_rows<S, true>((struct bf16 *)a.o + row * a.ldo + (size_t)b.kv_head * group.size * S::D,
                      a.ldo, group, b.first, b.count, tile, o, factor);
    if (any) repair<S>(a, group, b, broken);
}

template <class S>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS)
    flash_forward(struct kern_attention a, struct line_group group,
                  const struct attention_tile *tiles)
{
    DYNAMIC_SHARED(memory);
    const uint32_t q = shared_address(memory), k = q + S::STAY, v = k + S::PASS;
    struct attention_tile tile = tiles[blockIdx.x / a.KV];
    if (tile.segment < 0) return;
    const struct line_block b = lines_of<S>(a, group, tile);
    struct line_block *kept = (struct line_block *)(memory + S::STAY + 2 * S::PASS);
    if (threadIdx.x == 0) *kept = b;
    struct flash_side queries = {(const struct bf16 *)a.q + query_row(a, b) * a.ldq +
                                     b.kv_head * group.size * S::D,
                                 (size_t)a.ldq};
    struct key_walk walk = walk_keys(b, a.window);
    struct softmax_state<S> state;
    typename S::sums o;
    clear_sums<S>(o);
    state.sums = (float *)(kept + 1) + threadIdx.x;
    UNROLL for (int r = 0; r < S::ROWS; r++) state.top[r] = -INFINITY, sum_of(state, r) = 0;
    fetch_rows<S, true, S::R>(q, queries, group, b.first, b.count);
    fetch_rows<S, false, S::C>(k, keys_of<S>(a.k, a.ldk, b), group, walk.row, walk.left);
    copy_async_commit();
    while (walk.left > 0) {
        typename S::scores scores;
        typename S::weights p;
        copy_async_wait<0>();
        __syncthreads(); /* k is there, and everybody is through with v */
        fetch_rows<S, false, S::C>(v, keys_of<S>(a.v, a.ldv, *kept), group, walk.row, walk.left);
        copy_async_commit();
        multiply_rows<S>(scores, left_at<S>(q), right_at<S>(k));
        hide_keys<S>(scores, walk, *kept, a.window, group);
        copy_async_wait<0>();
        __syncthreads(); /* v is there, and everybody is through with k */
        next_keys<S>(walk, *kept, a.window);
        if (walk.left > 0) {
            fetch_rows<S, false, S::C>(k, keys_of<S>(a.k, a.ldk, *kept), group, walk.row,
                                       walk.left);
            copy_async_commit();
        }
        take_softmax<S>(state, scores, o, a.scale * LOG2_E);
        pack_weights<S>(p, scores);
        multiply_weights<S>(o, p, turned_at<S>(v));
    }
    put_outputs<S>(a, group, *kept, memory, o, state);
}

template <class S>
static void forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    const struct attention_tile *tiles = flash_sort_tiles(d, scratch, a, FLASH_LINES, S::R);
    int32_t blocks = flash_max_tiles(a, FLASH_LINES, S::R) * a->KV;
    launch(d, "attention forward", flash_forward<S>, (unsigned)blocks, S::THREADS,
           S::STAY + 2 * S::PASS + sizeof(struct line_block) + softmax_state<S>::SHARED_BYTES, *a,
           flash_group(a), tiles);
}

void cuda_flash_attention_forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    if (a->N <= 0 || a->num_segments <= 0) return;
    WITH_FLASH_FORWARD(d, a, S, forward<S>(d, a, scratch));
}

/* --- the engine --- */

int cuda_flash_attention_fits(const struct device *d, const struct kern_attention *a)
{
    size_t group = (size_t)(a->H / a->KV), lines = (size_t)a->N * group;
    return d->type == DTYPE_BF16 && (a->D == 64 || a->D == 128) && a->scale > 0 &&
           lines * group <= INT32_MAX && /* row_of */
           packs(a->q, a->ldq, 2) && packs(a->k, a->ldk, 2) && packs(a->v, a->ldv, 2) &&
           packs(a->o, a->ldo, 2);
}

size_t cuda_flash_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    (void)d;
    size_t tiles = flash_tiles_bytes(flash_max_tiles(a, FLASH_LINES, FLASH_FEWEST_ROWS));
    size_t backward = flash_backward_scratch(a);
    return tiles > backward ? tiles : backward;
}
