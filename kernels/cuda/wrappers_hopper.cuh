/* wrappers_hopper.cuh - the rows of wrappers.cu for the instructions of sm_90a (hopper.cuh). */
#ifndef CRIA_KERNELS_CUDA_WRAPPERS_HOPPER_CUH
#define CRIA_KERNELS_CUDA_WRAPPERS_HOPPER_CUH

#include "kernels/cuda/hopper.cuh"

/* Of the input, and of the output, as MAP_ROWS rows of MAP_COLUMNS bf16, MAP_LD apart. */
enum { MAP_ROWS = 24, MAP_COLUMNS = 192, MAP_LD = 256, MAP_BOX = 16 };
enum { MAP_ROW = 5, MAP_COLUMN = 64, MAP_COUNT = 11 }; /* what is moved */

struct map_pair {
    struct tensor_map in, out;
};

/* --- mbarriers: warps 0 and 1 hand words over and take the answers, twice --- */

static __global__ void __launch_bounds__(THREADS) run_mbarrier(uint32_t *out, const uint32_t *in)
{
    SHARED(uint64_t, barriers, [2]);
    SHARED(uint32_t, words, [THREADS]);
    const int t = (int)threadIdx.x, half = THREADS / 2;
    const uint32_t there = shared_address(barriers), answered = there + 8;
    uint32_t sum = 0;
    if (t == 0) {
        mbarrier_init(there, half);
        mbarrier_init(answered, half);
        mbarrier_init_fence();
    }
    __syncthreads();
    mbarrier_wait(there, 1); /* of the phase before the first: over */
    __syncthreads();
    for (int round = 0; round < 2; round++) {
        if (t < half) {
            words[t] = in[t + round];
            mbarrier_arrive(there);
            mbarrier_wait(answered, round);
            sum += words[half + (t + 37) % half];
        } else {
            mbarrier_wait(there, round);
            sum += words[t] = words[(t + 11) % half] + in[t + round];
            mbarrier_arrive(answered);
        }
    }
    out[t] = sum;
}

static void want_mbarrier(struct wanted *w, const uint32_t *in)
{
    const int half = THREADS / 2;
    for (int t = 0; t < THREADS; t++) {
        int from = t < half ? half + (t + 37) % half : t;
        w->bits[t] = 0;
        for (int round = 0; round < 2; round++)
            w->bits[t] += in[(from + 11) % half + round] + in[from + round];
    }
}

/* --- bulk copies --- */

DEVICE void open_barrier(uint32_t at)
{
    if (threadIdx.x == 0) {
        mbarrier_init(at, 1);
        mbarrier_init_fence();
    }
    __syncthreads();
}

static __global__ void __launch_bounds__(THREADS) run_bulk_load(uint32_t *out, const uint32_t *in)
{
    SHARED(uint64_t, barrier, [1]);
    DYNAMIC_SHARED(words);
    const int t = (int)threadIdx.x;
    const uint32_t at = shared_address(barrier);
    open_barrier(at);
    if (t < WARP_SIZE && elect_one()) {
        mbarrier_arrive_expect(at, 32 * THREADS);
        for (int i = 0; i < 2; i++)
            bulk_load(shared_address(words) + (uint32_t)(1 - i) * 16 * THREADS,
                      in + i * 4 * THREADS, 16 * THREADS, at);
    }
    mbarrier_wait(at, 0);
    for (int i = t; i < 8 * THREADS; i += THREADS) out[i] = ((const uint32_t *)words)[i];
}

static void want_bulk_load(struct wanted *w, const uint32_t *in)
{
    memcpy(w->bits, in + 4 * THREADS, 16 * THREADS);
    memcpy(w->bits + 4 * THREADS, in, 16 * THREADS);
}

