/* attention_flash_backward.cu - dq, dk and dv on tensor cores; p is computed again from lse.
 *
 * The model, sizes, cost: attention_flash.cuh. With c = scale log2 e and, from a first pass,
 * stats = {lse log2 e, delta = rowsum(do o)} of each line:
 *   p = 2^(c q k^T - lse log2 e);  dp = do v^T;  ds = p (dp - delta)
 *   dv += bf16(p)^T do;  dk += scale bf16(ds)^T q;  dq += scale bf16(ds) k
 * A block of key_gradients owns R keys of one segment and key head and goes over all lines that see
 * them, of its own segment and of those of its document whose prefix they are in: scores turned, a
 * row a key. A block of query_gradients owns R lines and goes over their keys, as forward does.
 * Layout as forward; d_o has o's row stride, dq, dk and dv their own; rows of no segment are left
 * alone. Grids: tiles x KV, key head fastest. Deterministic: every output has one block, which
 * takes the other side in order.
 */
#include "kernels/cuda/attention_flash.cuh"

/* What backward wants to know of a line. Lines lie as packed: [KV, N * group]. */
struct alignas(8) line_stats {
    float lse, delta; /* lse to base 2 */
};

enum { STATS_THREADS = 128 };

/* D/8 lanes a line, 16 bytes a lane. */
template <int D>
__global__ void __launch_bounds__(STATS_THREADS)
    flash_stats(struct line_stats *stats, struct kern_attention a, const struct bf16 *d_o)
{
    constexpr int LANES = D / 8;
    int64_t lines = (int64_t)a.N * a.H;
    int64_t line = (int64_t)blockIdx.x * (STATS_THREADS / LANES) + threadIdx.x / LANES;
    int chunk = (int)threadIdx.x % LANES, there = line < lines;
    if (!there) line = lines - 1;
    int32_t row = (int32_t)(line / a.H), head = (int32_t)(line % a.H), group = a.H / a.KV;
    size_t at = (size_t)row * a.ldo + (size_t)(head * D + 8 * chunk);
    float x[8], y[8], sum = 0;
    load(x, d_o + at);
    load(y, (const struct bf16 *)a.o + at);
    UNROLL for (int i = 0; i < 8; i++) sum += x[i] * y[i];
    UNROLL for (int o = 1; o < LANES; o *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, o);
    if (chunk || !there) return;
    struct line_stats s = {a.lse[line] * LOG2_E, sum};
    stats[((size_t)(head / group) * a.N + row) * group + head % group] = s;
}

/* p and ds in place of scores and dp, for one thread's pair. */
DEVICE void score_gradient(float &score, float &dp, float to_base_2, float lse, float delta)
{
    score = power_of_2(score * to_base_2 - lse);
    dp = score * (dp - delta);
}

/* --- dq --- */

