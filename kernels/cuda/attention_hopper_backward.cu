/* attention_hopper_backward.cu - dq, dk and dv on sm_90a: the kernel, and its launch. The model,
 * sizes, cost: attention_hopper_backward.cuh.
 * Layout as attention_flash_backward.cu: d_o has o's row stride, dq, dk and dv their own; rows of
 * no segment are left alone. Grid: tiles of keys x KV, key head fastest, those with most work
 * first.
 */
#include "kernels/cuda/attention_hopper_backward.cuh"

struct line_maps {
    struct tensor_map q, d_o, k, v, dk, dv;
};

/* --- the first warpgroup: copies --- */

template <class S> DEVICE uint32_t full_barrier(uint32_t base, int stage)
{
    return base + S::BARRIERS + (uint32_t)stage * 8;
}

template <class S> DEVICE uint32_t empty_barrier(uint32_t base, int stage)
{
    return base + S::BARRIERS + (uint32_t)(S::STAGES + stage) * 8;
}

template <class S> DEVICE uint32_t keys_barrier(uint32_t base)
{
    return base + S::BARRIERS + 2 * S::STAGES * 8;
}

template <class S>
DEVICE void load_keys(uint32_t base, const struct line_maps &maps, const struct key_block &b)
{
    uint32_t barrier = keys_barrier<S>(base);
    mbarrier_arrive_expect(barrier, 2 * S::KEY_TILE);
    for (int p = 0; p < S::PANELS; p++) {
        uint32_t to = base + (uint32_t)(p * S::KEY_PANEL);
        int32_t column = b.kv_head * S::D + 64 * p;
        tma_load(to + S::K, maps.k, S::KEYS, barrier, column, b.key, b.count);
        tma_load(to + S::V, maps.v, S::KEYS, barrier, column, b.key, b.count);
    }
}

template <class S>
DEVICE void load_lines(uint32_t base, int stage, const struct line_maps &maps,
                       const struct hopper_step &s, const float *stats)
{
    uint32_t barrier = full_barrier<S>(base, stage);
    uint32_t to = base + S::STAGES_AT + (uint32_t)stage * S::STAGE;
    mbarrier_arrive_expect(barrier, S::STAGE + S::STATS);
    for (int p = 0; p < S::PANELS; p++) {
        int32_t column = s.head * S::D + 64 * p;
        tma_load(to + p * S::LINE_PANEL, maps.q, S::LINES, barrier, column, s.row, s.count);
        tma_load(to + S::LINE_TILE + p * S::LINE_PANEL, maps.d_o, S::LINES, barrier, column, s.row,
                 s.count);
    }
    bulk_load(base + S::STATS_AT + (uint32_t)stage * S::STATS, stats, S::STATS, barrier);
}

/* One thread. The last step says that there are no more. */
template <class S>
DEVICE void produce(unsigned char *memory, const struct line_maps &maps,
                    const struct kern_attention &a, const struct hopper_scratch &x,
                    const struct key_block &b)
{
    const uint32_t base = shared_address(memory);
    const int32_t group = a.H / a.KV;
    struct tile_walk w = {document_begin(a.segments, b.segment) - 1, 1, 0, 0};
    int32_t head = 0, n = 0, more = 1;
    load_keys<S>(base, maps, b);
    find_tiles<S>(w, a, b);
    while (more) {
        int stage = n % S::STAGES;
        struct hopper_step s = {};
        mbarrier_wait(empty_barrier<S>(base, stage), n / S::STAGES % 2 ^ 1);
        more = w.first < w.end;
        if (more) s = step_of<S>(a, b, w, b.kv_head * group + head);
        ((struct hopper_step *)(memory + S::STEPS + stage * S::STEP))[0] = s;
        if (more) {
            int32_t slot = x.first_tile[w.segment] + w.first / S::LINES;
            load_lines<S>(base, stage, maps, s,
                          x.stats + ((size_t)s.head * x.num_tiles + slot) * 3 * S::LINES);
        } else {
            mbarrier_arrive(full_barrier<S>(base, stage));
        }
        n++;
        if (++head < group) continue;
        head = 0;
        w.first += S::LINES;
        if (w.first >= w.end) find_tiles<S>(w, a, b);
    }
}

/* --- the other two: products --- */

template <class S> struct hopper_types {
    typedef float scores[S::LINES / 8][4]; /* turned: 64 keys, LINES columns */
    typedef uint32_t weights[S::LINES / 16][4];
    typedef float sums[S::D / 8][4]; /* 64 keys, D columns */
    typedef float part[8][4];        /* of dq: 64 lines, 64 columns */
};

