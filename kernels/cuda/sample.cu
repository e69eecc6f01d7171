/* sample.cu - the next token from a row of logits, where it lies.
 *
 * kernels/sampling.h says what is drawn. Weights are whole numbers, so block sums are exact and the
 * choice is the host's to the bit. Instead of sorting, the key at which a cut lies is looked for
 * from its highest digit down: a pass over the logits gives, for each digit, the sum over keys with
 * that digit or a larger one behind the digits known so far. Of equal keys the first ones by id
 * stay: which is the last is found as the token is, by a running sum in the order of ids.
 * logits [V]. Bytes: the row once for the largest (all there is at temperature 0), and with a
 * temperature 2 times; top_k and top_p take 5 passes each in bf16, 9 in fp32, from L2.
 * Grid: one block; a row is half a megabyte at most. Deterministic: integers.
 */
#include "kernels/cuda/kernel.cuh"
#include "kernels/sampling.h"

#ifdef CUDA_EMU /* as a device's block for what it computes, and quicker */
enum { THREADS = 128 };
#else
enum { THREADS = 512 };
#endif
enum { WARPS = THREADS / WARP_SIZE, DIGIT_BITS = 4, DIGITS = 1 << DIGIT_BITS };

struct sample_shared {
    uint64_t part[WARPS][DIGITS]; /* of each warp */
    uint64_t sum[DIGITS];
    int32_t found;
};

/* A thread takes V logits at a time. */
template <class T_, int V_> struct logits {
    typedef T_ T;
    enum { V = V_ };
    const T *z;
    int32_t n;
};

/* What stays: keys above `key`, and those that are it up to token `id`. */
struct cut {
    uint32_t key;
    int32_t id;
};

DEVICE int stays(const struct cut &c, uint32_t key, int32_t id)
{
    return key > c.key || (key == c.key && id <= c.id);
}

/* What a sum is over: tokens that stay, each 1 or its weight; or those with the cut's very key. */
enum measured_as { AS_ONE, AS_WEIGHT, AS_EQUAL };

struct measure {
    struct cut within;
    enum measured_as as;
    float top, scale;
};

DEVICE uint64_t measured(const struct measure &m, uint32_t key, int32_t id)
{
    if (m.as == AS_EQUAL) return key == m.within.key;
    if (!stays(m.within, key, id)) return 0;
    return m.as == AS_WEIGHT ? sampling_weight(sampling_logit(key), m.top, m.scale) : 1;
}

/* --- over the block --- */

DEVICE uint64_t warp_total(uint64_t v)
{
    UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
    return v;
}

/* sum[first..DIGITS) of all threads, in shared memory. */
DEVICE void add_up(struct sample_shared &s, const uint64_t (&sum)[DIGITS], int first)
{
    int32_t warp = (int32_t)threadIdx.x / WARP_SIZE, lane = (int32_t)threadIdx.x % WARP_SIZE;
    UNROLL for (int d = 0; d < DIGITS; d++)
    {
        if (d < first) continue;
        uint64_t all = warp_total(sum[d]);
        if (lane == 0) s.part[warp][d] = all;
    }
    __syncthreads();
    if ((int)threadIdx.x >= first && threadIdx.x < DIGITS) {
        uint64_t all = 0;
        for (int w = 0; w < WARPS; w++) all += s.part[w][threadIdx.x];
        s.sum[threadIdx.x] = all;
    }
    __syncthreads();
}

/* Largest of v over the block. */
DEVICE uint64_t block_most(struct sample_shared &s, uint64_t v)
{
    UNROLL for (int o = 16; o; o >>= 1)
    {
        uint64_t other = __shfl_xor_sync(ALL_LANES, v, o);
        v = other > v ? other : v;
    }
    if (threadIdx.x % WARP_SIZE == 0) s.part[threadIdx.x / WARP_SIZE][0] = v;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) v = s.part[w][0] > v ? s.part[w][0] : v;
    __syncthreads(); /* part is read */
    return v;
}

/* --- passes --- */

/* The largest key in the upper half, and below it what makes the smallest id the largest. All ones:
 * there is a NaN. */
template <class L> DEVICE uint64_t find_largest(const L &l, struct sample_shared &s)
{
    uint64_t most = 0;
    for (int32_t i = (int32_t)threadIdx.x * L::V; i < l.n; i += THREADS * L::V) {
        float z[L::V];
        load_some(z, l.z + i, (size_t)(l.n - i));
        UNROLL for (int v = 0; v < L::V; v++)
        {
            if (i + v >= l.n) continue;
            uint64_t here = (uint64_t)sampling_key(z[v]) << 32 | (uint32_t) ~(i + v);
            if (z[v] != z[v]) here = ~(uint64_t)0;
            most = here > most ? here : most;
        }
    }
    return block_most(s, most);
}

template <class L>
DEVICE uint64_t sum_all(const L &l, struct sample_shared &s, const struct measure &m)
{
    uint64_t sum[DIGITS] = {};
    for (int32_t i = (int32_t)threadIdx.x * L::V; i < l.n; i += THREADS * L::V) {
        float z[L::V];
        load_some(z, l.z + i, (size_t)(l.n - i));
        UNROLL for (int v = 0; v < L::V; v++) if (i + v < l.n) sum[DIGITS - 1] +=
            measured(m, sampling_key(z[v]), i + v);
    }
    add_up(s, sum, DIGITS - 1);
    return s.sum[DIGITS - 1];
}

/* The key with sum above it < target <= sum from it on; *above is the former. target is at most the
 * sum over all. */