template <class S>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS)
    flash_query_gradients(struct kern_attention a, struct kern_attention_grad g,
                          struct line_group group, const struct attention_tile *tiles,
                          const struct line_stats *stats)
{
    DYNAMIC_SHARED(memory);
    const uint32_t q = shared_address(memory), d_o = q + S::STAY, passing = d_o + S::STAY;
    struct attention_tile tile = tiles[blockIdx.x / a.KV];
    if (tile.segment < 0) return;
    const struct line_block b = lines_of<S>(a, group, tile);
    struct line_block *kept = (struct line_block *)(memory + 2 * S::STAY + 4 * S::PASS);
    if (threadIdx.x == 0) *kept = b;
    size_t row = query_row(a, b), head = (size_t)b.kv_head * group.size * S::D;
    struct flash_side queries = {(const struct bf16 *)a.q + row * a.ldq + head, (size_t)a.ldq};
    struct flash_side outputs = {(const struct bf16 *)g.d_o + row * a.ldo + head, (size_t)a.ldo};
    struct key_walk walk = walk_keys(b, a.window);
    struct line_stats of[S::ROWS];
    typename S::sums dq;
    clear_sums<S>(dq);
    fetch_rows<S, true, S::R>(q, queries, group, b.first, b.count);
    fetch_rows<S, true, S::R>(d_o, outputs, group, b.first, b.count);
    fetch_rows<S, false, S::C>(passing, keys_of<S>(a.k, a.ldk, b), group, walk.row, walk.left);
    fetch_rows<S, false, S::C>(passing + S::PASS, keys_of<S>(a.v, a.ldv, b), group, walk.row,
                               walk.left);
    copy_async_commit();
    stats += ((size_t)b.kv_head * a.N + row) * group.size + b.first;
    UNROLL for (int r = 0; r < S::ROWS; r++) of[r] =
        stats[min((int32_t)row_held<S>(r), b.count - 1)];
    for (int stage = 0; walk.left > 0; stage ^= 1) {
        typename S::scores p, ds;
        typename S::weights weights;
        struct key_walk here = walk;
        uint32_t k = passing + stage * 2 * S::PASS, next = passing + (stage ^ 1) * 2 * S::PASS;
        copy_async_wait<0>();
        __syncthreads(); /* this stage is there, and everybody is through with the other */
        next_keys<S>(walk, *kept, a.window);
        if (walk.left > 0) {
            fetch_rows<S, false, S::C>(next, keys_of<S>(a.k, a.ldk, *kept), group, walk.row,
                                       walk.left);
            fetch_rows<S, false, S::C>(next + S::PASS, keys_of<S>(a.v, a.ldv, *kept), group,
                                       walk.row, walk.left);
            copy_async_commit();
        }
        multiply_rows<S>(p, left_at<S>(q), right_at<S>(k));
        hide_keys<S>(p, here, *kept, a.window, group);
        multiply_rows<S>(ds, left_at<S>(d_o), right_at<S>(k + S::PASS));
        UNROLL for (int m = 0; m < S::M; m++) UNROLL for (int n = 0; n < S::C / 8; n++)
            UNROLL for (int i = 0; i < 4; i++)
                score_gradient(p[m][n][i], ds[m][n][i], a.scale * LOG2_E, of[2 * m + i / 2].lse,
                               of[2 * m + i / 2].delta);
        pack_weights<S>(weights, ds);
        multiply_weights<S>(dq, weights, turned_at<S>(k));
    }
    float factor[S::ROWS];
    UNROLL for (int r = 0; r < S::ROWS; r++) factor[r] = a.scale;
    __syncwarp(); /* all lanes have read q */
    put_rows<S, true>((struct bf16 *)g.dq + query_row(a, *kept) * g.lddq +
                          (size_t)kept->kv_head * group.size * S::D,
                      (size_t)g.lddq, group, kept->first, kept->count, memory, dq, factor);
}

/* --- dk and dv: lines that pass --- */

/* A block's tile of keys; in shared memory. */
struct key_block {
    int32_t segment;
    int32_t key, count; /* rows of k and v */
    int32_t kv_head;
};

/* Lines of one segment that see the tile, in their own segment or in what their prefix is. */
struct line_walk {
    int32_t segment;
    int own;
    int32_t line, left; /* 0 or less: no more */
};

/* Moves on to the next range of lines: segments of the document in order, prefix before own. */
DEVICE void find_lines(struct line_walk &w, const struct kern_attention &a,
                       const struct key_block &b, int32_t group)
{
    int32_t document = a.segments[b.segment].document;
    w.left = 0;
    while (w.left <= 0) {
        w.own ^= 1;
        if (!w.own && (++w.segment == a.num_segments || a.segments[w.segment].document != document))
            return;
        struct query_range q = queries_of(a.segments[w.segment], w.own, w.segment == b.segment,
                                          a.window, b.key, b.key + b.count - 1);
        w.line = q.begin * group, w.left = (q.end - q.begin) * group;
    }
}

template <class S>
DEVICE void next_lines(struct line_walk &w, const struct kern_attention &a,
                       const struct key_block &b, int32_t group)
{
    w.line += S::C, w.left -= S::C;
    if (w.left <= 0) find_lines(w, a, b, group);
}

/* Hides keys from the lines at w that do not see them, if there are such: a row of scores is a
 * key, a column a line. In rows of its segment, a line sees key `equal` from row `equal` on. */