/* Row r (0 or 1) of a thread in a warpgroup's 64. */
DEVICE int group_row(int r) { return warp_id() % 4 * 16 + lane_id() / 4 + 8 * r; }
DEVICE int consumer() { return warp_id() / 4 - 1; }

template <int N> DEVICE void clear(float (&sums)[N][4])
{
    UNROLL for (int n = 0; n < N; n++) UNROLL for (int i = 0; i < 4; i++) sums[n][i] = 0;
}

template <int N> DEVICE void pack_scores(uint32_t (&to)[N / 2][4], const float (&from)[N][4])
{
    UNROLL for (int k = 0; k < N / 2; k++) UNROLL for (int i = 0; i < 4; i++)
    {
        const float *c = &from[2 * k + i / 2][i % 2 * 2];
        to[k][i] = bf16_pair(c[0], c[1]);
    }
}

/* scores = the warpgroup's 64 rows of `left` times the lines at `right`, both as rows. */
template <class S>
DEVICE void multiply_scores(typename hopper_types<S>::scores &scores, uint32_t left, uint32_t right)
{
    UNROLL for (int k = 0; k < S::D / 16; k++)
    {
        uint32_t a = left + (uint32_t)(k / 4 * S::KEY_PANEL + k % 4 * 32);
        uint32_t b = right + (uint32_t)(k / 4 * S::LINE_PANEL + k % 4 * 32);
        wgmma<S::LINES, false, false>(scores, operand_rows(a), operand_rows(b), k > 0);
    }
}

/* sums += weights times the lines at `right`, as columns. */
template <class S>
DEVICE void multiply_weights(typename hopper_types<S>::sums &sums,
                             const typename hopper_types<S>::weights &weights, uint32_t right)
{
    UNROLL for (int k = 0; k < S::LINES / 16; k++) wgmma<S::D, true>(
        sums, weights[k], operand_columns(right + (uint32_t)k * 2048, S::LINE_PANEL), 1);
}

/* part = the warpgroup's lines, or columns, of ds times k. */
template <class S>
DEVICE void multiply_part(typename hopper_types<S>::part &part, uint32_t ds, uint32_t k)
{
    uint32_t own = (uint32_t)(consumer() * S::KEY_PANEL);
    static_assert((int)S::KEY_PANEL == (int)S::DS_PANEL, "either one is the warpgroup's own");
    if (S::LINES == 128)
        ds += own;
    else
        k += own;
    UNROLL for (int j = 0; j < S::KEYS / 16; j++)
        wgmma<64, true, true>(part, operand_columns(ds + (uint32_t)j * 2048, S::DS_PANEL),
                              operand_columns(k + (uint32_t)j * 2048, S::KEY_PANEL), j > 0);
}

template <class S>
DEVICE void hide_scores(typename hopper_types<S>::scores &scores, const struct hopper_step &step)
{
    if (!step.masked) return;
    UNROLL for (int r = 0; r < 2; r++)
    {
        int32_t key = consumer() * 64 + group_row(r), low = key + step.low;
        int32_t high = key < step.from || key >= step.upto ? 0 : key + step.high;
        UNROLL for (int n = 0; n < S::LINES / 8; n++) UNROLL for (int i = 0; i < 2; i++)
        {
            int32_t line = 8 * n + 2 * (lane_id() % 4) + i;
            if (line < low || line >= high) scores[n][2 * r + i] = -INFINITY;
        }
    }
}

/* p in place of scores. */
template <class S>
DEVICE void take_powers(typename hopper_types<S>::scores &scores, const float *stats,
                        float to_base_2)
{
    UNROLL for (int n = 0; n < S::LINES / 8; n++)
    {
        float2 lse = *(const float2 *)(stats + 8 * n + 2 * (lane_id() % 4));
        UNROLL for (int i = 0; i < 4; i++) scores[n][i] =
            power_of_2(scores[n][i] * to_base_2 - (i % 2 ? lse.y : lse.x));
    }
}

/* ds in place of dp. */
template <class S>
DEVICE void take_differences(typename hopper_types<S>::scores &dp,
                             const typename hopper_types<S>::scores &p, const float *stats)
{
    UNROLL for (int n = 0; n < S::LINES / 8; n++)
    {
        float2 delta = *(const float2 *)(stats + S::LINES + 8 * n + 2 * (lane_id() % 4));
        UNROLL for (int i = 0; i < 4; i++) dp[n][i] =
            p[n][i] * (dp[n][i] - (i % 2 ? delta.y : delta.x));
    }
}

