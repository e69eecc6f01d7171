/* attention_hopper_lines.cu - what goes before and after the gradients of attention on sm_90a:
 * tiles of lines, bounds of dq, stats; and dq from its sums (attention_hopper_backward.cuh). Each
 * reads its inputs once: k and v; o and do; the sums. Grids: a block a tile and head, head fastest.
 * Deterministic: maxima and integers alone meet.
 */
#include "kernels/cuda/attention_hopper_backward.cuh"

/* --- tiles of lines --- */

static __global__ void __launch_bounds__(LIST_THREADS)
    hopper_lines(struct hopper_scratch x, const struct segment *segments, int32_t num_segments,
                 int32_t rows)
{
    int32_t i = (int32_t)(blockIdx.x * LIST_THREADS + threadIdx.x), left = i, s = 0;
    if (i >= x.num_tiles) return;
    for (; s < num_segments; s++) {
        int32_t here = (segments[s].length + rows - 1) / rows;
        if (left < here) break;
        left -= here;
    }
    struct attention_tile tile = {s < num_segments ? s : -1, left * rows};
    x.tiles[i] = tile;
    if (s < num_segments && left == 0) x.first_tile[s] = i;
}

/* --- the largest |v_j| and |k| of a key head: a warp a row and head --- */

enum { SIZE_THREADS = 128, SIZE_WARPS = SIZE_THREADS / WARP_SIZE };

/* Bits of floats that are not negative are in their order; NaN is above all. */
DEVICE void raise_to(float *to, float v) { atomicMax((int *)to, (int)bits_of_float(v)); }

template <class S>
__global__ void __launch_bounds__(SIZE_THREADS)
    hopper_key_sizes(struct kern_attention a, struct hopper_scratch x)
{
    struct attention_tile tile = x.tiles[blockIdx.x / a.KV];
    if (tile.segment < 0) return;
    const struct segment s = a.segments[tile.segment];
    int32_t head = (int32_t)blockIdx.x % a.KV, lane = (int32_t)threadIdx.x % WARP_SIZE;
    int32_t count = min((int32_t)S::LINES, s.length - tile.first);
    float most_v = 0, most_k = 0;
    for (int32_t r = (int32_t)threadIdx.x / WARP_SIZE; r < count; r += SIZE_WARPS) {
        size_t row = (size_t)(s.start + tile.first + r);
        float k[8] = {}, v[8] = {}, sum = 0;
        if (lane < S::D / 8) {
            load(k, (const struct bf16 *)a.k + row * a.ldk + head * S::D + 8 * lane);
            load(v, (const struct bf16 *)a.v + row * a.ldv + head * S::D + 8 * lane);
        }
        UNROLL for (int i = 0; i < 8; i++)
        {
            sum += v[i] * v[i];
            uint32_t size = bits_of_float(k[i]) & 0x7fffffffu; /* as fmaxf, but a NaN stays */
            if (size > bits_of_float(most_k)) most_k = float_of_bits(size);
        }
        uint32_t size = bits_of_float(sqrtf(warp_sum(sum))) & 0x7fffffffu;
        if (size > bits_of_float(most_v)) most_v = float_of_bits(size);
    }
    if (lane == 0) raise_to(&x.sizes[2 * head], most_v);
    raise_to(&x.sizes[2 * head + 1], most_k);
}

/* --- stats: D/8 lanes a line, 16 bytes a lane --- */

enum { STATS_THREADS = 128, SUM_BITS = 30 };

/* The largest power of two that keeps bound * power at 2^SUM_BITS; NaN if there is no bound. */
DEVICE float power_for(float bound)
{
    if (!(bound < 0x1p+120f)) return float_of_bits(0x7fc00000u);
    uint32_t above = (bits_of_float(fmaxf(bound, 0x1p-90f)) >> 23) + 1; /* 2^(above-127) > bound */
    return float_of_bits((127 + SUM_BITS + 127 - above) << 23);
}

