/* async.h - what goes on beside the threads of a block on sm_90: mbarriers, bulk copies, products
 * of a warpgroup, registers that change hands. The twins of kernels/cuda/hopper.cuh.
 *
 * Nothing asynchronous happens when it is asked for. A load lands, a store is done, a product is
 * computed at a moment drawn from the seed: when threads meet, in some blocks often and in others
 * never, and at the latest when somebody waits for it. Until then
 *   where a load goes           is NaN, for threads and for what is asynchronous
 *   what a store or sum reads   is read at that moment
 *   a product's accumulators    are NaN, and are written by the wait; its operands, in registers
 *                               or in shared memory, are read at that moment
 * Shared memory is there twice: as threads see it, and as wgmma and bulk copies do. The second has
 * what loads brought, and what threads wrote by the time when, after a fence_async_proxy, a barrier
 * or an mbarrier's phase ends or something asynchronous is asked for: without the fence, old bytes
 * or NaN. (A fence of any thread takes all along: where one of several is missing, or comes before
 * the last of its thread's writes, this may not show.)
 *
 * What ends the process: a barrier used before its init, or by a copy before the fence; more
 * arrivals or bytes than a phase can have; products without a fence before their batch, of
 * misaligned operands, of operands past shared memory, of accumulators in flight in another shape;
 * accumulators looked at in flight (wgmma_hold); warps of a warpgroup that ask for different
 * products; a load over what a product or copy is at that nobody has waited for; threads' writes
 * to operands of products, to what is stored or to a left side's registers between issue and wait,
 * and such without a fence before; products of what their warp has not waited for itself; stores,
 * products or loads under way at the end; registers that a block does not have. A wait that nothing
 * can end is a deadlock.
 */
#ifndef CRIA_KERNELS_EMU_ASYNC_H
#define CRIA_KERNELS_EMU_ASYNC_H

#include <stdint.h>

#include "kernels/emu/block.h"

struct tensor_map;

namespace emu
{

void mbarrier_init(uint32_t at, int count);
void mbarrier_init_fence();
void mbarrier_arrive(uint32_t at, int bytes); /* expects bytes first */
void mbarrier_wait(uint32_t at, int parity);

/* For the templates below: checks, notes the copy, and says what has become NaN. */
struct landing {
    unsigned char *to;
    int bytes;
    void *order;
};
struct landing load_tensor(uint32_t to, const struct tensor_map *map, int32_t box, uint32_t barrier,
                           int32_t column, int32_t row, int32_t count);
struct landing load_bytes(uint32_t to, const void *from, int bytes, uint32_t barrier);

/* Compiled with the kernel, so that TSan sees the thread write what a load will overwrite. */
static inline void spoil(struct landing l)
{
    volatile uint64_t *p = (volatile uint64_t *)l.to;
    for (int i = 0; i < l.bytes / 8; i++) p[i] = ~(uint64_t)0;
    fiber_order_release(l.order);
}

static inline void tma_load(uint32_t to, const struct tensor_map *map, int32_t box,
                            uint32_t barrier, int32_t column, int32_t row, int32_t count)
{
    spoil(load_tensor(to, map, box, barrier, column, row, count));
}

static inline void bulk_load(uint32_t to, const void *from, int bytes, uint32_t barrier)
{
    spoil(load_bytes(to, from, bytes, barrier));
}

void tma_store(const struct tensor_map *map, int32_t box, uint32_t from, int32_t column,
               int32_t row, int32_t count);
void bulk_add(int32_t *to, uint32_t from, int bytes);
void bulk_commit();
void bulk_wait(int groups_left, bool read);

void fence_async_proxy();
int elect_one();
void registers_give(int n);
void registers_take(int n);

/* a: registers, or NULL: operand_a in shared memory. */
void wgmma(float *d, int columns, const uint32_t *a, uint64_t operand_a, bool a_columns,
           uint64_t operand_b, bool b_columns, int add);
void wgmma_fence();
void wgmma_commit();
void wgmma_hold(const float *d);

/* Ends the warp's products but those of its newest groups. */
void wgmma_end(int groups_left);
int wgmma_ended_chunks();                /* 16-byte pieces that they read of shared memory */
const unsigned char *wgmma_ended(int i); /* one of them */

static inline void wgmma_wait(int groups_left)
{
    wgmma_end(groups_left);
#ifdef __SANITIZE_THREAD__ /* a lane's part of what was read until now, by all when it returns */
    for (int i = self->lane; i < wgmma_ended_chunks(); i += WARP)
        (void)*(const volatile uint64_t *)wgmma_ended(i);
    sync_warp(0xffffffffu);
#endif
}

/* --- for block.cc --- */

void async_begin();      /* of a block */
void async_end();        /* of a block; fails if anything is under way */
void async_end_thread(); /* of the running thread */
void async_drift();      /* now and then something happens */
void async_publish();    /* after a fence: what threads wrote, for the second view */
bool async_advance();    /* something happens; false: nothing is under way */
size_t async_tell(char *to, size_t room); /* who waits, for a deadlock's message */

} // namespace emu

#endif
