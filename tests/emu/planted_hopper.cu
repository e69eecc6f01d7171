/* planted_hopper.cu - the gradients of attention on sm_90a, with faults planted from outside, as
 * planted_flash.cu has those of flash attention: what the source calls is renamed to what is below.
 */
#include "emu/planted.h"

#include "kernels/cuda/attention_hopper_lines.cu"

namespace
{

enum planted fault;
enum { PRODUCER_THREADS = 128, STAGES_BYTES = 16 }; /* barriers of two stages, full then empty */

int consumes() { return emu::self->linear >= PRODUCER_THREADS; }

uint32_t keys; /* the barrier that consumers wait for first: the last one */

int is_full(uint32_t barrier) { return barrier < keys - STAGES_BYTES; }

void planted_wait(uint32_t barrier, int parity)
{
    if (!consumes()) {
        mbarrier_wait(barrier, parity);
        return;
    }
    if (is_full(barrier) && fault == PLANTED_hopper_back_no_wait) return;
    mbarrier_wait(barrier, parity ^ (fault == PLANTED_hopper_back_parity));
    if (is_full(barrier) && fault == PLANTED_hopper_back_early) {
        __syncwarp();
        if (emu::self->lane == 0) mbarrier_arrive(barrier + STAGES_BYTES);
    }
}

void planted_arrive(uint32_t barrier)
{
    if (fault == PLANTED_hopper_back_early && consumes()) return; /* has done so */
    mbarrier_arrive(barrier);
}

void planted_expect(uint32_t barrier, int bytes)
{
    if (fault == PLANTED_hopper_back_few_bytes) bytes -= 128;
    if (fault == PLANTED_hopper_back_many_bytes) bytes += 128;
    mbarrier_arrive_expect(barrier, bytes);
}

template <int LEFT> void planted_end()
{
    if (fault == PLANTED_hopper_back_no_end)
        wgmma_wait<LEFT + 1>();
    else
        wgmma_wait<LEFT>();
}

void planted_fence()
{
    if (fault != PLANTED_hopper_back_no_fence) wgmma_fence();
}

void planted_proxy()
{
    if (fault != PLANTED_hopper_back_no_proxy) fence_async_proxy();
}

/* 1: of both warpgroups; above: of one. */
void planted_barrier(int id, int count)
{
    if (fault == PLANTED_hopper_back_no_barrier && id == 1) return;
    if (fault == PLANTED_hopper_back_no_each && id > 1) return;
    barrier_sync(id, count);
}

template <int LEFT> void planted_wait_read()
{
    if (fault != PLANTED_hopper_back_sums) bulk_wait_read<LEFT>();
}

template <int LEFT> void planted_bulk_wait()
{
    if (fault != PLANTED_hopper_back_in_flight) bulk_wait<LEFT>();
}

template <class S>
struct hopper_step planted_step(const struct kern_attention &a, const struct key_block &b,
                                const struct tile_walk &w, int32_t head)
{
    struct hopper_step step = step_of<S>(a, b, w, head);
    if (fault == PLANTED_hopper_back_by_one) step.low--;
    return step;
}

} // namespace

#define mbarrier_wait planted_wait
#define mbarrier_arrive planted_arrive
#define mbarrier_arrive_expect planted_expect
#define step_of planted_step
#define wgmma_wait planted_end
#define wgmma_fence planted_fence
#define fence_async_proxy planted_proxy
#define barrier_sync planted_barrier
#define bulk_wait_read planted_wait_read
#define bulk_wait planted_bulk_wait
#include "kernels/cuda/attention_hopper_backward.cu"

void planted_hopper_backward(enum planted p)
{
    typedef struct hopper_backward<64> S;
    fault = p;
    keys = keys_barrier<S>(0);
}
