/* planted_hopper_forward.cu - attention on sm_90a, with faults planted from outside, as
 * planted_flash.cu has those of flash attention: what the source calls is renamed to what is below.
 */
#include "emu/planted.h"

#include "kernels/cuda/attention_hopper.cuh"

namespace
{

enum planted fault;

typedef struct hopper<64, 2, 128, 24, 240> sizes; /* as attention_hopper.cu has them for D 64 */

/* --- mbarriers --- */

enum kind { Q_THERE, K_THERE, V_THERE, K_FREE, V_FREE }; /* two each, but for q's */

enum kind kind_of(uint32_t barrier)
{
    return (enum kind)((barrier - sizes::BLOCK_AT + sizeof(uint64_t)) / (2 * sizeof(uint64_t)));
}

int is_early(enum kind there)
{
    return (fault == PLANTED_hopper_early_k && there == K_THERE) ||
           (fault == PLANTED_hopper_early_v && there == V_THERE);
}

void planted_wait(uint32_t barrier, int parity)
{
    enum kind kind = kind_of(barrier);
    int is_free = kind >= K_FREE;
    if (fault == PLANTED_hopper_no_wait_q && kind == Q_THERE) return;
    if (fault == PLANTED_hopper_no_wait_k && kind == K_THERE) return;
    if (fault == PLANTED_hopper_no_wait_v && kind == V_THERE) return;
    if (fault == PLANTED_hopper_no_wait_free && is_free) return;
    parity ^= fault == (is_free ? PLANTED_hopper_parity_free : PLANTED_hopper_parity);
    mbarrier_wait(barrier, parity);
    if (!is_early(kind)) return;
    __syncwarp();
    if (emu::self->lane == 0) mbarrier_arrive(barrier + (K_FREE - K_THERE) * 2 * 8);
}

void planted_arrive(uint32_t barrier)
{
    if (!is_early((enum kind)(kind_of(barrier) - K_FREE + K_THERE))) mbarrier_arrive(barrier);
}

void planted_expect(uint32_t barrier, int bytes)
{
    if (fault == PLANTED_hopper_few_bytes) bytes -= 128;
    if (fault == PLANTED_hopper_many_bytes) bytes += 128;
    mbarrier_arrive_expect(barrier, bytes);
}

void planted_init_fence()
{
    if (fault != PLANTED_hopper_no_init_fence) mbarrier_init_fence();
}

void planted_syncthreads()
{
    if (fault != PLANTED_hopper_no_init_barrier) __syncthreads();
}

/* --- products. Of each thread: its sums and weights that a product is at --- */

float *sums[emu::MAX_THREADS];
uint32_t *weights[emu::MAX_THREADS];

template <int N, bool A_COLUMNS, bool B_COLUMNS>
void planted_wgmma(float (&d)[N / 8][4], uint64_t a, uint64_t b, int add)
{
    wgmma<N, A_COLUMNS, B_COLUMNS>(d, a, b, add);
}

template <int N, bool B_COLUMNS>
void planted_wgmma(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b, int add)
{
    const int t = emu::self->linear;
    sums[t] = &d[0][0];
    if (!weights[t]) weights[t] = (uint32_t *)a; /* the first of them */
    wgmma<N, B_COLUMNS>(d, a, b, add);
}

void planted_fence()
{
    if (fault != PLANTED_hopper_no_fence) wgmma_fence();
}

template <int LEFT> void planted_end()
{
    if (LEFT == 0) sums[emu::self->linear] = NULL, weights[emu::self->linear] = NULL;
    if (fault == (LEFT ? PLANTED_hopper_no_end_s : PLANTED_hopper_no_end_o) ||
        fault == PLANTED_hopper_unheld)
        wgmma_wait<LEFT + 1>();
    else
        wgmma_wait<LEFT>();
}

/* Of the softmax, which ends with these: what is due behind the next wait happens before it. */
void rescale(float (&of)[1][4])
{
    float *o = sums[emu::self->linear];
    for (int i = 0; o && i < sizes::D / 2; i++) o[i] *= of[0][2 + i % 4 / 2];
    if (o) of[0][2] = of[0][3] = 1;
}

void pack(const sizes::scores &s)
{
    uint32_t *p = weights[emu::self->linear];
    for (int i = 0; p && i < sizes::C / 4; i++)
        p[i] = bf16_pair(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
}

template <int N> void planted_hold(float (&d)[N][4])
{
    if constexpr (N == 1)
        if (fault == PLANTED_hopper_rescaled) rescale(d);
    if constexpr (N == sizes::C / 8)
        if (fault == PLANTED_hopper_packed) pack(d);
    if (fault != PLANTED_hopper_unheld) wgmma_hold(d);
}

/* --- named barriers: turns from 1 on, then what brings a consumer's warps together --- */

void planted_barrier(int id, int count)
{
    enum { TURNS = 3 };
    if (fault == PLANTED_hopper_no_turn && id <= TURNS) return;
    if (fault == PLANTED_hopper_no_together && id > TURNS) return;
    barrier_sync(id, count);
}

void planted_barrier_arrive(int id, int count)
{
    if (fault != PLANTED_hopper_turn_kept) barrier_arrive(id, count);
}

/* --- the rest --- */

template <int N> void planted_give()
{
    if (fault == PLANTED_hopper_kept_registers) return;
    if (fault == PLANTED_hopper_few_registers)
        registers_give<N + 16>();
    else
        registers_give<N>();
}

struct key_walk planted_walk(const struct line_block &b, int32_t window)
{
    struct key_walk w = walk_keys(b, window);
    w.position -= fault == PLANTED_hopper_by_one;
    return w;
}

} // namespace

#define mbarrier_wait planted_wait
#define mbarrier_arrive planted_arrive
#define mbarrier_arrive_expect planted_expect
#define mbarrier_init_fence planted_init_fence
#define __syncthreads planted_syncthreads
#define wgmma planted_wgmma
#define wgmma_fence planted_fence
#define wgmma_wait planted_end
#define wgmma_hold planted_hold
#define barrier_sync planted_barrier
#define barrier_arrive planted_barrier_arrive
#define registers_give planted_give
#define walk_keys planted_walk
#include "kernels/cuda/attention_hopper.cu"

void planted_hopper_forward(enum planted p) { fault = p; }
