/* kernel.cuh - what every kernel file begins with: the language, bf16, packs, sums, launches.
 *
 * Rules for kernels, so that one source runs on a device and in emulation (kernels/emu):
 *  1. No raw asm, __shared__ or <<<>>>: ptx.cuh, hopper.cuh, SHARED, launch().
 *  2. Nobody spins on memory (mbarrier_wait does) or waits for another block.
 *  3. All lanes of a mask reach the same collective; nobody leaves before a barrier that counts
 *     it. Blocks are multiples of 32 threads.
 *  4. Lanes of a warp are not in step: what passes through memory needs __syncwarp.
 *  5. Asynchronous copies are waited for before the end.
 *  6. No float atomics: sums go in an order fixed by the shapes.
 *
 * Memory-bound kernels move 16 bytes a thread: template parameter V is elements at a time, 16
 * bytes' worth where addresses and strides allow (`packs`), else 1.
 */
#ifndef CRIA_KERNELS_CUDA_KERNEL_CUH
#define CRIA_KERNELS_CUDA_KERNEL_CUH

#include "kernels/cuda/cuda.h"

#ifdef CUDA_EMU

#include <tuple>

#include "kernels/emu/cuda.h"

#define DEVICE static inline
#define SHARED(type, name, ...)             \
    static const char name##_key = 0;       \
    typedef type name##_shared __VA_ARGS__; \
    name##_shared &name = *(name##_shared *)emu::shared_static(&name##_key, sizeof(name##_shared))
#define DYNAMIC_SHARED(name) unsigned char *const name = emu::shared_dynamic()
#define UNROLL
#define UNROLL_4

#else

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define DEVICE static __device__ __forceinline__
#define SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#define UNROLL _Pragma("unroll")
#define UNROLL_4 _Pragma("unroll 4")

#endif

/* --- launches --- */

/* launch(d, what, kernel, grid, block, shared_bytes, args...) queues kernel(args) on the compute
 * stream; an error is noted under `what`. */
#define launch(d, what, ...) launch_named(d, what, #__VA_ARGS__, __VA_ARGS__)

template <class... P, class... A>
static void launch_named(struct device *d, const char *what, const char *text, void (*kernel)(P...),
                         dim3 grid, dim3 block, size_t shared_bytes, A... args)
{
    struct cuda_state *s = cuda_state(d);
    cuda_trace_launch(d, text);
#ifdef CUDA_EMU
    (void)what;
    std::tuple<P...> values(static_cast<P>(args)...);
    emu_enqueue(s->compute, [=] {
        emu::run_grid(grid, block, shared_bytes, [&] { std::apply(kernel, values); });
    });
#else
    enum { PLAIN_SHARED = 48 << 10 }; /* more must be asked for */
    if (shared_bytes > PLAIN_SHARED)
        cuda_note(d,
                  cudaFuncSetAttribute((const void *)kernel,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       (int)shared_bytes),
                  what);
    kernel<<<grid, block, shared_bytes, s->compute>>>(static_cast<P>(args)...);
    cuda_note(d, cudaGetLastError(), what);
#endif
    cuda_trace_end(d);
}

static inline int32_t blocks_of(int64_t n, int64_t each)
{
    return (int32_t)((n + each - 1) / each);
}

/* Calls f with a value of the device's type, for its type. */
#define WITH_TYPE(d, T, ...)           \
    do {                               \
        if ((d)->type == DTYPE_BF16) { \
            typedef struct bf16 T;     \
            __VA_ARGS__;               \
        } else {                       \
            typedef float T;           \
            __VA_ARGS__;               \
        }                              \
    } while (0)

/* --- bf16: storage only, arithmetic is fp32 --- */

struct bf16 {
    uint16_t bits;
};

DEVICE float float_of_bits(uint32_t bits)
{
#ifdef CUDA_EMU
    float f;
    __builtin_memcpy(&f, &bits, sizeof f);
    return f;
#else
    return __uint_as_float(bits);
#endif
}

DEVICE uint32_t bits_of_float(float f)
{
#ifdef CUDA_EMU
    uint32_t bits;
    __builtin_memcpy(&bits, &f, sizeof f);
    return bits;
#else
    return __float_as_uint(f);
#endif
}

DEVICE float to_float(struct bf16 x) { return float_of_bits((uint32_t)x.bits << 16); }
DEVICE float to_float(float x) { return x; }