/* ds^T, as the warpgroup's 64 rows of panels of 64 lines. */
template <class S>
DEVICE void put_weights(unsigned char *ds, const typename hopper_types<S>::weights &weights)
{
    UNROLL for (int k = 0; k < S::LINES / 16; k++) UNROLL for (int i = 0; i < 4; i++)
    {
        int chunk = 2 * k + i / 2, row = consumer() * 64 + group_row(i % 2);
        *(uint32_t *)(ds + chunk / 8 * S::DS_PANEL + panel_chunk(row, chunk % 8) +
                      lane_id() % 4 * 4) = weights[k][i];
    }
}

/* The part of dq as integers, rows of 256 bytes; columns 8n.. of row r lie at n ^ r % 8. */
template <class S>
DEVICE void put_part(unsigned char *to, const typename hopper_types<S>::part &part,
                     const float *powers)
{
    UNROLL for (int r = 0; r < 2; r++)
    {
        int row = group_row(r);
        float power = powers[row];
        UNROLL for (int n = 0; n < 8; n++)
        {
            int2 pair = {__float2int_rn(part[n][2 * r] * power),
                         __float2int_rn(part[n][2 * r + 1] * power)};
            *(int2 *)(to + row * 256 + ((n ^ (row & 7)) * 32) + lane_id() % 4 * 8) = pair;
        }
    }
}

/* One thread of a warpgroup: its part of dq goes out. */
template <class S>
DEVICE void add_part(const struct hopper_scratch &x, int32_t N, const struct hopper_step &step,
                     uint32_t part)
{
    int32_t row = step.row, count = step.count, panel = step.head * S::PANELS;
    if (S::LINES == 128)
        row += 64 * consumer(), count -= 64 * consumer();
    else
        panel += consumer();
    if (count > 0) bulk_add(x.sums + ((size_t)panel * N + row) * 64, part, min(count, 64) * 256);
    bulk_commit();
}

/* dv += p^T do, as a batch under way. */
template <class S>
DEVICE void begin_values(typename hopper_types<S>::sums &dv,
                         typename hopper_types<S>::weights &weights,
                         const typename hopper_types<S>::scores &p, uint32_t d_o)
{
    pack_scores(weights, p);
    wgmma_hold(dv);
    wgmma_fence();
    multiply_weights<S>(dv, weights, d_o);
    wgmma_commit();
}

enum { BOTH = 1, EACH }; /* named barriers: of both warpgroups, of one (EACH + consumer) */

/* A step: dk, dv, and this warpgroup's part of dq on its way. */
template <class S>
DEVICE void take_step(typename hopper_types<S>::sums &dk, typename hopper_types<S>::sums &dv,
                      unsigned char *memory, int n, const struct hopper_step &step,
                      const struct kern_attention &a, const struct hopper_scratch &x)
{
    typename hopper_types<S>::scores p, ds;
    typename hopper_types<S>::weights of_p, of_ds;
    typename hopper_types<S>::part part;
    const uint32_t base = shared_address(memory), own = (uint32_t)(consumer() * S::OWN);
    const uint32_t q = base + S::STAGES_AT + (uint32_t)(n % S::STAGES * S::STAGE);
    const uint32_t d_o = q + S::LINE_TILE, out = (uint32_t)(S::PARTS + consumer() * S::PART);
    const float *stats = (const float *)(memory + S::STATS_AT + n % S::STAGES * S::STATS);
    const int leader = threadIdx.x % S::GROUP == 0, buffer = S::DS + n % 2 * S::DS_TILE;
    wgmma_fence();
    multiply_scores<S>(p, base + S::K + own, q);
    wgmma_commit();
    wgmma_fence();
    multiply_scores<S>(ds, base + S::V + own, d_o);
    wgmma_commit();
    wgmma_wait<1>();
    wgmma_hold(p);
    hide_scores<S>(p, step);
    take_powers<S>(p, stats, a.scale * LOG2_E);
    if (S::EARLY) begin_values<S>(dv, of_p, p, d_o);
    wgmma_wait<S::EARLY>();
    wgmma_hold(ds);
    take_differences<S>(ds, p, stats);
    if (!S::EARLY) begin_values<S>(dv, of_p, p, d_o);
    pack_scores(of_ds, ds);
    put_weights<S>(memory + buffer, of_ds);
    fence_async_proxy();
    if (leader) bulk_wait_read<0>(); /* the part before has gone */
    barrier_sync(BOTH, S::CONSUMERS);
    wgmma_fence();
    multiply_part<S>(part, base + (uint32_t)buffer, base + S::K);
    wgmma_commit();
    wgmma_hold(dk);
    wgmma_fence();
    multiply_weights<S>(dk, of_ds, q);
    wgmma_commit();
    wgmma_wait<1>();
    wgmma_hold(part);
    wgmma_hold(dv);
    put_part<S>(memory + out, part, stats + 2 * S::LINES + (S::LINES == 128 ? 64 * consumer() : 0));
    fence_async_proxy();
    barrier_sync(EACH + consumer(), S::GROUP);
    if (leader) add_part<S>(x, a.N, step, base + out);
    wgmma_wait<0>();
    wgmma_hold(dk);
}

