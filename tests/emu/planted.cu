#include "emu/planted.h"

#include <vector>

#include "kernels/cuda/ptx.cuh"
#include "kernels/emu/runtime.h"

enum { THREADS = 128, WARPS = THREADS / WARP_SIZE };

/* --- sums: block_sum twice in a row, as a norm does --- */

enum { RIGHT, NO_BARRIER, REUSED };

template <int FAULT> DEVICE float sum_of_block(float v, float *part)
{
    v = warp_sum(v);
    if (FAULT != REUSED) __syncthreads();
    if (threadIdx.x % WARP_SIZE == 0) part[threadIdx.x / WARP_SIZE] = v;
    if (FAULT != NO_BARRIER) __syncthreads();
    v = 0;
    for (int w = 0; w < WARPS; w++) v += part[w];
    return v;
}

template <int FAULT> __global__ void sums(float *out, const float *x)
{
    SHARED(float, part, [WARPS]);
    float v = x[threadIdx.x], a = sum_of_block<FAULT>(v, part);
    float b = sum_of_block<FAULT>(v * v, part);
    out[threadIdx.x] = a + b;
}

/* --- turn: each lane reads what another one wrote --- */

template <int SYNC> __global__ void turn(float *out, const float *x)
{
    SHARED(float, row, [THREADS]);
    int lane = (int)threadIdx.x % WARP_SIZE, first = (int)threadIdx.x - lane;
    row[threadIdx.x] = x[threadIdx.x];
    if (SYNC) __syncwarp();
    out[threadIdx.x] = row[first + WARP_SIZE - 1 - lane];
}

/* --- product: c [64, 8] = a [64, K] b [8, K]^T, 16 of K at a time, two stages --- */

enum { ROWS = 64, COLUMNS = 8, DEPTH = 16, STEPS = 8, K = DEPTH * STEPS };
enum { ROW_BYTES = DEPTH * 2, A_BYTES = ROWS * ROW_BYTES, STAGE = A_BYTES + COLUMNS * ROW_BYTES };
enum { NO_WAIT = 3, PAST_END, IN_FLIGHT };

DEVICE void fill_stage(uint32_t to, const uint16_t *a, const uint16_t *b, int step)
{
    int row = (int)threadIdx.x / 2, half = (int)threadIdx.x % 2;
    copy_async_16(to + row * ROW_BYTES + half * 16, a + row * K + step * DEPTH + half * 8, 16);
    if (row < COLUMNS)
        copy_async_16(to + A_BYTES + row * ROW_BYTES + half * 16,
                      b + row * K + step * DEPTH + half * 8, 16);
}

template <int FAULT> __global__ void product(float *c, const uint16_t *a, const uint16_t *b)
{
    DYNAMIC_SHARED(memory);
    int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
    uint32_t base = shared_address(memory) + (FAULT == PAST_END ? 16 : 0);
    float sum[4] = {};
    fill_stage(base, a, b, 0);
    copy_async_commit();
    for (int step = 0; step < STEPS; step++) {
        uint32_t stage = base + (uint32_t)(step % 2) * STAGE, ra[4], rb[2];
        if (step + 1 < STEPS) fill_stage(base + (uint32_t)((step + 1) % 2) * STAGE, a, b, step + 1);
        copy_async_commit();
        if (FAULT == NO_WAIT)
            copy_async_wait<2>();
        else
            copy_async_wait<1>();
        if (FAULT != NO_BARRIER) __syncthreads();
        load_tiles_4(ra, stage + (uint32_t)(warp * 16 + lane % 16) * ROW_BYTES + lane / 16 * 16);
        load_tiles_2(rb, stage + A_BYTES + (uint32_t)(lane % 8) * ROW_BYTES + lane / 8 % 2 * 16);
        multiply_16x8x16(sum, ra, rb);
        if (FAULT != REUSED) __syncthreads();
    }
    if (FAULT == IN_FLIGHT) fill_stage(base, a, b, 0);
    if (FAULT == NO_WAIT) copy_async_wait<0>();
    UNROLL for (int i = 0; i < 4; i++)
        c[(warp * 16 + lane / 4 + i / 2 * 8) * COLUMNS + lane % 4 * 2 + i % 2] = sum[i];
}

/* --- masked: out[r] = sum of x[k], k <= r --- */

