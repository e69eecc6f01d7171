/* optim.cu - the gradient's norm and AdamW over flat ranges; kernels.h has the equations.
 *
 * Norm: n floats, 16-aligned, read once; squares are summed in double, so nothing overflows. Grid:
 * as many blocks as n asks for, 1024 at most, each over every so-manieth pack of 4; then one block.
 * AdamW: 4 n floats read, 3 n written, and n of the device's type where there is a copy of the
 * parameters. With no fp32 parameters the copy itself is read, updated in fp32 and rounded
 * stochastically: up when the low 16 bits, plus 16 random ones of counter (first + i)/4, carry.
 * Ranges that do not begin 16-aligned (parameters that are joined without a gap) go element by
 * element, to the same bits. Deterministic: sums go by n alone.
 *
 * AdamW with states of 8 bits (kernels/codes.h): 2 n floats and 2 n codes read, n floats and 2 n
 * codes written, and the copy. A warp has a block of 256 elements, 8 a lane, so a block's largest
 * is five shuffles away; 8 such blocks a thread block, which makes the two maps in shared memory
 * first and walks on, so that making them is paid once. A code's decade is counted and its row
 * read from shared memory: selecting among nine rows, as the CPU does, would be some 80
 * instructions an element, about what an H100 can issue while the bytes come.
 */
#include "kernels/cuda/kernel.cuh"

#define CODES_FUNCTION DEVICE
#include "kernels/codes.h"

enum { THREADS = 256, MAX_BLOCKS = 1024, PACK = 4 };

/* --- norm --- */

static int32_t norm_blocks(size_t n)
{
    size_t blocks = (n + THREADS * PACK - 1) / (THREADS * PACK);
    if (blocks > MAX_BLOCKS) return MAX_BLOCKS;
    return blocks ? (int32_t)blocks : 1;
}

size_t cuda_grad_norm_scratch(const struct device *d, size_t n)
{
    (void)d;
    return (size_t)norm_blocks(n) * sizeof(double);
}

DEVICE double block_sum_double(double v, double *part)
{
    UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
    if (threadIdx.x % WARP_SIZE == 0) part[threadIdx.x / WARP_SIZE] = v;
    __syncthreads();
    v = threadIdx.x < THREADS / WARP_SIZE ? part[threadIdx.x] : 0;
    UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
    return v; /* right in the first warp */
}