/* The warpgroup's 64 rows of dk or dv, by way of its rows of a tile in shared memory. */
template <class S>
DEVICE void put_keys(unsigned char *tile, const typename hopper_types<S>::sums &sums, float factor)
{
    UNROLL for (int n = 0; n < S::D / 8; n++) UNROLL for (int r = 0; r < 2; r++) *
        (uint32_t *)(tile + n / 8 * S::KEY_PANEL + panel_chunk(group_row(r), n % 8) +
                     lane_id() % 4 * 4) =
        bf16_pair(sums[n][2 * r] * factor, sums[n][2 * r + 1] * factor);
}

template <class S>
DEVICE void store_keys(const struct line_maps &maps, const struct key_block &b, uint32_t k,
                       uint32_t v)
{
    int32_t first = 64 * consumer(), count = min(64, b.count - first);
    for (int p = 0; count > 0 && p < S::PANELS; p++) {
        int32_t column = b.kv_head * S::D + 64 * p;
        tma_store(maps.dk, 64, k + (uint32_t)(p * S::KEY_PANEL), column, b.key + first, count);
        tma_store(maps.dv, 64, v + (uint32_t)(p * S::KEY_PANEL), column, b.key + first, count);
    }
    bulk_commit();
}

template <class S>
DEVICE void consume(unsigned char *memory, const struct line_maps &maps,
                    const struct kern_attention &a, const struct hopper_scratch &x,
                    const struct key_block &b)
{
    const uint32_t base = shared_address(memory), own = (uint32_t)(consumer() * S::OWN);
    typename hopper_types<S>::sums dk, dv;
    clear(dk);
    clear(dv);
    mbarrier_wait(keys_barrier<S>(base), 0);
    for (int n = 0;; n++) {
        int stage = n % S::STAGES;
        mbarrier_wait(full_barrier<S>(base, stage), n / S::STAGES % 2);
        const struct hopper_step step =
            *(const struct hopper_step *)(memory + S::STEPS + stage * S::STEP);
        if (!step.count) break;
        take_step<S>(dk, dv, memory, n, step, a, x);
        __syncwarp();
        if (lane_id() == 0) mbarrier_arrive(empty_barrier<S>(base, stage));
    }
    barrier_sync(BOTH, S::CONSUMERS); /* nobody reads k any more */
    put_keys<S>(memory + S::K + own, dk, a.scale);
    put_keys<S>(memory + S::V + own, dv, 1);
    fence_async_proxy();
    barrier_sync(EACH + consumer(), S::GROUP);
    if (threadIdx.x % S::GROUP == 0) {
        store_keys<S>(maps, b, base + S::K + own, base + S::V + own);
        bulk_wait<0>();
    }
}

template <class S>
__global__ void __launch_bounds__(S::THREADS, 1)
    hopper_gradients(const __grid_constant__ struct line_maps maps, struct kern_attention a,
                     struct hopper_scratch x, const struct attention_tile *tiles)
{
    DYNAMIC_SHARED(memory);
    const uint32_t base = shared_address(memory);
    struct attention_tile tile = tiles[blockIdx.x / a.KV];
    if (tile.segment < 0) return;
    const struct segment &s = a.segments[tile.segment];
    const struct key_block b = {tile.segment, s.start + tile.first,
                                min((int32_t)S::KEYS, s.length - tile.first),
                                (int32_t)blockIdx.x % a.KV};
    if (threadIdx.x == 0) {
        for (int i = 0; i < S::STAGES; i++) {
            mbarrier_init(full_barrier<S>(base, i), 1);
            mbarrier_init(empty_barrier<S>(base, i), S::CONSUMERS / WARP_SIZE);
        }
        mbarrier_init(keys_barrier<S>(base), 1);
        mbarrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x < S::GROUP) {
        registers_give<S::GIVEN>();
        if (threadIdx.x == 0) produce<S>(memory, maps, a, x, b);
    } else {
        registers_take<S::TAKEN>();
        consume<S>(memory, maps, a, x, b);
    }
}

