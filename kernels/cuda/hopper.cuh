/* hopper.cuh - the instructions of sm_90a that kernels use, each with its twin for the host beside
 * it, as ptx.cuh has those of older GPUs: barriers in shared memory, the copy engine (TMA),
 * products of a warpgroup (wgmma), registers given and taken.
 *
 * Code for other GPUs traps where one of these is called: a kernel is to be launched on capability
 * 90 alone.
 *
 * The twins are as strict as a device may be (kernels/emu/async.h): what is asynchronous happens
 * late, at a moment drawn from the seed, and nothing in between can be relied on.
 *
 * Tiles
 *   A panel: R rows of 64 columns of bf16 (128 bytes), one below the other, at a multiple of 1024;
 *   16-byte chunk c of row r lies at c ^ (r % 8) (the 128-byte swizzle). A tile of D columns is
 *   D/64 panels, one behind the other. So chunk c of row r of a panel is at panel_chunk(r, c).
 *
 * Products: d [64, N] (+)= a [64, 16] b [16, N], by the four warps of a warpgroup together, all
 * lanes. Warp w has rows 16w to 16w + 15 of a and d, its lane l with g = l/4, t = l%4:
 *   d[n][0..1] (g, 8n + 2t..)  d[n][2..3] (g+8, 8n + 2t..)      a[0..3] as ptx.cuh's m16n8k16
 * An operand in shared memory is named by a descriptor, of a panel that holds it
 *   as rows      row i of a (column j of b) is a row of the panel, the 16 of the sum lie in it side
 *                by side: operand_rows(panel), the next 16 are 32 bytes on (operand_at)
 *   as columns   the 16 of the sum are rows of the panel, and what is side by side are rows of a
 *                (columns of b): operand_columns(panel, bytes of a panel), the next 16 are 2048
 *                bytes on; beyond 64 of them the next panel is taken
 *
 *   wgmma_fence();                 before each batch: registers that were touched since
 *   wgmma<N, ...>(d, ...); ...     d, and a in registers, are wgmma's from here on
 *   wgmma_commit();
 *   wgmma_wait<LEFT>();            all but the newest LEFT batches are done
 *   wgmma_hold(d);                 for the compiler: d is read behind the wait, not before it
 * What threads write into shared memory for wgmma or a bulk copy to read: fence_async_proxy() by
 * each of them, then a barrier.
 */
#ifndef CRIA_KERNELS_CUDA_HOPPER_CUH
#define CRIA_KERNELS_CUDA_HOPPER_CUH

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tensor_map.h"

#ifdef CUDA_EMU
#include "kernels/emu/async.h"
#endif

#if !defined(CUDA_EMU) && defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER_ASM(...) asm volatile(__VA_ARGS__)
#elif !defined(CUDA_EMU) && defined(__CUDA_ARCH__)
#define HOPPER_ASM(...) __trap()
#else
#define HOPPER_ASM(...) (void)0
#endif

/* --- mbarriers: 8 bytes of shared memory, 8-aligned ---
 * A phase ends when `count` threads have arrived and as many bytes have been copied as they said
 * to expect. Phases count from 0; a wait for parity p ends when the last phase of that parity that
 * can be under way has ended: the wait for phase n is for n % 2. */