enum { BY_ONE = 1, READ_PAST, WROTE_PAST };

template <int FAULT> __global__ void masked(float *out, const float *x, int n)
{
    int row = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (row >= n) return;
    float sum = 0;
    for (int k = 0; k < n + (FAULT == READ_PAST); k++)
        if (k <= row + (FAULT == BY_ONE) || k == n) sum += x[k];
    out[row + (FAULT == WROTE_PAST && row == n - 1)] = sum;
}

/* --- vote: how many of the even lanes are positive --- */

enum { DIVERGENT = 1, LEFT };

template <int FAULT> __global__ void vote(float *out, const float *x)
{
    float v = x[threadIdx.x];
    uint32_t mask = FAULT == DIVERGENT ? ALL_LANES : 0x55555555u, votes = 0;
    out[threadIdx.x] = 0;
    if (FAULT == LEFT && threadIdx.x == 5) return;
    if (threadIdx.x % 2 == 0) votes = __ballot_sync(mask, v > 0);
    __syncthreads();
    out[threadIdx.x] = (float)__popc(votes);
}

/* --- running --- */

static float *device_floats(int n)
{
    void *p;
    if (cudaMalloc(&p, (size_t)n * sizeof(float))) emu::fail("no memory");
    return (float *)p;
}

struct scene {
    struct device device;
    struct cuda_state state;
    float *x, *out;
    int n;
};

static void scene_open(struct scene *s, int n)
{
    *s = {};
    s->device.state = &s->state;
    cudaStreamCreateWithFlags(&s->state.compute, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&s->state.copy, cudaStreamNonBlocking);
    s->n = n;
    s->x = device_floats(n);
    s->out = device_floats(n);
    for (int i = 0; i < n; i++) s->x[i] = (float)(i % 7 - 3);
}

/* Waits; whether out is what f says. */
template <class F> static int check(struct scene *s, F f)
{
    int wrong = 0;
    cudaStreamSynchronize(s->state.compute);
    for (int i = 0; i < s->n; i++) wrong |= !(s->out[i] == f(i));
    cudaFree(s->x);
    cudaFree(s->out);
    cudaStreamDestroy(s->state.compute);
    cudaStreamDestroy(s->state.copy);
    return wrong;
}

static int run_sums(void (*kernel)(float *, const float *))
{
    struct scene s;
    float want = 0;
    scene_open(&s, THREADS);
    for (int i = 0; i < THREADS; i++) want += s.x[i] + s.x[i] * s.x[i];
    launch(&s.device, "sums", kernel, 1, THREADS, 0, s.out, (const float *)s.x);
    return check(&s, [=](int) { return want; });
}

static int run_turn(void (*kernel)(float *, const float *))
{
    struct scene s;
    scene_open(&s, THREADS);
    launch(&s.device, "turn", kernel, 1, THREADS, 0, s.out, (const float *)s.x);
    return check(&s, [](int i) { return (float)((i / 32 * 32 + 31 - i % 32) % 7 - 3); });
}

static int run_product(void (*kernel)(float *, const uint16_t *, const uint16_t *))
{
    struct scene s;
    float c[ROWS * COLUMNS] = {};
    scene_open(&s, ROWS * COLUMNS);
    uint16_t *a = (uint16_t *)device_floats(ROWS * K / 2);
    uint16_t *b = (uint16_t *)device_floats(COLUMNS * K / 2);
    for (int i = 0; i < ROWS * K; i++) a[i] = (uint16_t)bf16_bits((float)(i % 11 - 5));
    for (int i = 0; i < COLUMNS * K; i++) b[i] = (uint16_t)bf16_bits((float)(i % 13 - 6));
    for (int i = 0; i < ROWS * COLUMNS * K; i++) {
        int row = i / K / COLUMNS, column = i / K % COLUMNS, k = i % K;
        c[row * COLUMNS + column] +=
            (float)((row * K + k) % 11 - 5) * (float)((column * K + k) % 13 - 6);
    }
    launch(&s.device, "product", kernel, 1, THREADS, 2 * STAGE, s.out, (const uint16_t *)a,
           (const uint16_t *)b);
    int wrong = check(&s, [&](int i) { return c[i]; });
    cudaFree(a);
    cudaFree(b);
    return wrong;
}