template <class S>
DEVICE void hide_lines(typename S::scores &scores, const struct line_walk &w,
                       const struct kern_attention &a, const struct key_block &b, int32_t group)
{
    const struct segment &t = a.segments[w.segment];
    int32_t shift = w.own ? -t.start : -t.prefix_start - t.position;
    int32_t end = b.key + b.count, from = w.own ? b.key : t.prefix_start;
    int32_t upto = w.own ? end : t.prefix_start + t.prefix_length;
    int all = w.left >= S::C && from <= b.key && upto >= end;
    if (w.own && (end - 1 + shift) * group > w.line) all = 0;
    if (a.window > 0 && (b.key + shift + a.window) * group < w.line + S::C) all = 0;
    if (all) return;
    int32_t low[S::ROWS], high[S::ROWS];
    UNROLL for (int r = 0; r < S::ROWS; r++)
    {
        int32_t key = b.key + row_held<S>(r), equal = key + shift;
        low[r] = w.own ? equal * group - w.line : 0;
        high[r] = key < from || key >= upto ? 0 : w.left;
        if (a.window > 0) high[r] = min(high[r], (equal + a.window) * group - w.line);
    }
    hide_columns<S>(scores, low, high);
}

/* Issues copies of the next C lines: q, do, stats. */
template <class S>
DEVICE void fetch_lines(uint32_t to, const struct line_walk &w, const struct kern_attention &a,
                        const struct kern_attention_grad &g, const struct key_block &b,
                        const struct line_group &group, const struct line_stats *stats)
{
    size_t row = (size_t)a.segments[w.segment].start;
    size_t head = (size_t)b.kv_head * group.size * S::D;
    struct flash_side queries = {(const struct bf16 *)a.q + row * a.ldq + head, (size_t)a.ldq};
    struct flash_side outputs = {(const struct bf16 *)g.d_o + row * a.ldo + head, (size_t)a.ldo};
    fetch_rows<S, true, S::C>(to, queries, group, w.line, w.left);
    fetch_rows<S, true, S::C>(to + S::PASS, outputs, group, w.line, w.left);
    stats += ((size_t)b.kv_head * a.N + row) * group.size + w.line;
    int n = (int)threadIdx.x;
    if (n < S::C)
        copy_async_8(to + 2 * S::PASS + n * (int)sizeof *stats, stats + (n < w.left ? n : 0),
                     n < w.left ? 8 : 0);
}

/* p and ds in place of scores and dp, both turned. */
template <class S>
DEVICE void turned_gradients(typename S::scores &p, typename S::scores &ds,
                             const struct line_stats *stats, float to_base_2)
{
    UNROLL for (int n = 0; n < S::C / 8; n++)
    {
        float4 of = *(const float4 *)(stats + 8 * n + 2 * (lane_id() % 4)); /* of two lines */
        UNROLL for (int m = 0; m < S::M; m++) UNROLL for (int i = 0; i < 4; i++) score_gradient(
            p[m][n][i], ds[m][n][i], to_base_2, i % 2 ? of.z : of.x, i % 2 ? of.w : of.y);
    }
}

template <class S>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS)
    flash_key_gradients(struct kern_attention a, struct kern_attention_grad g,
                        struct line_group group, const struct attention_tile *tiles,
                        const struct line_stats *stats)
{
    constexpr int STAGE = 2 * S::PASS + S::C * (int)sizeof(struct line_stats);
    DYNAMIC_SHARED(memory);
    const uint32_t k = shared_address(memory), v = k + S::STAY, passing = v + S::STAY;
    struct attention_tile tile = tiles[blockIdx.x / a.KV];
    if (tile.segment < 0) return;
    struct segment s = a.segments[tile.segment];
    const struct key_block b = {tile.segment, s.start + tile.first,
                                min((int32_t)S::R, s.length - tile.first),
                                (int32_t)blockIdx.x % a.KV};
    struct key_block *kept = (struct key_block *)(memory + 2 * S::STAY + 2 * STAGE);
    if (threadIdx.x == 0) *kept = b;
    struct flash_side keys = {(const struct bf16 *)a.k + b.kv_head * S::D, (size_t)a.ldk};
    struct flash_side values = {(const struct bf16 *)a.v + b.kv_head * S::D, (size_t)a.ldv};
    struct line_walk walk = {document_begin(a.segments, tile.segment) - 1, 1, 0, 0};
    find_lines(walk, a, b, group.size);
    typename S::sums dk, dv;
    clear_sums<S>(dk);
    clear_sums<S>(dv);
    fetch_rows<S, false, S::R>(k, keys, group, b.key, b.count);
    fetch_rows<S, false, S::R>(v, values, group, b.key, b.count);
    fetch_lines<S>(passing, walk, a, g, b, group, stats);
    copy_async_commit();
    for (int stage = 0; walk.left > 0; stage ^= 1) {
        typename S::scores p, ds;
        typename S::weights weights;
        struct line_walk here = walk;
        uint32_t q = passing + stage * STAGE;
        copy_async_wait<0>();
        __syncthreads(); /* this stage is there, and everybody is through with the other */
        next_lines<S>(walk, a, *kept, group.size);
        if (walk.left > 0) {
            fetch_lines<S>(passing + (stage ^ 1) * STAGE, walk, a, g, *kept, group, stats);
            copy_async_commit();
        }
        multiply_rows<S>(p, left_at<S>(k), right_at<S>(q));
        hide_lines<S>(p, here, a, *kept, group.size);
        multiply_rows<S>(ds, left_at<S>(v), right_at<S>(q + S::PASS));
        turned_gradients<S>(
            p, ds, (const struct line_stats *)(memory + 2 * S::STAY + stage * STAGE + 2 * S::PASS),
            a.scale * LOG2_E);
        pack_weights<S>(weights, p);
        multiply_weights<S>(dv, weights, turned_at<S>(q + S::PASS));
        pack_weights<S>(weights, ds);
        multiply_weights<S>(dk, weights, turned_at<S>(q));
    }
    float of_k[S::ROWS], of_v[S::ROWS];
    UNROLL for (int r = 0; r < S::ROWS; r++) of_k[r] = a.scale, of_v[r] = 1;
    __syncwarp(); /* all lanes have read k and v */
    put_rows<S, false>((struct bf16 *)g.dk + kept->kv_head * S::D, (size_t)g.lddk, group, kept->key,
                       kept->count, memory, dk, of_k);
    put_rows<S, false>((struct bf16 *)g.dv + kept->kv_head * S::D, (size_t)g.lddv, group, kept->key,
                       kept->count, memory + S::STAY, dv, of_v);
}

