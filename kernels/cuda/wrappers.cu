/* wrappers.cu - what only a device can say: whether each wrapper does what its twin does.
 *
 * A row of the table is a kernel of one block around one wrapper of ptx.cuh (or of kernel.cuh,
 * where host and device have code of their own), and a plain statement, on the host, of what has to
 * come out. On a device the statement is held against the instruction, in emulation against the
 * twin, on the same inputs: where both agree with it bit for bit they agree with each other. A
 * product whose sums are not exact has a bound, in units of 2^-23 of the sum of the terms'
 * magnitudes: the tensor cores' order and width of adding are their own.
 *
 * Every wrapper of ptx.cuh and hopper.cuh has a row; tools/check rules sees to it. ROUNDS inputs a
 * row, some milliseconds in all.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/ptx.cuh"

extern "C" {
#include "base/mem.h"
}

enum { THREADS = 128, IN = 4096, OUT = 8192, ROUNDS = 16 };

/* What must come out of a round. `unit` 0: the bits; else within `bound` units of `value`. */
struct wanted {
    uint32_t bits[OUT];
    double value[OUT], unit[OUT];
};

/* --- inputs that both sides make of the same words --- */

/* -8 to 7, which bf16 holds, as do products' sums fp32. */
DEVICE float small_number(uint32_t word) { return (float)((int)(word >> 13 & 15) - 8); }