static int run_masked(void (*kernel)(float *, const float *, int))
{
    struct scene s;
    enum { N = 192 }; /* 768 bytes: an allocation without slack */
    scene_open(&s, N);
    launch(&s.device, "masked", kernel, 2, THREADS, 0, s.out, (const float *)s.x, N);
    return check(&s, [](int i) {
        float sum = 0;
        for (int k = 0; k <= i; k++) sum += (float)(k % 7 - 3);
        return sum;
    });
}

static int run_vote(void (*kernel)(float *, const float *))
{
    struct scene s;
    scene_open(&s, THREADS);
    launch(&s.device, "vote", kernel, 1, THREADS, 0, s.out, (const float *)s.x);
    return check(&s, [](int i) {
        int votes = 0;
        for (int k = i / 32 * 32; k < i / 32 * 32 + 32; k += 2) votes += k % 7 > 3;
        return (float)(i % 2 ? 0 : votes);
    });
}

static __global__ void add_one(float *x) { x[threadIdx.x] += 1; }

/* The copy stream brings the numbers, the other one adds to them. */
static int run_streams(enum planted p)
{
    struct scene s;
    cudaEvent_t there;
    float host[THREADS], result[THREADS];
    size_t bytes = sizeof host;
    scene_open(&s, THREADS);
    cudaEventCreateWithFlags(&there, cudaEventDisableTiming);
    for (int i = 0; i < THREADS; i++) host[i] = (float)i;
    cudaMemcpyAsync(s.out, host, bytes, cudaMemcpyHostToDevice, s.state.copy);
    cudaEventRecord(there, s.state.copy);
    if (p != PLANTED_streams_no_event) cudaStreamWaitEvent(s.state.compute, there, 0);
    launch(&s.device, "add", add_one, 1, THREADS, 0, s.out);
    if (p != PLANTED_streams_host) cudaEventSynchronize(there);
    for (int i = 0; i < THREADS; i++) host[i] = -1;
    for (int i = 0; i < THREADS; i++) result[i] = -1;
    cudaMemcpyAsync(result, s.out, bytes, cudaMemcpyDeviceToHost, s.state.compute);
    if (p != PLANTED_streams_early) cudaStreamSynchronize(s.state.compute);
    int early = p == PLANTED_streams_early && result[1] != 2;
    int wrong = check(&s, [](int i) { return (float)i + 1; });
    cudaEventDestroy(there);
    return wrong | early;
}

int planted_run(enum planted p, uint64_t seed)
{
    emu_set_seed(seed);
    switch (p) {
    case PLANTED_sums: return run_sums(sums<RIGHT>);
    case PLANTED_sums_no_barrier: return run_sums(sums<NO_BARRIER>);
    case PLANTED_sums_reused: return run_sums(sums<REUSED>);
    case PLANTED_turn: return run_turn(turn<1>);
    case PLANTED_turn_no_sync: return run_turn(turn<0>);
    case PLANTED_product: return run_product(product<RIGHT>);
    case PLANTED_product_no_wait: return run_product(product<NO_WAIT>);
    case PLANTED_product_no_barrier: return run_product(product<NO_BARRIER>);
    case PLANTED_product_reused: return run_product(product<REUSED>);
    case PLANTED_product_past_end: return run_product(product<PAST_END>);
    case PLANTED_product_in_flight: return run_product(product<IN_FLIGHT>);
    case PLANTED_masked: return run_masked(masked<RIGHT>);
    case PLANTED_masked_by_one: return run_masked(masked<BY_ONE>);
    case PLANTED_masked_past_end: return run_masked(masked<READ_PAST>);
    case PLANTED_masked_wrote_past: return run_masked(masked<WROTE_PAST>);
    case PLANTED_vote: return run_vote(vote<RIGHT>);
    case PLANTED_vote_divergent: return run_vote(vote<DIVERGENT>);
    case PLANTED_vote_left: return run_vote(vote<LEFT>);
    case PLANTED_streams:
    case PLANTED_streams_no_event:
    case PLANTED_streams_host:
    case PLANTED_streams_early: return run_streams(p);
    case PLANTED_copies:
    case PLANTED_copies_out_early:
    case PLANTED_copies_out_reused:
    case PLANTED_copies_in_early:
    case PLANTED_copies_in_read: return planted_copies_run(p);
    default: return planted_flash_run(p);
    }
}