/* --- host --- */

/* Scratch: stats, then the list of tiles, the larger one of both sides. */
size_t flash_backward_scratch(const struct kern_attention *a)
{
    int32_t tiles = flash_max_tiles(a, FLASH_LINES, FLASH_BACKWARD_ROWS);
    return (size_t)a->N * (size_t)a->H * sizeof(struct line_stats) + flash_tiles_bytes(tiles);
}

template <class S>
static void backward(struct device *d, const struct kern_attention *a,
                     const struct kern_attention_grad *g, void *scratch)
{
    static_assert((int)S::R == (int)FLASH_BACKWARD_ROWS, "scratch is for tiles of as many rows");
    struct line_stats *stats = (struct line_stats *)scratch;
    const struct line_stats *in = stats;
    size_t lines = (size_t)a->N * (size_t)a->H, own = 2 * S::STAY + 4 * S::PASS;
    void *lists = stats + lines;
    const char *what = "attention backward";
    launch(d, what, flash_stats<S::D>,
           (unsigned)blocks_of((int64_t)lines, STATS_THREADS * 8 / S::D), STATS_THREADS, 0, stats,
           *a, (const struct bf16 *)g->d_o);
    const struct attention_tile *tiles = flash_sort_tiles(d, lists, a, FLASH_KEYS, S::R);
    launch(d, what, flash_key_gradients<S>,
           (unsigned)(flash_max_tiles(a, FLASH_KEYS, S::R) * a->KV), S::THREADS,
           own + 2 * S::C * sizeof(struct line_stats) + sizeof(struct key_block), *a, *g,
           flash_group(a), tiles, in);
    tiles = flash_sort_tiles(d, lists, a, FLASH_LINES, S::R);
    launch(d, what, flash_query_gradients<S>,
           (unsigned)(flash_max_tiles(a, FLASH_LINES, S::R) * a->KV), S::THREADS,
           own + sizeof(struct line_block), *a, *g, flash_group(a), tiles, in);
}

void cuda_flash_attention_backward(struct device *d, const struct kern_attention *a,
                                   const struct kern_attention_grad *g, void *scratch)
{
    if (a->N <= 0 || a->num_segments <= 0) return;
    if (!packs(g->d_o, a->ldo, 2) || !packs(g->dq, g->lddq, 2) || !packs(g->dk, g->lddk, 2) ||
        !packs(g->dv, g->lddv, 2)) {
        cuda_plain_attention_backward(d, a, g, scratch);
        return;
    }
    WITH_FLASH_BACKWARD(d, a, S, backward<S>(d, a, g, scratch));
}
