/* ptx.cuh - every PTX instruction the kernels use, each with its twin for the host beside it.
 *
 * A twin does what the PTX manual says: data movement and products whose sums are exact agree bit
 * for bit with the device, other products within the rounding of a sum of 16 terms. Whether the
 * wrapper is right is what a device must say (DESIGN 5); kernels that use one are experimental
 * until it has.
 *
 * Shared memory is addressed by 32-bit offsets (shared_address). Fragments are the manual's:
 * mma m16n8k16, lane l, g = l/4, t = l%4:
 *   a[0] (g, 2t..2t+1)  a[1] (g+8, 2t..)  a[2] (g, 2t+8..)  a[3] (g+8, 2t+8..)
 *   b[0] (2t..2t+1, g)  b[1] (2t+8.., g)      c[0..1] (g, 2t..)  c[2..3] (g+8, 2t..)
 */
#ifndef CRIA_KERNELS_CUDA_PTX_CUH
#define CRIA_KERNELS_CUDA_PTX_CUH

#include "kernels/cuda/kernel.cuh"

/* --- addresses in shared memory --- */

DEVICE uint32_t shared_address(const void *p)
{
#ifdef CUDA_EMU
    return emu::shared_offset(p);
#else
    return (uint32_t)__cvta_generic_to_shared(p);
#endif
}

/* v, of which the compiler knows nothing: what is computed from it in a loop is computed there, and
 * does not fill registers from before the loop on. */
DEVICE uint32_t computed_anew(uint32_t v)
{
#ifndef CUDA_EMU
    asm volatile("" : "+r"(v));
#endif
    return v;
}

/* --- named barriers: `count` threads of the block, a multiple of 32; 0 is __syncthreads' --- */

DEVICE void barrier_sync(int id, int count)
{
#ifdef CUDA_EMU
    emu::barrier(id, count, true);
#else
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
#endif
}

DEVICE void barrier_arrive(int id, int count)
{
#ifdef CUDA_EMU
    emu::barrier(id, count, false);
#else
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
#endif
}

/* --- asynchronous copies from global to shared memory, 16 bytes, past L1 ---
 * The first `bytes` (0 to 16) are copied, the rest becomes zero. Both ends are 16-aligned; the
 * source is not read when bytes is 0. Seen by the thread itself after its wait, by others after a
 * barrier behind that. */

DEVICE void copy_async_16(uint32_t to, const void *from, int bytes)
{
#ifdef CUDA_EMU
    emu::copy_issue(to, from, bytes, 16);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
#endif
}

/* Eight bytes or, when `bytes` is 0, zeros; both ends are 8-aligned. */
DEVICE void copy_async_8(uint32_t to, const void *from, int bytes)
{
#ifdef CUDA_EMU
    emu::copy_issue(to, from, bytes, 8);
#else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
#endif
}