DEVICE void mbarrier_init(uint32_t barrier, int count)
{
#ifdef CUDA_EMU
    emu::mbarrier_init(barrier, count);
#else
    HOPPER_ASM("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
#endif
}

/* After a thread's inits, before a __syncthreads behind which others, and copies, use them. */
DEVICE void mbarrier_init_fence()
{
#ifdef CUDA_EMU
    emu::mbarrier_init_fence();
#else
    HOPPER_ASM("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

DEVICE void mbarrier_arrive(uint32_t barrier)
{
#ifdef CUDA_EMU
    emu::mbarrier_arrive(barrier, 0);
#else
    HOPPER_ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#endif
}

/* The phase under way has `bytes` more to wait for; then arrives. */
DEVICE void mbarrier_arrive_expect(uint32_t barrier, int bytes)
{
#ifdef CUDA_EMU
    emu::mbarrier_arrive(barrier, bytes);
#else
    HOPPER_ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}

DEVICE void mbarrier_wait(uint32_t barrier, int parity)
{
#ifdef CUDA_EMU
    emu::mbarrier_wait(barrier, parity);
#else
    uint32_t over = 0;
    do {
        HOPPER_ASM("{\n.reg .pred p;\n"
                   "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                   "selp.u32 %0, 1, 0, p;\n}"
                   : "=r"(over)
                   : "r"(barrier), "r"(parity)
                   : "memory");
    } while (!over);
#endif
}

/* --- the copy engine ---
 * Each is issued by one thread. Loads end at their barrier; stores and sums in groups of the thread
 * that issues them. */

/* A panel of map.box rows from row `row` and column `column` on: the first `count` rows (1 to box),
 * zeros below. The barrier is told of all of it, box * 128 bytes. */
DEVICE void tma_load(uint32_t to, const struct tensor_map &map, int32_t box, uint32_t barrier,
                     int32_t column, int32_t row, int32_t count)
{
#ifdef CUDA_EMU
    emu::tma_load(to, &map, box, barrier, column, row, count);
#else
    HOPPER_ASM("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
               "l"(&map), "r"(column), "r"(box - count), "r"(row + count), "r"(barrier)
               : "memory");
#endif
}

/* The first `count` rows of a panel of map.box rows. */
DEVICE void tma_store(const struct tensor_map &map, int32_t box, uint32_t from, int32_t column,
                      int32_t row, int32_t count)
{
#ifdef CUDA_EMU
    emu::tma_store(&map, box, from, column, row, count);
#else
    HOPPER_ASM("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group "
               "[%0, {%1, %2, %3}], [%4];" ::"l"(&map),
               "r"(column), "r"(box - count), "r"(row + count), "r"(from)
               : "memory");
#endif
}

/* Fetches the map itself ahead of its first use. */
DEVICE void tma_prefetch(const struct tensor_map &map)
{
#ifdef CUDA_EMU
    (void)map;
#else
    HOPPER_ASM("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#endif
}

/* `bytes` side by side; addresses and bytes are multiples of 16. */
DEVICE void bulk_load(uint32_t to, const void *from, int bytes, uint32_t barrier)
{
#ifdef CUDA_EMU
    emu::bulk_load(to, from, bytes, barrier);
#else
    HOPPER_ASM("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1], %2, [%3];" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
               : "memory");
#endif
}

/* to[i] += from[i], 32-bit integers: the sum is the same in any order. */
DEVICE void bulk_add(int32_t *to, uint32_t from, int bytes)
{
#ifdef CUDA_EMU
    emu::bulk_add(to, from, bytes);
#else
    HOPPER_ASM("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.s32 [%0], [%1], %2;" ::"l"(
                   __cvta_generic_to_global(to)),
               "r"(from), "r"(bytes)
               : "memory");
#endif
}

DEVICE void bulk_commit()
{
#ifdef CUDA_EMU
    emu::bulk_commit();
#else
    HOPPER_ASM("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

/* Until shared memory is no longer read by all but the newest LEFT groups. A thread waits for all
 * of them before it ends. */
template <int LEFT> DEVICE void bulk_wait_read()
{
#ifdef CUDA_EMU
    emu::bulk_wait(LEFT, true);
#else
    HOPPER_ASM("cp.async.bulk.wait_group.read %0;" ::"n"(LEFT) : "memory");
#endif
}

/* Until all but the newest LEFT groups are in global memory. */
template <int LEFT> DEVICE void bulk_wait()
{
#ifdef CUDA_EMU
    emu::bulk_wait(LEFT, false);
#else
    HOPPER_ASM("cp.async.bulk.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

/* What this thread wrote into shared memory is seen by wgmma and bulk copies, too. */
DEVICE void fence_async_proxy()
{
#ifdef CUDA_EMU
    emu::fence_async_proxy();
#else
    HOPPER_ASM("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* --- warps --- */

/* True in one lane of the warp, always the same one; all lanes ask. */
DEVICE int elect_one()
{
#ifdef CUDA_EMU
    return emu::elect_one();
#else
    uint32_t chosen = 0;
    HOPPER_ASM("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}"
               : "=r"(chosen)::"memory");
    return (int)chosen;
#endif
}

/* All warps of a warpgroup: N registers a thread from here on, a multiple of 8 from 24 to 256. A
 * block has 65536 in all; who takes waits until so many were given. */
template <int N> DEVICE void registers_give()
{
    static_assert(N >= 24 && N <= 256 && N % 8 == 0, "registers come by eight");
#ifdef CUDA_EMU
    emu::registers_give(N);
#else
    HOPPER_ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

template <int N> DEVICE void registers_take()
{
    static_assert(N >= 24 && N <= 256 && N % 8 == 0, "registers come by eight");
#ifdef CUDA_EMU
    emu::registers_take(N);
#else
    HOPPER_ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

/* --- products of a warpgroup --- */

/* Byte of a chunk in a panel. */
DEVICE uint32_t panel_chunk(int row, int chunk)
{
    return (uint32_t)(row * 128 + ((chunk ^ (row & 7)) << 4));
}

/* 128-byte swizzle; eight rows are 1024 bytes. */
DEVICE uint64_t operand_rows(uint32_t panel)
{
    return (uint64_t)(panel >> 4 & 0x3fff) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

DEVICE uint64_t operand_columns(uint32_t panel, uint32_t panel_bytes)
{
    return (uint64_t)(panel >> 4 & 0x3fff) | (uint64_t)(panel_bytes >> 4) << 16 |
           (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* `bytes` further on; they stay below 2^18. */
DEVICE uint64_t operand_at(uint64_t operand, uint32_t bytes) { return operand + (bytes >> 4); }

DEVICE void wgmma_fence()
{
#ifdef CUDA_EMU
    emu::wgmma_fence();
#else
    HOPPER_ASM("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

DEVICE void wgmma_commit()
{
#ifdef CUDA_EMU
    emu::wgmma_commit();
#else
    HOPPER_ASM("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

template <int LEFT> DEVICE void wgmma_wait()
{
#ifdef CUDA_EMU
    emu::wgmma_wait(LEFT);
#else
    HOPPER_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
#endif
}

template <int N> DEVICE void wgmma_hold(float (&d)[N][4])
{
#ifdef CUDA_EMU
    emu::wgmma_hold(&d[0][0]);
#else
    UNROLL for (int n = 0; n < N; n++)
        UNROLL for (int i = 0; i < 4; i++) asm volatile("" : "+f"(d[n][i])::"memory");
#endif
}

/* Operands of the accumulators, 16 at a time, and their names. */
#define WGMMA_OF(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define WGMMA_16(d, n) WGMMA_OF(d, n), WGMMA_OF(d, n + 1), WGMMA_OF(d, n + 2), WGMMA_OF(d, n + 3)
#define WGMMA_32(d, n) WGMMA_16(d, n), WGMMA_16(d, n + 4)
#define WGMMA_64(d, n) WGMMA_32(d, n), WGMMA_32(d, n + 8)
#define WGMMA_NAMES_16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define WGMMA_NAMES_32 \
    WGMMA_NAMES_16     \
    ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define WGMMA_NAMES_64                                                 \
    WGMMA_NAMES_32                                                     \
    ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47" \
    ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

/* a and b in shared memory. add, a, b, a as columns, b as columns: operands of these numbers. */
#define WGMMA_SHARED(n, r, add_, a_, b_, ac_, bc_)                                          \
    HOPPER_ASM("{\n.reg .pred p;\nsetp.ne.b32 p, %" #add_ ", 0;\n"                          \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" WGMMA_NAMES_##r \
               "}, %" #a_ ", %" #b_ ", p, 1, 1, %" #ac_ ", %" #bc_ ";\n}"                   \
               : WGMMA_##r(d, 0)                                                            \
               : "r"(add), "l"(a), "l"(b), "n"(A_COLUMNS), "n"(B_COLUMNS)                   \
               : "memory")

/* a in registers, four of them, from number a0_ on. */
#define WGMMA_REGISTERS(n, r, add_, a0_, a1_, a2_, a3_, b_, bc_)                                \
    HOPPER_ASM("{\n.reg .pred p;\nsetp.ne.b32 p, %" #add_ ", 0;\n"                              \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" WGMMA_NAMES_##r     \
               "}, {%" #a0_ ",%" #a1_ ",%" #a2_ ",%" #a3_ "}, %" #b_ ", p, 1, 1, %" #bc_ ";\n}" \
               : WGMMA_##r(d, 0)                                                                \
               : "r"(add), "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(B_COLUMNS)   \
               : "memory")

/* d += a b; d = a b where add is 0. N: 32, 64 or 128 columns. */
template <int N, bool A_COLUMNS, bool B_COLUMNS>
DEVICE void wgmma(float (&d)[N / 8][4], uint64_t a, uint64_t b, int add)
{
#ifdef CUDA_EMU
    emu::wgmma(&d[0][0], N, nullptr, a, A_COLUMNS, b, B_COLUMNS, add);
#else
    static_assert(N == 32 || N == 64 || N == 128, "widths that are written out");
    if constexpr (N == 32) WGMMA_SHARED(32, 16, 16, 17, 18, 19, 20);
    if constexpr (N == 64) WGMMA_SHARED(64, 32, 32, 33, 34, 35, 36);
    if constexpr (N == 128) WGMMA_SHARED(128, 64, 64, 65, 66, 67, 68);
#endif
}

/* The same with a in registers, which stay as they are until the wait. */
template <int N, bool B_COLUMNS>
DEVICE void wgmma(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b, int add)
{
#ifdef CUDA_EMU
    emu::wgmma(&d[0][0], N, a, 0, false, b, B_COLUMNS, add);
#else
    static_assert(N == 32 || N == 64 || N == 128, "widths that are written out");
    if constexpr (N == 32) WGMMA_REGISTERS(32, 16, 16, 17, 18, 19, 20, 21, 22);
    if constexpr (N == 64) WGMMA_REGISTERS(64, 32, 32, 33, 34, 35, 36, 37, 38);
    if constexpr (N == 128) WGMMA_REGISTERS(128, 64, 64, 65, 66, 67, 68, 69, 70);
#endif
}

#endif