template <class L>
DEVICE uint32_t find_key(const L &l, struct sample_shared &s, const struct measure &m,
                         uint64_t target, uint64_t *above)
{
    enum { LAST = sizeof(typename L::T) == 2 ? 16 : 0 }; /* below, a bf16's digits are its sign's */
    uint32_t known = 0;
    *above = 0;
    for (int shift = 32 - DIGIT_BITS; shift >= LAST; shift -= DIGIT_BITS) {
        uint64_t sum[DIGITS] = {};
        for (int32_t i = (int32_t)threadIdx.x * L::V; i < l.n; i += THREADS * L::V) {
            float z[L::V];
            load_some(z, l.z + i, (size_t)(l.n - i));
            UNROLL for (int v = 0; v < L::V; v++)
            {
                uint32_t key = i + v < l.n ? sampling_key(z[v]) : 0;
                if (i + v >= l.n || ((uint64_t)(key ^ known) >> shift) >= DIGITS) continue;
                uint64_t more = measured(m, key, i + v);
                int digit = (int)(key >> shift & (DIGITS - 1));
                UNROLL for (int d = 1; d < DIGITS; d++) sum[d] += digit >= d ? more : 0;
            }
        }
        add_up(s, sum, 1);
        int d = DIGITS - 1;
        while (d > 0 && *above + s.sum[d] < target) d--;
        if (d < DIGITS - 1) *above += s.sum[d + 1];
        known |= (uint32_t)d << shift;
        __syncthreads(); /* sum is read */
    }
    return LAST > 0 && !(known >> 31) ? known | 0xffffu : known;
}

/* The first id at which the running sum is above target, which is below the whole. */
template <class L>
DEVICE int32_t walk_to(const L &l, struct sample_shared &s, const struct measure &m,
                       uint64_t target)
{
    int32_t warp = (int32_t)threadIdx.x / WARP_SIZE, lane = (int32_t)threadIdx.x % WARP_SIZE;
    uint64_t before = 0; /* of the tiles behind */
    for (int32_t base = 0; base < l.n; base += THREADS * L::V) {
        int32_t i = base + (int32_t)threadIdx.x * L::V;
        uint64_t own[L::V], sum = 0, upto;
        float z[L::V];
        if (i < l.n) load_some(z, l.z + i, (size_t)(l.n - i));
        UNROLL for (int v = 0; v < L::V; v++)
        {
            own[v] = i + v < l.n ? measured(m, sampling_key(z[v]), i + v) : 0;
            sum += own[v];
        }
        upto = sum;
        UNROLL for (int o = 1; o < WARP_SIZE; o *= 2)
        {
            uint64_t other = __shfl_up_sync(ALL_LANES, upto, o);
            if (lane >= o) upto += other;
        }
        if (lane == WARP_SIZE - 1) s.part[warp][0] = upto;
        __syncthreads();
        uint64_t at = before + upto - sum;
        for (int w = 0; w < WARPS; w++) {
            if (w < warp) at += s.part[w][0];
            before += s.part[w][0];
        }
        if (at <= target && target < at + sum) {
            int v = 0;
            UNROLL for (int u = 0; u < L::V; u++)
            {
                int passed = at + own[u] <= target && v == u;
                if (passed) at += own[u], v = u + 1;
            }
            s.found = i + v;
        }
        __syncthreads();
        if (before > target) break;
    }
    return s.found;
}

/* Leaves of m's tokens the first ones that reach target; returns what they come to. */
template <class L>
DEVICE uint64_t take_first(const L &l, struct sample_shared &s, struct measure &m, uint64_t target)
{
    uint64_t above;
    struct measure equal = {{find_key(l, s, m, target, &above), 0}, AS_EQUAL, 0, 0};
    uint64_t each =
        m.as == AS_WEIGHT ? sampling_weight(sampling_logit(equal.within.key), m.top, m.scale) : 1;
    uint64_t count = (target - above + each - 1) / each;
    m.within.key = equal.within.key;
    m.within.id = walk_to(l, s, equal, count - 1);
    return above + count * each;
}

template <class L>
__global__ void __launch_bounds__(THREADS) sample_token(int32_t *id, L l, struct kern_sample how)
{
    SHARED(struct sample_shared, s);
    uint64_t largest = find_largest(l, s);
    int32_t first = largest == ~(uint64_t)0 ? -1 : (int32_t) ~(uint32_t)largest;
    if (first >= 0 && how.scale > 0) {
        struct measure m = {
            {0, INT32_MAX}, AS_ONE, sampling_logit((uint32_t)(largest >> 32)), how.scale};
        if (how.top_k > 0 && how.top_k < l.n) (void)take_first(l, s, m, (uint64_t)how.top_k);
        m.as = AS_WEIGHT;
        uint64_t total = sum_all(l, s, m), share = sampling_share(how.top_p, total);
        __syncthreads(); /* the sum is read */
        if (share < total) total = take_first(l, s, m, share);
        first = walk_to(l, s, m, sampling_target(total, how.word));
    }
    if (threadIdx.x == 0) *id = first;
}

template <class T>
static void sample(struct device *d, int32_t *id, const void *z, int32_t V,
                   const struct kern_sample *how)
{
    if (packs(z, 0, sizeof(T))) {
        struct logits<T, pack<T>::V> l = {
            (const T *)z, V
        };
        launch(d, "sampling", sample_token<struct logits<T, pack<T>::V>>, 1, THREADS, 0, id, l,
               *how);
    } else {
        struct logits<T, 1> l = {
            (const T *)z, V
        };
        launch(d, "sampling", sample_token<struct logits<T, 1>>, 1, THREADS, 0, id, l, *how);
    }
}

void cuda_sample(struct device *d, int32_t *id, const void *logits, int32_t V,
                 const struct kern_sample *s)
{
    WITH_TYPE(d, T, sample<T>(d, id, logits, V, s));
}