/* Closes a group of this thread's copies. */
DEVICE void copy_async_commit()
{
#ifdef CUDA_EMU
    emu::copy_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Waits until at most LEFT of this thread's newest groups are under way. */
template <int LEFT> DEVICE void copy_async_wait()
{
#ifdef CUDA_EMU
    emu::copy_wait(LEFT);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

/* --- values --- */

/* Two floats as bf16, the first in the lower half; to the nearest, ties to even. */
DEVICE uint32_t bf16_pair(float low, float high)
{
#ifdef CUDA_EMU
    return bf16_bits(low) | bf16_bits(high) << 16;
#else
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

/* 2^x within 2 ulp (the manual's 2^-22); results below 2^-126 are 0, 2^-inf too. */
DEVICE float power_of_2(float x)
{
#ifdef CUDA_EMU
    float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* --- ldmatrix: four (or two) 8x8 tiles of 16-bit values from shared memory ---
 * Lane 8i+j gives the address of row j of tile i (16 bytes, 16-aligned). Lane l gets of tile i in
 * r[i] elements (l/4, 2(l%4)) and the next; TURNED: (2(l%4), l/4) and the one below. */

#ifdef CUDA_EMU
namespace emu
{
struct tile_rows {
    uint16_t row[8];
    uint32_t *result;
};

template <int TILES, bool TURNED> EMU_UNSEEN static inline void give_tiles(void **args)
{
    for (int l = 0; l < WARP; l++)
        for (int i = 0; i < TILES; i++) {
            int r0 = TURNED ? 2 * (l & 3) : l >> 2, c0 = TURNED ? l >> 2 : 2 * (l & 3);
            int r1 = r0 + TURNED, c1 = c0 + !TURNED;
            uint32_t low = ((struct tile_rows *)args[8 * i + r0])->row[c0];
            uint32_t high = ((struct tile_rows *)args[8 * i + r1])->row[c1];
            ((struct tile_rows *)args[l])->result[i] = low | high << 16;
        }
}

template <int TILES, bool TURNED>
static inline void load_tiles(const char *op, uint32_t *result, uint32_t address)
{
    struct tile_rows rows = {{0}, result};
    if (self->lane < 8 * TILES)
        __builtin_memcpy(rows.row, shared_at(address, 16, 16), sizeof rows.row);
    rendezvous(op, ALL_LANES, &rows, give_tiles<TILES, TURNED>);
}
} // namespace emu
#endif

DEVICE void load_tiles_4(uint32_t (&r)[4], uint32_t address)
{
#ifdef CUDA_EMU
    emu::load_tiles<4, false>("ldmatrix.x4", r, address);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#endif
}

DEVICE void load_tiles_4_turned(uint32_t (&r)[4], uint32_t address)
{
#ifdef CUDA_EMU
    emu::load_tiles<4, true>("ldmatrix.x4.trans", r, address);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#endif
}

DEVICE void load_tiles_2(uint32_t (&r)[2], uint32_t address)
{
#ifdef CUDA_EMU
    emu::load_tiles<2, false>("ldmatrix.x2", r, address);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
#endif
}

DEVICE void load_tiles_2_turned(uint32_t (&r)[2], uint32_t address)
{
#ifdef CUDA_EMU
    emu::load_tiles<2, true>("ldmatrix.x2.trans", r, address);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
#endif
}

/* --- mma: c [16, 8] += a [16, 16] b [16, 8], bf16 in, fp32 out --- */

#ifdef CUDA_EMU
namespace emu
{
struct product {
    float *c;
    const uint32_t *a, *b;
};

EMU_UNSEEN static inline float low_half(uint32_t w) { return float_of_bits(w << 16); }
EMU_UNSEEN static inline float high_half(uint32_t w) { return float_of_bits(w & 0xffff0000u); }

EMU_UNSEEN static inline void multiply(void **args)
{
    float a[16][16], b[16][8];
    for (int l = 0; l < WARP; l++) {
        const struct product *p = (const struct product *)args[l];
        int g = l >> 2, t = 2 * (l & 3);
        for (int i = 0; i < 4; i++) {
            int row = g + 8 * (i & 1), col = t + 8 * (i >> 1);
            a[row][col] = low_half(p->a[i]), a[row][col + 1] = high_half(p->a[i]);
        }
        for (int i = 0; i < 2; i++)
            b[t + 8 * i][g] = low_half(p->b[i]), b[t + 8 * i + 1][g] = high_half(p->b[i]);
    }
    for (int l = 0; l < WARP; l++)
        for (int i = 0; i < 4; i++) {
            int row = (l >> 2) + 8 * (i >> 1), col = 2 * (l & 3) + (i & 1);
            float *c = &((struct product *)args[l])->c[i], sum = *c;
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][col];
            *c = sum;
        }
}
} // namespace emu
#endif

DEVICE void multiply_16x8x16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
#ifdef CUDA_EMU
    struct emu::product p = {c, a, b};
    emu::rendezvous("mma.m16n8k16", ALL_LANES, &p, emu::multiply);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

#endif