static __global__ void __launch_bounds__(THREADS)
    sum_squares(double *parts, const float *grad, size_t n)
{
    SHARED(double, part, [THREADS / WARP_SIZE]);
    double sum = 0;
    for (size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * PACK; i < n;
         i += (size_t)gridDim.x * THREADS * PACK) {
        float g[PACK] = {};
        load_some(g, grad + i, n - i);
        UNROLL for (int v = 0; v < PACK; v++) sum += (double)g[v] * (double)g[v];
    }
    sum = block_sum_double(sum, part);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(THREADS)
    finish_norm(float *out, const double *parts, int32_t num_parts, float inv_weight,
                float max_norm)
{
    SHARED(double, part, [THREADS / WARP_SIZE]);
    double sum = 0;
    for (int32_t i = (int32_t)threadIdx.x; i < num_parts; i += THREADS) sum += parts[i];
    sum = block_sum_double(sum, part);
    if (threadIdx.x) return;
    float norm = (float)(sqrt(sum) * (double)inv_weight), scale = inv_weight;
    if (max_norm > 0 && max_norm / (norm + 1e-6f) < 1) scale *= max_norm / (norm + 1e-6f);
    out[0] = norm;
    out[1] = isfinite(norm) ? scale : NAN;
}

void cuda_grad_norm(struct device *d, float out[2], const float *grad, size_t n, float inv_weight,
                    float max_norm, void *scratch)
{
    int32_t blocks = norm_blocks(n);
    launch(d, "gradient norm", sum_squares, (unsigned)blocks, THREADS, 0, (double *)scratch, grad,
           n);
    launch(d, "gradient norm", finish_norm, 1, THREADS, 0, out, (const double *)scratch, blocks,
           inv_weight, max_norm);
}

/* --- AdamW --- */

/* f rounded to one of its two neighbours in bf16, by 16 random bits. */
DEVICE float round_at_random(float f, uint32_t random)
{
    uint32_t u = bits_of_float(f);
    if ((u & 0x7f800000u) == 0x7f800000u) return f; /* inf and NaN stay */
    return float_of_bits((u + (random & 0xffffu)) & 0xffff0000u);
}

struct update {
    float scale, step, inv_root, decay;
};

DEVICE float adamw_one(float p, float *m, float *v, float grad, const struct kern_adamw &a,
                       const struct update &u)
{
    float g = u.scale * grad;
    *m = a.beta1 * *m + (1 - a.beta1) * g;
    *v = a.beta2 * *v + (1 - a.beta2) * g * g;
    return p * u.decay - u.step * *m / (sqrtf(*v) * u.inv_root + a.eps);
}

/* T: of the copy. FLOAT: there are fp32 parameters. */
template <class T, bool FLOAT, int V>
__global__ void __launch_bounds__(THREADS) adamw_elements(struct kern_adamw a, struct update u)
{
    size_t first = ((size_t)blockIdx.x * THREADS + threadIdx.x) * V;
    u.scale = *a.scale;
    if (!isfinite(u.scale)) return;
    if (first >= a.n) return;
    size_t count = a.n - first;
    T *copy = (T *)a.data + first;
    float p[V], m[V], v[V], g[V];
    if constexpr (FLOAT)
        load_some(p, a.param + first, count);
    else
        load_some(p, (const T *)copy, count);
    load_some(m, a.m + first, count);
    load_some(v, a.v + first, count);
    load_some(g, a.grad + first, count);
    UNROLL for (int i = 0; i < V; i++) p[i] = adamw_one(p[i], &m[i], &v[i], g[i], a, u);
    store_some(a.m + first, m, count);
    store_some(a.v + first, v, count);
    if constexpr (FLOAT) {
        store_some(a.param + first, p, count);
    } else {
        uint64_t element = a.first + first, counter = element / PACK;
        uint4 c = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
        uint4 random = random_words(a.rounding, c);
        if constexpr (V == PACK) {
            p[0] = round_at_random(p[0], random.x), p[1] = round_at_random(p[1], random.y);
            p[2] = round_at_random(p[2], random.z), p[3] = round_at_random(p[3], random.w);
        } else {
            uint32_t low = element & 1 ? random.y : random.x;
            uint32_t high = element & 1 ? random.w : random.z;
            p[0] = round_at_random(p[0], element & 2 ? high : low);
        }
    }
    if (a.data) store_some(copy, p, count);
}

void cuda_adamw(struct device *d, const struct kern_adamw *a)
{
    if (!a->n) return;
    struct update u = {0, a->lr / a->bias1, 1 / sqrtf(a->bias2), 1 - a->lr * a->weight_decay};
    int wide = packs(a->param, 0, 1) && packs(a->m, 0, 1) && packs(a->v, 0, 1) &&
               packs(a->grad, 0, 1) && packs(a->data, 0, 1) && a->first % PACK == 0;
    unsigned blocks = (unsigned)blocks_of((int64_t)a->n, THREADS * (wide ? PACK : 1));
    WITH_TYPE(d, T, {
        auto masters = wide ? adamw_elements<T, true, PACK> : adamw_elements<T, true, 1>;
        auto alone = wide ? adamw_elements<T, false, PACK> : adamw_elements<T, false, 1>;
        launch(d, "adamw", a->param ? masters : alone, blocks, THREADS, 0, *a, u);
    });
}

/* --- AdamW with states of 8 bits --- */

enum { LANE_CODES = CODES_BLOCK / WARP_SIZE, MAX_CODED_BLOCKS = 4096 };

/* The element of a block of codes that a lane has at i: 8 that lie together, or every 32nd. */
template <bool WIDE> DEVICE int place_of(int lane, int i)
{
    return WIDE ? lane * LANE_CODES + i : lane + i * WARP_SIZE;
}

/* The first `count` elements of a block; the rest of `to` is left alone. */
template <bool WIDE, class T>
DEVICE void load_lane(float (&to)[LANE_CODES], const T *from, int lane, int count)
{
    if constexpr (WIDE) {
        UNROLL for (int h = 0; h < LANE_CODES; h += PACK)
        {
            int at = place_of<true>(lane, h);
            float part[PACK] = {};
            if (at < count) load_some(part, from + at, (size_t)(count - at));
            UNROLL for (int i = 0; i < PACK; i++) to[h + i] = part[i];
        }
    } else {
        UNROLL for (int i = 0; i < LANE_CODES; i++)
        {
            int at = place_of<false>(lane, i);
            if (at < count) to[i] = to_float(from[at]);
        }
    }
}

template <bool WIDE, class T>
DEVICE void store_lane(T *to, const float (&from)[LANE_CODES], int lane, int count)
{
    if constexpr (WIDE) {
        UNROLL for (int h = 0; h < LANE_CODES; h += PACK)
        {
            int at = place_of<true>(lane, h);
            float part[PACK];
            UNROLL for (int i = 0; i < PACK; i++) part[i] = from[h + i];
            if (at < count) store_some(to + at, part, (size_t)(count - at));
        }
    } else {
        UNROLL for (int i = 0; i < LANE_CODES; i++)
        {
            int at = place_of<false>(lane, i);
            if (at < count) to[at] = from_float<T>(from[i]);
        }
    }
}

template <bool WIDE>
DEVICE void load_codes(uint32_t (&to)[LANE_CODES], const uint8_t *from, int lane, int count)
{
    int at = lane * LANE_CODES;
    if (WIDE && at + LANE_CODES <= count) {
        expect_aligned(from + at, sizeof(uint2));
        uint2 p = *(const uint2 *)(from + at);
        UNROLL for (int i = 0; i < LANE_CODES; i++) to[i] =
            (i < 4 ? p.x : p.y) >> 8 * (i % 4) & 0xffu;
        return;
    }
    UNROLL for (int i = 0; i < LANE_CODES; i++)
    {
        at = place_of<WIDE>(lane, i);
        to[i] = at < count ? from[at] : 0;
    }
}

template <bool WIDE>
DEVICE void store_codes(uint8_t *to, const uint32_t (&from)[LANE_CODES], int lane, int count)
{
    int at = lane * LANE_CODES;
    if (WIDE && at + LANE_CODES <= count) {
        uint2 p = {from[0] | from[1] << 8 | from[2] << 16 | from[3] << 24,
                   from[4] | from[5] << 8 | from[6] << 16 | from[7] << 24};
        expect_aligned(to + at, sizeof p);
        *(uint2 *)(to + at) = p;
        return;
    }
    UNROLL for (int i = 0; i < LANE_CODES; i++)
    {
        at = place_of<WIDE>(lane, i);
        if (at < count) to[at] = (uint8_t)from[i];
    }
}

DEVICE uint32_t rank_of(float x, const struct codes_map &map)
{
    int number = 0;
    UNROLL for (int r = 1; r < CODES_ROWS; r++) number += x > map.row[r].above;
    return (uint32_t)codes_rank(x, map.row[number].gain, map.row[number].first);
}

DEVICE float max_of_warp(float v)
{
    UNROLL for (int o = 16; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, o));
    return v;
}