/* Twice to the same place, in two groups; what was there before is 0x5a5a5a5a. */
static __global__ void __launch_bounds__(THREADS) run_bulk_add(uint32_t *out, const uint32_t *in)
{
    DYNAMIC_SHARED(memory);
    uint32_t *words = (uint32_t *)memory;
    const int t = (int)threadIdx.x;
    for (int i = t; i < 8 * THREADS; i += THREADS) words[i] = in[i];
    fence_async_proxy();
    __syncthreads();
    if (t) return;
    for (int i = 0; i < 2; i++) {
        bulk_add((int32_t *)out, shared_address(words + i * 4 * THREADS), 16 * THREADS);
        bulk_commit();
    }
    bulk_wait_read<1>();
    bulk_wait<0>();
}

static void want_bulk_add(struct wanted *w, const uint32_t *in)
{
    for (int i = 0; i < 4 * THREADS; i++) w->bits[i] = 0x5a5a5a5au + in[i] + in[4 * THREADS + i];
}

/* --- tensors: a panel with its swizzle as it lies in shared memory, and back --- */

static __global__ void __launch_bounds__(THREADS)
    run_tensor_load(uint32_t *out, const uint32_t *, const __grid_constant__ struct map_pair maps)
{
    DYNAMIC_SHARED(panel);
    SHARED(uint64_t, barrier, [1]);
    const int t = (int)threadIdx.x;
    const uint32_t at = shared_address(barrier);
    open_barrier(at);
    if (t == 0) {
        tma_prefetch(maps.in);
        mbarrier_arrive_expect(at, MAP_BOX * 128);
        tma_load(shared_address(panel), maps.in, MAP_BOX, at, MAP_COLUMN, MAP_ROW, MAP_COUNT);
    }
    mbarrier_wait(at, 0);
    for (int i = t; i < MAP_BOX * 32; i += THREADS)
        out[i] = *(const uint32_t *)(panel + panel_chunk(i / 32, i % 32 / 4) + i % 4 * 4);
}

static void want_tensor_load(struct wanted *w, const uint32_t *in)
{
    for (int i = 0; i < MAP_BOX * 32; i++)
        w->bits[i] =
            i / 32 < MAP_COUNT ? in[(MAP_ROW + i / 32) * MAP_LD / 2 + MAP_COLUMN / 2 + i % 32] : 0;
}

static __global__ void __launch_bounds__(THREADS)
    run_tensor_store(uint32_t *, const uint32_t *in, const __grid_constant__ struct map_pair maps)
{
    DYNAMIC_SHARED(panel);
    const int t = (int)threadIdx.x;
    for (int i = t; i < MAP_BOX * 32; i += THREADS)
        *(uint32_t *)(panel + panel_chunk(i / 32, i % 32 / 4) + i % 4 * 4) = in[i];
    fence_async_proxy();
    __syncthreads();
    if (t) return;
    tma_store(maps.out, MAP_BOX, shared_address(panel), MAP_COLUMN, MAP_ROW, MAP_COUNT);
    bulk_commit();
    bulk_wait<0>();
}

static void want_tensor_store(struct wanted *w, const uint32_t *in)
{
    for (int i = 0; i < MAP_ROWS * MAP_LD / 2; i++) w->bits[i] = 0x5a5a5a5au;
    for (int i = 0; i < MAP_COUNT * 32; i++)
        w->bits[(MAP_ROW + i / 32) * MAP_LD / 2 + MAP_COLUMN / 2 + i % 32] = in[i];
}

/* --- products: a [64, 32] and b [32, N] of the input, over c of it; out [64, N] --- */

enum { SUM = 32, LEFT_PANEL = 64 * 128, RIGHT_ROWS = 128, RIGHT_PANEL = RIGHT_ROWS * 128 };
enum { PRODUCT_SHARED = LEFT_PANEL + RIGHT_PANEL };

DEVICE int left_word(int row, int k) { return (row * SUM + k) % IN; }
DEVICE int right_word(int column, int k) { return (2048 + column * SUM + k) % IN; }
DEVICE int start_word(int row, int column) { return (row * 67 + column * 5 + 7) % IN; }