/* To the nearest, ties to even; a NaN stays one. */
DEVICE uint32_t bf16_bits(float f)
{
#ifdef CUDA_EMU
    uint32_t u = bits_of_float(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (u + 0x7fffu + (u >> 16 & 1)) >> 16;
#else
    return __bfloat16_as_ushort(__float2bfloat16_rn(f));
#endif
}

template <class T> DEVICE T from_float(float f)
{
    if constexpr (sizeof(T) == sizeof(float)) {
        return f;
    } else {
        T r = {(uint16_t)bf16_bits(f)};
        return r;
    }
}

/* f as it is after a stay in T. */
template <class T> DEVICE float through(float f) { return to_float(from_float<T>(f)); }

/* --- packs: V elements at once --- */

/* A device stops at a misaligned pack; a host's processor may not. */
DEVICE void expect_aligned(const void *p, size_t bytes)
{
#ifdef CUDA_EMU
    if ((uintptr_t)p % bytes) emu::fail("%p wants an alignment of %zu", p, bytes);
#else
    (void)p, (void)bytes;
#endif
}

template <class T> struct pack {
    enum { V = 16 / sizeof(T) };
};

template <int V> DEVICE void load(float (&to)[V], const float *from)
{
    if constexpr (V == 4) {
        expect_aligned(from, sizeof(float4));
        float4 p = *(const float4 *)from;
        to[0] = p.x, to[1] = p.y, to[2] = p.z, to[3] = p.w;
    } else {
        static_assert(V == 1, "one or 16 bytes");
        to[0] = *from;
    }
}

template <int V> DEVICE void load(float (&to)[V], const struct bf16 *from)
{
    if constexpr (V == 8) {
        expect_aligned(from, sizeof(uint4));
        uint4 p = *(const uint4 *)from;
        uint32_t word[4] = {p.x, p.y, p.z, p.w};
        UNROLL for (int i = 0; i < 4; i++)
        {
            to[2 * i] = float_of_bits(word[i] << 16);
            to[2 * i + 1] = float_of_bits(word[i] & 0xffff0000u);
        }
    } else if constexpr (V == 4) {
        expect_aligned(from, sizeof(uint2));
        uint2 p = *(const uint2 *)from;
        to[0] = float_of_bits(p.x << 16), to[1] = float_of_bits(p.x & 0xffff0000u);
        to[2] = float_of_bits(p.y << 16), to[3] = float_of_bits(p.y & 0xffff0000u);
    } else {
        static_assert(V == 1, "1, 4 or 8 elements");
        to[0] = to_float(*from);
    }
}

template <int V> DEVICE void store(float *to, const float (&from)[V])
{
    if constexpr (V == 4) {
        float4 p = {from[0], from[1], from[2], from[3]};
        expect_aligned(to, sizeof p);
        *(float4 *)to = p;
    } else if constexpr (V == 8) {
        float4 p = {from[0], from[1], from[2], from[3]}, q = {from[4], from[5], from[6], from[7]};
        expect_aligned(to, sizeof p);
        ((float4 *)to)[0] = p;
        ((float4 *)to)[1] = q;
    } else {
        to[0] = from[0];
    }
}

template <int V> DEVICE void store(struct bf16 *to, const float (&from)[V])
{
    if constexpr (V == 8) {
        uint4 p;
        p.x = bf16_bits(from[0]) | bf16_bits(from[1]) << 16;
        p.y = bf16_bits(from[2]) | bf16_bits(from[3]) << 16;
        p.z = bf16_bits(from[4]) | bf16_bits(from[5]) << 16;
        p.w = bf16_bits(from[6]) | bf16_bits(from[7]) << 16;
        expect_aligned(to, sizeof p);
        *(uint4 *)to = p;
    } else if constexpr (V == 4) {
        uint2 p;
        p.x = bf16_bits(from[0]) | bf16_bits(from[1]) << 16;
        p.y = bf16_bits(from[2]) | bf16_bits(from[3]) << 16;
        expect_aligned(to, sizeof p);
        *(uint2 *)to = p;
    } else {
        to[0] = from_float<struct bf16>(from[0]);
    }
}

/* The first `count` of V elements, all of them as a pack. The rest of `to` is left alone. */
template <int V, class T> DEVICE void load_some(float (&to)[V], const T *from, size_t count)
{
    if (count >= V) {
        load(to, from);
        return;
    }
    UNROLL for (int v = 0; v < V; v++) if ((size_t)v < count) to[v] = to_float(from[v]);
}

template <int V, class T> DEVICE void store_some(T *to, const float (&from)[V], size_t count)
{
    if (count >= V) {
        store(to, from);
        return;
    }
    UNROLL for (int v = 0; v < V; v++) if ((size_t)v < count) to[v] = from_float<T>(from[v]);
}

/* Whether p and rows `ld` elements of `size` bytes apart keep 16-byte alignment. */
static inline int packs(const void *p, int64_t ld, size_t size)
{
    return ((uintptr_t)p | ((size_t)ld * size)) % 16 == 0;
}

/* --- sums over a warp and a block; every thread gets the result --- */

enum { WARP_SIZE = 32 };
static const uint32_t ALL_LANES = 0xffffffffu;

DEVICE float warp_sum(float v)
{
    UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
    return v;
}

DEVICE float warp_max(float v)
{
    UNROLL for (int o = 16; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, o));
    return v;
}

/* v of every thread of the block; `part` is shared, a float a warp. Blocks are one-dimensional. */
DEVICE float block_sum(float v, float *part)
{
    int warps = (int)blockDim.x / WARP_SIZE;
    v = warp_sum(v);
    if (warps == 1) return v;
    __syncthreads(); /* part may still be read from the last time */
    if (threadIdx.x % WARP_SIZE == 0) part[threadIdx.x / WARP_SIZE] = v;
    __syncthreads();
    v = (int)(threadIdx.x % WARP_SIZE) < warps ? part[threadIdx.x % WARP_SIZE] : 0;
    return warp_sum(v);
}

/* --- random words: Philox4x32-10 of a counter, as base/rng.c has it --- */

DEVICE uint4 random_words(struct rng_key key, uint4 c)
{
    uint32_t k0 = key.word[0], k1 = key.word[1];
    UNROLL for (int round = 0; round < 10; round++)
    {
        uint64_t a = (uint64_t)0xD2511F53u * c.x, b = (uint64_t)0xCD9E8D57u * c.z;
        c.x = (uint32_t)(b >> 32) ^ c.y ^ k0;
        c.y = (uint32_t)b;
        c.z = (uint32_t)(a >> 32) ^ c.w ^ k1;
        c.w = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

#endif