template <class S>
__global__ void __launch_bounds__(STATS_THREADS)
    hopper_stats(struct kern_attention a, const struct bf16 *d_o, struct hopper_scratch x)
{
    constexpr int LANES = S::D / 8;
    struct attention_tile tile = x.tiles[blockIdx.x / a.H];
    if (tile.segment < 0) return;
    const struct segment s = a.segments[tile.segment];
    int32_t head = (int32_t)blockIdx.x % a.H, chunk = (int32_t)threadIdx.x % LANES;
    int32_t slot = (int32_t)blockIdx.x / a.H, count = min((int32_t)S::LINES, s.length - tile.first);
    float *to = x.stats + ((size_t)head * x.num_tiles + slot) * 3 * S::LINES;
    const float *size = x.sizes + 2 * (head / (a.H / a.KV));
    for (int32_t r = (int32_t)threadIdx.x / LANES; r < S::LINES; r += STATS_THREADS / LANES) {
        size_t row = (size_t)(s.start + tile.first + min(r, count - 1));
        size_t at = row * a.ldo + (size_t)(head * S::D + 8 * chunk);
        float o[8], dy[8], delta = 0, squares = 0;
        load(dy, d_o + at);
        load(o, (const struct bf16 *)a.o + at);
        UNROLL for (int i = 0; i < 8; i++) delta += o[i] * dy[i], squares += dy[i] * dy[i];
        UNROLL for (int n = 1; n < LANES; n *= 2)
        {
            delta += __shfl_xor_sync(ALL_LANES, delta, n);
            squares += __shfl_xor_sync(ALL_LANES, squares, n);
        }
        if (chunk) continue;
        int there = r < count; /* 2.5: with room for what rounding adds */
        to[r] = there ? a.lse[row * a.H + head] * LOG2_E : INFINITY;
        to[S::LINES + r] = there ? delta : 0;
        to[2 * S::LINES + r] = there ? power_for(2.5f * sqrtf(squares) * size[0] * size[1]) : 0;
    }
}

/* --- dq from its sums: eight elements a thread --- */

enum { FINISH_THREADS = 128 };

template <class S>
__global__ void __launch_bounds__(FINISH_THREADS)
    hopper_queries(struct kern_attention a, struct bf16 *dq, int32_t lddq, struct hopper_scratch x)
{
    constexpr int CHUNKS = S::D / 8;
    struct attention_tile tile = x.tiles[blockIdx.x / a.H];
    if (tile.segment < 0) return;
    const struct segment s = a.segments[tile.segment];
    int32_t head = (int32_t)blockIdx.x % a.H, slot = (int32_t)blockIdx.x / a.H;
    int32_t count = min((int32_t)S::LINES, s.length - tile.first);
    const float *powers = x.stats + (((size_t)head * x.num_tiles + slot) * 3 + 2) * S::LINES;
    for (int32_t i = (int32_t)threadIdx.x; i < count * CHUNKS; i += FINISH_THREADS) {
        int32_t r = i / CHUNKS, chunk = i % CHUNKS, row = s.start + tile.first + r;
        const int32_t *from = x.sums + ((size_t)(head * S::PANELS + chunk / 8) * a.N + row) * 64 +
                              8 * ((chunk ^ r) & 7);
        float y[8], factor = a.scale / powers[r];
        UNROLL for (int e = 0; e < 8; e++) y[e] = (float)from[e] * factor;
        store(dq + (size_t)row * lddq + head * S::D + 8 * chunk, y);
    }
}

/* --- host --- */

template <class S>
static void prepare(struct device *d, const struct kern_attention *a, const void *d_o,
                    const struct hopper_scratch &x)
{
    const char *what = "attention backward";
    launch(d, what, hopper_lines, (unsigned)blocks_of(x.num_tiles, LIST_THREADS), LIST_THREADS, 0,
           x, a->segments, a->num_segments, S::LINES);
    launch(d, what, hopper_key_sizes<S>, (unsigned)(x.num_tiles * a->KV), SIZE_THREADS, 0, *a, x);
    launch(d, what, hopper_stats<S>, (unsigned)(x.num_tiles * a->H), STATS_THREADS, 0, *a,
           (const struct bf16 *)d_o, x);
}

void hopper_prepare(struct device *d, const struct kern_attention *a, const void *d_o,
                    const struct hopper_scratch *x)
{
    if (a->D == 128)
        prepare<hopper_backward<128>>(d, a, d_o, *x);
    else
        prepare<hopper_backward<64>>(d, a, d_o, *x);
}

void hopper_finish(struct device *d, const struct kern_attention *a,
                   const struct kern_attention_grad *g, const struct hopper_scratch *x)
{
    unsigned blocks = (unsigned)(x->num_tiles * a->H);
    struct bf16 *dq = (struct bf16 *)g->dq;
    if (a->D == 128)
        launch(d, "attention backward", hopper_queries<hopper_backward<128>>, blocks,
               FINISH_THREADS, 0, *a, dq, g->lddq, *x);
    else
        launch(d, "attention backward", hopper_queries<hopper_backward<64>>, blocks, FINISH_THREADS,
               0, *a, dq, g->lddq, *x);
}