DEVICE float inverse_of(float max) { return max > 0 ? 1 / max : 0; }

/* Codes of m and v, and the largest magnitudes behind them. */
template <bool WIDE>
DEVICE void store_states(const struct kern_adamw_8bit &k, size_t block,
                         const float (&m)[LANE_CODES], const float (&v)[LANE_CODES],
                         const struct codes_map *maps, int lane, int count)
{
    uint32_t code[LANE_CODES];
    float m_max = 0, v_max = 0;
    UNROLL for (int i = 0; i < LANE_CODES; i++)
    {
        m_max = fmaxf(m_max, fabsf(m[i]));
        v_max = fmaxf(v_max, v[i]);
    }
    m_max = max_of_warp(m_max), v_max = max_of_warp(v_max);
    float by_m = inverse_of(m_max), by_v = inverse_of(v_max);
    UNROLL for (int i = 0; i < LANE_CODES; i++)
    {
        float x = m[i] * by_m;
        uint32_t rank = rank_of(fabsf(x), maps[CODES_SIGNED]);
        code[i] = x < 0 ? 127 - (rank > 127 ? 127 : rank) : 127 + rank;
    }
    store_codes<WIDE>(k.m + block * CODES_BLOCK, code, lane, count);
    UNROLL for (int i = 0; i < LANE_CODES; i++) code[i] =
        rank_of(v[i] * by_v, maps[CODES_UNSIGNED]) - 1;
    store_codes<WIDE>(k.v + block * CODES_BLOCK, code, lane, count);
    if (lane == 0) k.m_max[block] = m_max, k.v_max[block] = v_max;
}

DEVICE uint32_t word_of(uint4 words, uint64_t number)
{
    uint32_t low = number & 1 ? words.y : words.x, high = number & 1 ? words.w : words.z;
    return number & 2 ? high : low;
}

/* Parameters without fp32: rounded as adamw_elements does. */
template <bool WIDE>
DEVICE void round_lane(float (&p)[LANE_CODES], const struct kern_adamw &a, uint64_t first, int lane)
{
    uint4 words = {};
    UNROLL for (int i = 0; i < LANE_CODES; i++)
    {
        uint64_t element = first + (uint64_t)place_of<WIDE>(lane, i);
        if (!WIDE || i % PACK == 0) {
            uint64_t counter = element / PACK;
            uint4 c = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
            words = random_words(a.rounding, c);
        }
        p[i] = round_at_random(p[i], word_of(words, element));
    }
}

