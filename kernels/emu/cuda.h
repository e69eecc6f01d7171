/* cuda.h - the part of CUDA C++ that the kernels use, for the host: types, threads, warps, math.
 *
 * A kernel file that includes kernels/cuda/kernel.cuh compiles unchanged against this with any
 * C++17 compiler; no CUDA toolkit is needed. What a kernel may use is what is here and in
 * kernels/cuda/kernel.cuh, ptx.cuh and hopper.cuh; anything else does not compile, which is the
 * point.
 */
#ifndef CRIA_KERNELS_EMU_CUDA_H
#define CRIA_KERNELS_EMU_CUDA_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/emu/block.h"

#define __global__
#define __grid_constant__
#define __launch_bounds__(...)

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

#define threadIdx (emu::self->index)
#define blockIdx (emu::block_index)
#define blockDim (emu::block_size)
#define gridDim (emu::grid_size)

static inline void __syncthreads() { emu::barrier(0, emu::block_threads(), true); }
static inline void __syncwarp(uint32_t mask = 0xffffffffu) { emu::sync_warp(mask); }

namespace emu
{

struct exchange {
    uint64_t value, result;
    int source;
};

/* Every lane gets the value of its source lane; a source outside the mask gives all ones. */
EMU_UNSEEN static inline void exchange_all(void **args)
{
    for (int l = 0; l < WARP; l++) {
        struct exchange *to = (struct exchange *)args[l];
        if (!to) continue;
        const struct exchange *from = (const struct exchange *)args[to->source];
        to->result = from ? from->value : ~(uint64_t)0;
    }
}

template <class T> static inline T shuffle_from(const char *op, uint32_t mask, T value, int source)
{
    struct exchange e = {0, 0, source};
    static_assert(sizeof value <= sizeof e.value, "a shuffle moves 4 or 8 bytes");
    __builtin_memcpy(&e.value, &value, sizeof value);
    rendezvous(op, mask, &e, exchange_all);
    __builtin_memcpy(&value, &e.result, sizeof value);
    return value;
}

EMU_UNSEEN static inline void vote_all(void **args)
{
    uint32_t votes = 0;
    for (int l = 0; l < WARP; l++)
        if (args[l] && ((struct exchange *)args[l])->value) votes |= 1u << l;
    for (int l = 0; l < WARP; l++)
        if (args[l]) ((struct exchange *)args[l])->result = votes;
}

} // namespace emu

template <class T> static inline T __shfl_sync(uint32_t mask, T v, int lane)
{
    return emu::shuffle_from("__shfl_sync", mask, v, lane & 31);
}

template <class T> static inline T __shfl_xor_sync(uint32_t mask, T v, int lanes)
{
    return emu::shuffle_from("__shfl_xor_sync", mask, v, (emu::self->lane ^ lanes) & 31);
}

template <class T> static inline T __shfl_down_sync(uint32_t mask, T v, int delta)
{
    int from = emu::self->lane + delta;
    return emu::shuffle_from("__shfl_down_sync", mask, v, from > 31 ? emu::self->lane : from);
}

template <class T> static inline T __shfl_up_sync(uint32_t mask, T v, int delta)
{
    int from = emu::self->lane - delta;
    return emu::shuffle_from("__shfl_up_sync", mask, v, from < 0 ? emu::self->lane : from);
}

static inline uint32_t __ballot_sync(uint32_t mask, int predicate)
{
    struct emu::exchange e = {predicate != 0, 0, 0};
    emu::rendezvous("__ballot_sync", mask, &e, emu::vote_all);
    return (uint32_t)e.result;
}

static inline int __any_sync(uint32_t mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(uint32_t mask, int p) { return __ballot_sync(mask, !p) == 0; }

/* Integer atomics alone: float sums in any order would not be deterministic. */
static inline int atomicAdd(int *p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
static inline unsigned atomicOr(unsigned *p, unsigned v)
{
    return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);
}
static inline int atomicMax(int *p, int v)
{
    int old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < v &&
           !__atomic_compare_exchange_n(p, &old, v, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}

static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
/* To the nearest, ties to even; out of range to the ends, NaN to 0. */
static inline int __float2int_rn(float x)
{
    if (!(x == x)) return 0;
    if (x >= 0x1p31f) return INT32_MAX;
    if (x < -0x1p31f) return INT32_MIN;
    return (int)rintf(x);
}
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

#endif