/* Element (row, k) of an operand of `columns` of the sum's other side. */
DEVICE void put_operand(unsigned char *tile, int panel_bytes, int as_columns, int row, int k,
                        uint32_t bits)
{
    int side = as_columns ? row % 64 : k, down = as_columns ? k : row;
    tile += (as_columns ? row / 64 * panel_bytes : 0) + panel_chunk(down, side / 8);
    ((uint16_t *)tile)[side % 8] = (uint16_t)bits;
}

enum left { LEFT_ROWS, LEFT_COLUMNS, LEFT_REGISTERS };

template <int N, enum left LEFT, bool COLUMNS, bool EXACT>
static __global__ void __launch_bounds__(THREADS) run_wgmma(uint32_t *out, const uint32_t *in)
{
    DYNAMIC_SHARED(memory);
    constexpr int PANEL = COLUMNS ? SUM * 128 : RIGHT_PANEL;
    const int t = (int)threadIdx.x, g = t / 32 * 16 + t % 32 / 4, c = 2 * (t % 4);
    unsigned char *right = memory + LEFT_PANEL;
    float d[N / 8][4];
    uint32_t a[SUM / 16][4];
    for (int i = t; i < 64 * SUM; i += THREADS)
        put_operand(memory, LEFT_PANEL, LEFT == LEFT_COLUMNS, i / SUM, i % SUM,
                    operand<EXACT>(in[left_word(i / SUM, i % SUM)]));
    for (int i = t; i < N * SUM; i += THREADS)
        put_operand(right, PANEL, COLUMNS, i / SUM, i % SUM,
                    operand<EXACT>(in[right_word(i / SUM, i % SUM)]));
    UNROLL for (int n = 0; n < N / 8; n++) UNROLL for (int i = 0; i < 4; i++) d[n][i] =
        small_number(in[start_word(g + i / 2 * 8, 8 * n + c + i % 2)]);
    UNROLL for (int k = 0; k < SUM / 16; k++) UNROLL for (int i = 0; i < 4; i++)
    {
        int row = g + 8 * (i & 1), at = 16 * k + c + 8 * (i >> 1);
        a[k][i] = operand<EXACT>(in[left_word(row, at)]) |
                  operand<EXACT>(in[left_word(row, at + 1)]) << 16;
    }
    fence_async_proxy();
    __syncthreads();
    uint64_t x = LEFT == LEFT_COLUMNS ? operand_columns(shared_address(memory), LEFT_PANEL)
                                      : operand_rows(shared_address(memory));
    uint64_t y = COLUMNS ? operand_columns(shared_address(right), PANEL)
                         : operand_rows(shared_address(right));
    wgmma_hold(d);
    wgmma_fence();
    UNROLL for (int k = 0; k < SUM / 16; k++)
    {
        uint64_t b = operand_at(y, (uint32_t)k * (COLUMNS ? 2048 : 32));
        if constexpr (LEFT == LEFT_REGISTERS)
            wgmma<N, COLUMNS>(d, a[k], b, 1);
        else
            wgmma<N, LEFT == LEFT_COLUMNS, COLUMNS>(
                d, operand_at(x, (uint32_t)k * (LEFT == LEFT_COLUMNS ? 2048 : 32)), b, 1);
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_hold(d);
    UNROLL for (int n = 0; n < N / 8; n++) UNROLL for (int i = 0; i < 4; i++)
        out[(g + i / 2 * 8) * N + 8 * n + c + i % 2] = bits_of_float(d[n][i]);
}

template <int N, bool EXACT> static void want_wgmma(struct wanted *w, const uint32_t *in)
{
    for (int row = 0; row < 64; row++)
        for (int col = 0; col < N; col++) {
            double sum = host_operand(in[(row * 67 + col * 5 + 7) % IN], true), most = fabs(sum);
            for (int k = 0; k < SUM; k++) {
                double term = host_operand(in[(row * SUM + k) % IN], EXACT) *
                              host_operand(in[(2048 + col * SUM + k) % IN], EXACT);
                sum += term, most += fabs(term);
            }
            float exact = (float)sum;
            w->value[row * N + col] = sum;
            w->unit[row * N + col] = EXACT ? 0 : most * 0x1p-23;
            memcpy(&w->bits[row * N + col], &exact, sizeof exact);
        }
}

/* d = a b over what is there, then d += a b: two batches, of which one may be under way. */
static __global__ void __launch_bounds__(THREADS)
    run_wgmma_groups(uint32_t *out, const uint32_t *in)
{
    DYNAMIC_SHARED(memory);
    const int t = (int)threadIdx.x, g = t / 32 * 16 + t % 32 / 4, c = 2 * (t % 4);
    const uint32_t base = shared_address(memory);
    float d[2][4][4];
    for (int i = t; i < 96 * SUM; i += THREADS)
        put_operand(memory, LEFT_PANEL, 0, i / SUM, i % SUM,
                    operand<true>(in[i / SUM < 64 ? left_word(i / SUM, i % SUM)
                                                  : right_word(i / SUM - 64, i % SUM)]));
    UNROLL for (int n = 0; n < 4; n++) UNROLL for (int i = 0; i < 4; i++) d[0][n][i] = 77;
    fence_async_proxy();
    __syncthreads();
    UNROLL for (int k = 0; k < 2; k++)
    {
        wgmma_fence();
        wgmma<32, false, false>(d[k], operand_at(operand_rows(base), (uint32_t)k * 32),
                                operand_at(operand_rows(base + LEFT_PANEL), (uint32_t)k * 32), 0);
        wgmma_commit();
    }
    wgmma_wait<1>();
    wgmma_hold(d[0]);
    UNROLL for (int n = 0; n < 4; n++) UNROLL for (int i = 0; i < 4; i++)
        out[(g + i / 2 * 8) * 32 + 8 * n + c + i % 2] = bits_of_float(d[0][n][i]);
    wgmma_wait<0>();
    wgmma_hold(d[1]);
    UNROLL for (int n = 0; n < 4; n++) UNROLL for (int i = 0; i < 4; i++)
        out[2048 + (g + i / 2 * 8) * 32 + 8 * n + c + i % 2] = bits_of_float(d[1][n][i]);
}

static void want_wgmma_groups(struct wanted *w, const uint32_t *in)
{
    for (int i = 0; i < 2 * 2048; i++) {
        int row = i % 2048 / 32, col = i % 32, first = i / 2048 * 16;
        double sum = 0;
        for (int k = first; k < first + 16; k++)
            sum += host_operand(in[(row * SUM + k) % IN], true) *
                   host_operand(in[(2048 + col * SUM + k) % IN], true);
        float exact = (float)sum;
        memcpy(&w->bits[i], &exact, sizeof exact);
    }
}

/* --- registers go from the first warpgroup to the others; one lane of each warp is elected --- */

enum { GIVERS = 128, ALL_THREADS = 384 };

static __global__ void __launch_bounds__(ALL_THREADS, 1)
    run_registers(uint32_t *out, const uint32_t *in)
{
    const int t = (int)threadIdx.x;
    if (t < GIVERS)
        registers_give<24>();
    else
        registers_take<240>();
    int first = elect_one(), second = elect_one();
    uint32_t chosen = __ballot_sync(ALL_LANES, first), again = __ballot_sync(ALL_LANES, second);
    out[t] = in[t] + (uint32_t)__popc(chosen) + (chosen != again);
}

static void want_registers(struct wanted *w, const uint32_t *in)
{
    for (int t = 0; t < ALL_THREADS; t++) w->bits[t] = in[t] + 1;
}

#endif