/* --- host --- */

enum { HOPPER_LEAST_LINES = 64 }; /* of a tile, by either size */

static size_t part_of(size_t bytes) { return (bytes + 255) & ~(size_t)255; }

/* Where the parts lie, in bytes from the beginning of scratch; NULL base: how much there is. */
static size_t lay_out(struct hopper_scratch *x, char *base, const struct kern_attention *a,
                      int32_t lines)
{
    size_t at = 0;
    x->num_tiles = flash_max_tiles(a, FLASH_KEYS, lines);
    size_t tiles = (size_t)x->num_tiles, heads = (size_t)a->H;
    x->sums = (int32_t *)(base + at);
    at += part_of(heads * (size_t)a->D * (size_t)a->N * sizeof *x->sums);
    x->sizes = (float *)(base + at); /* cleared with the sums */
    at += part_of((size_t)a->KV * 2 * sizeof *x->sizes);
    x->stats = (float *)(base + at);
    at += part_of(heads * tiles * 3 * (size_t)lines * sizeof *x->stats);
    x->tiles = (struct attention_tile *)(base + at);
    at += part_of(tiles * sizeof *x->tiles);
    x->first_tile = (int32_t *)(base + at);
    return at + part_of((size_t)a->num_segments * sizeof *x->first_tile);
}

size_t cuda_hopper_attention_backward_scratch(const struct kern_attention *a)
{
    static char none[1];
    struct hopper_scratch x;
    int32_t keys = hopper_backward<128>::KEYS, lines = hopper_backward<128>::LINES;
    if (a->D == 64) lines = hopper_backward<64>::LINES;
    return lay_out(&x, none, a, lines) + flash_tiles_bytes(flash_max_tiles(a, FLASH_KEYS, keys));
}

static void make_maps(struct device *d, struct line_maps *m, const struct kern_attention *a,
                      const struct kern_attention_grad *g, int32_t lines, int32_t keys)
{
    int32_t of_q = a->H * a->D, of_k = a->KV * a->D, half = keys / 2;
    cuda_tensor_map(d, &m->q, a->q, of_q, a->N, a->ldq, lines);
    cuda_tensor_map(d, &m->d_o, g->d_o, of_q, a->N, a->ldo, lines);
    cuda_tensor_map(d, &m->k, a->k, of_k, a->N, a->ldk, keys);
    cuda_tensor_map(d, &m->v, a->v, of_k, a->N, a->ldv, keys);
    cuda_tensor_map(d, &m->dk, g->dk, of_k, a->N, g->lddk, half);
    cuda_tensor_map(d, &m->dv, g->dv, of_k, a->N, g->lddv, half);
}

template <class S>
static void backward(struct device *d, const struct kern_attention *a,
                     const struct kern_attention_grad *g, void *scratch)
{
    struct hopper_scratch x;
    struct line_maps maps;
    size_t used = lay_out(&x, (char *)scratch, a, S::LINES);
    make_maps(d, &maps, a, g, S::LINES, S::KEYS);
    cuda_zero(d, x.sums, (size_t)((char *)x.stats - (char *)x.sums));
    hopper_prepare(d, a, g->d_o, &x);
    const struct attention_tile *tiles =
        flash_sort_tiles(d, (char *)scratch + used, a, FLASH_KEYS, S::KEYS);
    launch(d, "attention backward", hopper_gradients<S>,
           (unsigned)(flash_max_tiles(a, FLASH_KEYS, S::KEYS) * a->KV), S::THREADS, S::SHARED_BYTES,
           maps, *a, x, tiles);
    hopper_finish(d, a, g, &x);
}

void cuda_hopper_attention_backward(struct device *d, const struct kern_attention *a,
                                    const struct kern_attention_grad *g, void *scratch)
{
    if (a->N <= 0 || a->num_segments <= 0) return;
    if (!packs(g->d_o, a->ldo, 2) || !packs(g->dq, g->lddq, 2) || !packs(g->dk, g->lddk, 2) ||
        !packs(g->dv, g->lddv, 2)) {
        cuda_plain_attention_backward(d, a, g, scratch);
        return;
    }
    if (a->D == 128)
        backward<hopper_backward<128>>(d, a, g, scratch);
    else
        backward<hopper_backward<64>>(d, a, g, scratch);
}