static float host_bf16(uint32_t half)
{
    uint32_t bits = half << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* A finite bf16 of either sign, 2^-8 to 2. */
DEVICE uint32_t plain_bf16(uint32_t word)
{
    return (word >> 16 & 0x8000u) | (119u + (word >> 3 & 7u)) << 7 | (word >> 20 & 0x7fu);
}

/* --- cp.async --- */

static __global__ void __launch_bounds__(THREADS) run_copy(uint32_t *out, const uint32_t *in)
{
    SHARED(uint4, slot, [THREADS]);
    int t = (int)threadIdx.x;
    uint4 before = {0xaaaaaaaau, 0xaaaaaaaau, 0xaaaaaaaau, 0xaaaaaaaau};
    slot[t] = before;
    __syncthreads();
    copy_async_16(shared_address(&slot[t]), in + 4 * t, t % 17);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    uint4 there = slot[(t + 33) % THREADS]; /* another warp's */
    out[4 * t] = there.x, out[4 * t + 1] = there.y, out[4 * t + 2] = there.z;
    out[4 * t + 3] = there.w;
}

static void want_copy(struct wanted *w, const uint32_t *in)
{
    for (int t = 0; t < THREADS; t++) {
        int from = (t + 33) % THREADS;
        memset(w->bits + 4 * t, 0, 16);
        memcpy(w->bits + 4 * t, in + 4 * from, (size_t)(from % 17));
    }
}

/* Eight bytes at a time: all of them or zeros. */
static __global__ void __launch_bounds__(THREADS) run_copy_8(uint32_t *out, const uint32_t *in)
{
    SHARED(uint2, slot, [THREADS]);
    int t = (int)threadIdx.x;
    uint2 before = {0xaaaaaaaau, 0xaaaaaaaau};
    slot[t] = before;
    __syncthreads();
    copy_async_8(shared_address(&slot[t]), in + 2 * t, t % 3 ? 8 : 0);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    uint2 there = slot[(t + 33) % THREADS];
    out[2 * t] = there.x, out[2 * t + 1] = there.y;
}

static void want_copy_8(struct wanted *w, const uint32_t *in)
{
    for (int t = 0; t < THREADS; t++) {
        int from = (t + 33) % THREADS;
        w->bits[2 * t] = from % 3 ? in[2 * from] : 0;
        w->bits[2 * t + 1] = from % 3 ? in[2 * from + 1] : 0;
    }
}

/* Groups in order: with one left under way, the first has arrived. */
static __global__ void __launch_bounds__(THREADS) run_groups(uint32_t *out, const uint32_t *in)
{
    SHARED(uint4, slot, [2 * THREADS]);
    int t = (int)threadIdx.x;
    for (int half = 0; half < 2; half++) {
        copy_async_16(shared_address(&slot[half * THREADS + t]), in + 4 * (half * THREADS + t), 16);
        copy_async_commit();
    }
    copy_async_wait<1>();
    __syncthreads();
    out[t] = slot[(t + 65) % THREADS].z;
    copy_async_wait<0>();
    __syncthreads();
    out[THREADS + t] = slot[THREADS + (t + 65) % THREADS].w;
}

static void want_groups(struct wanted *w, const uint32_t *in)
{
    for (int t = 0; t < THREADS; t++) {
        int from = (t + 65) % THREADS;
        w->bits[t] = in[4 * from + 2];
        w->bits[THREADS + t] = in[4 * (THREADS + from) + 3];
    }
}

/* --- ldmatrix: row r of tile i lies in slot (8i + r) * 5 % 32 --- */

template <int TILES, bool TURNED>
static __global__ void __launch_bounds__(WARP_SIZE) run_tiles(uint32_t *out, const uint32_t *in)
{
    SHARED(uint4, slot, [WARP_SIZE]);
    int lane = (int)threadIdx.x;
    uint32_t r[TILES];
    slot[lane] = ((const uint4 *)in)[lane];
    __syncwarp();
    uint32_t row = shared_address(&slot[lane * 5 % WARP_SIZE]);
    if constexpr (TILES == 4 && TURNED) load_tiles_4_turned(r, row);
    if constexpr (TILES == 4 && !TURNED) load_tiles_4(r, row);
    if constexpr (TILES == 2 && TURNED) load_tiles_2_turned(r, row);
    if constexpr (TILES == 2 && !TURNED) load_tiles_2(r, row);
    UNROLL for (int i = 0; i < TILES; i++) out[lane * TILES + i] = r[i];
}

static uint32_t tile_element(const uint32_t *in, int tile, int row, int col)
{
    uint32_t word = in[(8 * tile + row) * 5 % WARP_SIZE * 4 + col / 2];
    return col % 2 ? word >> 16 : word & 0xffff;
}

template <int TILES, bool TURNED> static void want_tiles(struct wanted *w, const uint32_t *in)
{
    for (int lane = 0; lane < WARP_SIZE; lane++)
        for (int i = 0; i < TILES; i++) {
            int a = lane / 4, b = 2 * (lane % 4);
            uint32_t low = TURNED ? tile_element(in, i, b, a) : tile_element(in, i, a, b);
            uint32_t high = TURNED ? tile_element(in, i, b + 1, a) : tile_element(in, i, a, b + 1);
            w->bits[lane * TILES + i] = low | high << 16;
        }
}

/* --- mma: a [16, 16] from in[0..256), b [16, 8] behind it, c [16, 8] behind that --- */

enum { A_AT = 0, B_AT = 256, C_AT = 384 };

template <bool EXACT> DEVICE uint32_t operand(uint32_t word)
{
    return EXACT ? bf16_bits(small_number(word)) : plain_bf16(word);
}

template <bool EXACT>
static __global__ void __launch_bounds__(WARP_SIZE) run_product(uint32_t *out, const uint32_t *in)
{
    int lane = (int)threadIdx.x, g = lane / 4, t = 2 * (lane % 4);
    uint32_t a[4], b[2];
    float c[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
        const uint32_t *p = in + A_AT + (g + 8 * (i & 1)) * 16 + t + 8 * (i >> 1);
        a[i] = operand<EXACT>(p[0]) | operand<EXACT>(p[1]) << 16;
        c[i] = small_number(in[C_AT + (g + 8 * (i >> 1)) * 8 + t + (i & 1)]);
    }
    UNROLL for (int i = 0; i < 2; i++)
    {
        const uint32_t *p = in + B_AT + (t + 8 * i) * 8 + g;
        b[i] = operand<EXACT>(p[0]) | operand<EXACT>(p[8]) << 16;
    }
    multiply_16x8x16(c, a, b);
    UNROLL for (int i = 0; i < 4; i++) out[(g + 8 * (i >> 1)) * 8 + t + (i & 1)] =
        bits_of_float(c[i]);
}

/* As small_number and plain_bf16, which are the device's. */
static double host_operand(uint32_t word, bool exact)
{
    if (exact) return (int)(word >> 13 & 15) - 8;
    return (double)host_bf16((word >> 16 & 0x8000u) | (119u + (word >> 3 & 7u)) << 7 |
                             (word >> 20 & 0x7fu));
}

template <bool EXACT> static void want_product(struct wanted *w, const uint32_t *in)
{
    for (int row = 0; row < 16; row++)
        for (int col = 0; col < 8; col++) {
            double sum = host_operand(in[C_AT + row * 8 + col], true), most = fabs(sum);
            for (int k = 0; k < 16; k++) {
                double term = host_operand(in[A_AT + row * 16 + k], EXACT) *
                              host_operand(in[B_AT + k * 8 + col], EXACT);
                sum += term, most += fabs(term);
            }
            float exact = (float)sum;
            w->value[row * 8 + col] = sum;
            w->unit[row * 8 + col] = EXACT ? 0 : most * 0x1p-23;
            memcpy(&w->bits[row * 8 + col], &exact, sizeof exact);
        }
}

/* --- named barriers: warps 0 and 1 hand words to warps 2 and 3, which wait --- */

static __global__ void __launch_bounds__(THREADS) run_barriers(uint32_t *out, const uint32_t *in)
{
    SHARED(uint32_t, words, [THREADS]);
    int t = (int)threadIdx.x, half = THREADS / 2;
    if (t < half) {
        words[t] = in[t];
        barrier_sync(1, half); /* among these two warps */
        words[half + t] = words[(t + 37) % half] + in[half + t];
        barrier_arrive(2, THREADS);
        out[t] = in[t];
    } else {
        barrier_sync(2, THREADS);
        out[t] = words[half + (t + 37) % half];
    }
}

static void want_barriers(struct wanted *w, const uint32_t *in)
{
    int half = THREADS / 2;
    for (int t = 0; t < half; t++) {
        int from = (half + t + 37) % half;
        w->bits[t] = in[t];
        w->bits[half + t] = in[(from + 37) % half] + in[half + from];
    }
}

/* --- bf16: to the nearest, ties to even; infinities stay, a NaN stays one --- */

static __global__ void __launch_bounds__(THREADS) run_rounding(uint32_t *out, const uint32_t *in)
{
    for (int i = (int)threadIdx.x; i < IN; i += THREADS) out[i] = bf16_bits(float_of_bits(in[i]));
}

/* The nearer of the two neighbours, by distance; of equals the even one. */
static void want_rounding(struct wanted *w, const uint32_t *in)
{
    for (int i = 0; i < IN; i++) {
        uint32_t down = in[i] >> 16, up = down + 1;
        uint32_t rest = in[i] & 0xffff;
        int nan = (in[i] & 0x7fffffffu) > 0x7f800000u;
        int goes_up = rest > 0x8000 || (rest == 0x8000 && down % 2);
        w->bits[i] = nan ? 0x7fff : goes_up ? up : down;
    }
}

/* Two at once, the first in the lower half. */
static __global__ void __launch_bounds__(THREADS) run_pair(uint32_t *out, const uint32_t *in)
{
    for (int i = (int)threadIdx.x; i < IN / 2; i += THREADS)
        out[i] = computed_anew(bf16_pair(float_of_bits(in[2 * i]), float_of_bits(in[2 * i + 1])));
}

static void want_pair(struct wanted *w, const uint32_t *in)
{
    struct wanted each;
    want_rounding(&each, in);
    for (int i = 0; i < IN / 2; i++) w->bits[i] = each.bits[2 * i] | each.bits[2 * i + 1] << 16;
}

/* --- 2^x, x from -160 to 32: below -126 nothing is left --- */

DEVICE float exponent(uint32_t word) { return (float)(word >> 8) * (192.0f / 16777216.0f) - 160; }

static __global__ void __launch_bounds__(THREADS) run_power(uint32_t *out, const uint32_t *in)
{
    for (int i = (int)threadIdx.x; i < IN; i += THREADS)
        out[i] = bits_of_float(power_of_2(i ? exponent(in[i]) : float_of_bits(0xff800000u)));
}

static void want_power(struct wanted *w, const uint32_t *in)
{
    for (int i = 0; i < IN; i++) {
        float x = (float)(in[i] >> 8) * (192.0f / 16777216.0f) - 160;
        double y = i ? exp2((double)x) : 0;
        w->value[i] = y < 0x1p-126 ? 0 : y;
        w->unit[i] = fmax(y, 0x1p-126) * 0x1p-23;
    }
}

#include "kernels/cuda/wrappers_hopper.cuh"

/* --- the table --- */

enum { HOPPER = 90 };

static const struct row {
    const char *name;
    void (*run)(uint32_t *out, const uint32_t *in);
    int threads, words;
    void (*want)(struct wanted *w, const uint32_t *in);
    double bound;       /* units; 0: bit for bit */
    int capability = 0; /* of the GPUs that have it; 0: all */
    int shared = 0;     /* bytes */
    void (*run_maps)(uint32_t *out, const uint32_t *in, const struct map_pair maps) = NULL;
} rows[] = {
    {"cp.async", run_copy, THREADS, 4 * THREADS, want_copy, 0},
    {"cp.async 8", run_copy_8, THREADS, 2 * THREADS, want_copy_8, 0},
    {"cp.async groups", run_groups, THREADS, 2 * THREADS, want_groups, 0},
    {"ldmatrix.x4", run_tiles<4, false>, WARP_SIZE, 4 * WARP_SIZE, want_tiles<4, false>, 0},
    {"ldmatrix.x4.trans", run_tiles<4, true>, WARP_SIZE, 4 * WARP_SIZE, want_tiles<4, true>, 0},
    {"ldmatrix.x2", run_tiles<2, false>, WARP_SIZE, 2 * WARP_SIZE, want_tiles<2, false>, 0},
    {"ldmatrix.x2.trans", run_tiles<2, true>, WARP_SIZE, 2 * WARP_SIZE, want_tiles<2, true>, 0},
    {"mma.m16n8k16 exact", run_product<true>, WARP_SIZE, 128, want_product<true>, 0},
    {"mma.m16n8k16", run_product<false>, WARP_SIZE, 128, want_product<false>, 16},
    {"bar.sync, bar.arrive", run_barriers, THREADS, THREADS, want_barriers, 0},
    {"cvt.rn.bf16x2", run_pair, THREADS, IN / 2, want_pair, 0},
    {"ex2.approx.ftz", run_power, THREADS, IN, want_power, 4},
    {"bf16 rounding", run_rounding, THREADS, IN, want_rounding, 0},
    {"mbarrier", run_mbarrier, THREADS, THREADS, want_mbarrier, 0, HOPPER},
    {"cp.async.bulk", run_bulk_load, THREADS, 8 * THREADS, want_bulk_load, 0, HOPPER, 32 * THREADS},
    {"cp.reduce.async.bulk.add.s32", run_bulk_add, THREADS, 4 * THREADS, want_bulk_add, 0, HOPPER,
     32 * THREADS},
    {"cp.async.bulk.tensor load", NULL, THREADS, MAP_BOX * 32, want_tensor_load, 0, HOPPER,
     MAP_BOX * 128, run_tensor_load},
    {"cp.async.bulk.tensor store", NULL, THREADS, MAP_ROWS *MAP_LD / 2, want_tensor_store, 0,
     HOPPER, MAP_BOX * 128, run_tensor_store},
    {"wgmma rows rows", run_wgmma<64, LEFT_ROWS, false, true>, THREADS, 64 * 64,
     want_wgmma<64, true>, 0, HOPPER, PRODUCT_SHARED},
    {"wgmma rows columns", run_wgmma<128, LEFT_ROWS, true, true>, THREADS, 64 * 128,
     want_wgmma<128, true>, 0, HOPPER, PRODUCT_SHARED},
    {"wgmma columns rows", run_wgmma<128, LEFT_COLUMNS, false, true>, THREADS, 64 * 128,
     want_wgmma<128, true>, 0, HOPPER, PRODUCT_SHARED},
    {"wgmma columns columns", run_wgmma<64, LEFT_COLUMNS, true, true>, THREADS, 64 * 64,
     want_wgmma<64, true>, 0, HOPPER, PRODUCT_SHARED},
    {"wgmma registers rows", run_wgmma<32, LEFT_REGISTERS, false, true>, THREADS, 64 * 32,
     want_wgmma<32, true>, 0, HOPPER, PRODUCT_SHARED},
    {"wgmma registers columns", run_wgmma<128, LEFT_REGISTERS, true, true>, THREADS, 64 * 128,
     want_wgmma<128, true>, 0, HOPPER, PRODUCT_SHARED},
    {"wgmma inexact", run_wgmma<64, LEFT_ROWS, true, false>, THREADS, 64 * 64,
     want_wgmma<64, false>, 32, HOPPER, PRODUCT_SHARED},
    {"wgmma groups", run_wgmma_groups, THREADS, 2 * 2048, want_wgmma_groups, 0, HOPPER,
     PRODUCT_SHARED},
    {"setmaxnreg, elect.sync", run_registers, ALL_THREADS, ALL_THREADS, want_registers, 0, HOPPER},
};

enum { NUM_ROWS = sizeof rows / sizeof *rows };

static void compare(const struct row *r, const struct wanted *w, const uint32_t *got,
                    struct kern_check *out)
{
    for (int i = 0; i < r->words; i++) {
        float value;
        double off = got[i] == w->bits[i] ? 0 : INFINITY;
        memcpy(&value, &got[i], sizeof value);
        if (r->bound > 0) off = fabs((double)value - w->value[i]) / w->unit[i];
        if (!(off <= r->bound)) out->wrong++;
        if (off > out->worst) out->worst = off;
    }
    out->values += r->words;
}

/* Random words, and those that are worth a look in every round. */
static void fill_input(uint32_t *in, int row, int round)
{
    static const uint32_t known[] = {0,           0x80000000u, 0x3f808000u, 0x3f818000u,
                                     0x7f800000u, 0xff800000u, 0x7fc00001u, 0x7f7fffffu,
                                     0x00007fffu, 0x00008001u};
    struct rng_key key = rng_key((uint64_t)round, RNG_INIT, (uint64_t)row);
    for (uint32_t i = 0; i < IN; i += 4) {
        uint32_t counter[4] = {i, 0, 0, 0};
        rng_words(key, counter, in + i);
    }
    memcpy(in + 17 * round, known, sizeof known);
}

static void check_row(struct device *d, int row, void *const on_device[2], uint32_t *in,
                      uint32_t *got, struct wanted *w, struct kern_check *out)
{
    const struct row *r = &rows[row];
    struct map_pair maps = {};
    if (r->run_maps) {
        cuda_tensor_map(d, &maps.in, on_device[0], MAP_COLUMNS, MAP_ROWS, MAP_LD, MAP_BOX);
        cuda_tensor_map(d, &maps.out, on_device[1], MAP_COLUMNS, MAP_ROWS, MAP_LD, MAP_BOX);
    }
    *out = (struct kern_check){};
    out->name = r->name;
    out->bound = r->bound;
    for (int round = 0; round < ROUNDS; round++) {
        fill_input(in, row, round);
        memset(got, 0x5a, OUT * sizeof *got);
        r->want(w, in);
        cuda_upload(d, on_device[0], in, IN * sizeof *in);
        cuda_upload(d, on_device[1], got, OUT * sizeof *got);
        if (r->run_maps)
            launch(d, r->name, r->run_maps, 1, (unsigned)r->threads, (size_t)r->shared,
                   (uint32_t *)on_device[1], (const uint32_t *)on_device[0], maps);
        else
            launch(d, r->name, r->run, 1, (unsigned)r->threads, (size_t)r->shared,
                   (uint32_t *)on_device[1], (const uint32_t *)on_device[0]);
        cuda_download(d, got, on_device[1], OUT * sizeof *got);
        compare(r, w, got, out);
    }
}

enum status cuda_check(struct device *d, int32_t first, struct kern_check *out, int32_t room,
                       int32_t *count, struct err *e)
{
    void *on_device[2] = {};
    struct wanted *w = (struct wanted *)mem_calloc(1, sizeof *w);
    uint32_t *in = (uint32_t *)mem_calloc(IN + OUT, sizeof *in), *got = in ? in + IN : NULL;
    enum status s = w && in ? OK : err_set(e, ERR_MEMORY, "no memory to check the GPU");
    if (!s) s = cuda_alloc(d, IN * sizeof *in, &on_device[0], e);
    if (!s) s = cuda_alloc(d, OUT * sizeof *got, &on_device[1], e);
    *count = 0;
    for (int i = first; !s && i < NUM_ROWS && *count < room; i++) {
        if (rows[i].capability > cuda_state(d)->capability) continue;
        check_row(d, i, on_device, in, got, w, &out[(*count)++]);
        s = d->k->sync(d, e);
    }
    cuda_release(d, on_device[0], 0);
    cuda_release(d, on_device[1], 0);
    mem_free(in);
    mem_free(w);
    return s;
}