/* One block of codes by a warp. T, FLOAT: as in adamw_elements. WIDE: all is aligned to packs. */
template <class T, bool FLOAT, bool WIDE>
DEVICE void update_coded(const struct kern_adamw_8bit &k, const struct update &u, size_t block,
                         const struct codes_map *maps, int lane)
{
    const struct kern_adamw &a = k.a;
    size_t first = block * CODES_BLOCK, rest = a.n - first;
    int count = rest < CODES_BLOCK ? (int)rest : CODES_BLOCK;
    T *copy = (T *)a.data + first;
    float p[LANE_CODES] = {}, m[LANE_CODES], v[LANE_CODES], g[LANE_CODES] = {};
    uint32_t code_m[LANE_CODES], code_v[LANE_CODES];
    if constexpr (FLOAT)
        load_lane<WIDE>(p, a.param + first, lane, count);
    else
        load_lane<WIDE>(p, (const T *)copy, lane, count);
    load_lane<WIDE>(g, a.grad + first, lane, count);
    load_codes<WIDE>(code_m, k.m + first, lane, count);
    load_codes<WIDE>(code_v, k.v + first, lane, count);
    float m_max = k.m_max[block], v_max = k.v_max[block];
    __syncwarp(); /* all lanes have them, before one writes them */
    UNROLL for (int i = 0; i < LANE_CODES; i++)
    {
        m[i] = maps[CODES_SIGNED].number[code_m[i]] * m_max;
        v[i] = maps[CODES_UNSIGNED].number[code_v[i]] * v_max;
        if (place_of<WIDE>(lane, i) >= count) m[i] = v[i] = 0;
        p[i] = adamw_one(p[i], &m[i], &v[i], g[i], a, u);
    }
    store_states<WIDE>(k, block, m, v, maps, lane, count);
    if constexpr (FLOAT)
        store_lane<WIDE>(a.param + first, p, lane, count);
    else
        round_lane<WIDE>(p, a, a.first + first, lane);
    if (a.data) store_lane<WIDE>(copy, p, lane, count);
}

template <class T, bool FLOAT, bool WIDE>
__global__ void __launch_bounds__(THREADS) adamw_coded(struct kern_adamw_8bit k, struct update u)
{
    SHARED(struct codes_map, maps, [2]);
    int thread = (int)threadIdx.x, lane = thread % WARP_SIZE;
    u.scale = *k.a.scale;
    if (!isfinite(u.scale)) return;
    for (int kind = CODES_SIGNED; kind <= CODES_UNSIGNED; kind++) {
        maps[kind].number[thread] = codes_number((enum codes_kind)kind, thread);
        if (thread < CODES_ROWS)
            maps[kind].row[thread] = codes_make_row((enum codes_kind)kind, thread);
    }
    __syncthreads();
    size_t blocks = (k.a.n + CODES_BLOCK - 1) / CODES_BLOCK, warps = THREADS / WARP_SIZE;
    for (size_t b = blockIdx.x * warps + (size_t)(thread / WARP_SIZE); b < blocks;
         b += gridDim.x * warps)
        update_coded<T, FLOAT, WIDE>(k, u, b, maps, lane);
}

void cuda_adamw_8bit(struct device *d, const struct kern_adamw_8bit *k)
{
    const struct kern_adamw *a = &k->a;
    if (!a->n) return;
    struct update u = {0, a->lr / a->bias1, 1 / sqrtf(a->bias2), 1 - a->lr * a->weight_decay};
    int wide = packs(a->param, 0, 1) && packs(a->grad, 0, 1) && packs(a->data, 0, 1) &&
               packs(k->m, 0, 1) && packs(k->v, 0, 1) && a->first % PACK == 0;
    int64_t grid = blocks_of((int64_t)a->n, CODES_BLOCK * (THREADS / WARP_SIZE));
    WITH_TYPE(d, T, {
        auto masters = wide ? adamw_coded<T, true, true> : adamw_coded<T, true, false>;
        auto alone = wide ? adamw_coded<T, false, true> : adamw_coded<T, false, false>;
        launch(d, "adamw 8bit", a->param ? masters : alone,
               (unsigned)(grid < MAX_CODED_BLOCKS ? grid : (int64_t)MAX_CODED_BLOCKS), THREADS, 0,
               *k, u);
    });
}
