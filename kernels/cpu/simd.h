/* simd.h - one body, compiled for each level of vector instructions; the level is chosen when the
 * device opens.
 *
 *     CPU_INLINE float dot_any(const float *x, const float *y, int32_t n) { ... }
 *     CPU_LEVELS(float, dot, (const float *x, const float *y, int32_t n), (x, y, n))
 *
 * makes `dot`, which calls the copy of dot_any that was compiled for the chosen level. A body is a
 * leaf: loops and inlined functions. An OpenMP region in it would be compiled for the baseline.
 * Works the same with gcc, clang and sanitizers, which target_clones does not.
 *
 * Levels: portable (what the compiler's baseline has: SSE2 on x86-64), avx2 (with FMA), avx512
 * (F, BW, DQ, VL). The highest that the machine has is taken; CRIA_SIMD=portable|avx2|avx512 asks
 * for another. Results of two levels differ in rounding, so `describe` names the level. It does
 * not touch OpenBLAS, which has OPENBLAS_CORETYPE.
 */
#ifndef CRIA_KERNELS_CPU_SIMD_H
#define CRIA_KERNELS_CPU_SIMD_H

#include "base/status.h"

enum simd { SIMD_PORTABLE, SIMD_AVX2, SIMD_AVX512, NUM_SIMD };

extern enum simd cpu_simd; /* of the process; set by cpu_simd_choose */

const char *cpu_simd_name(enum simd level);
int cpu_simd_has(enum simd level); /* whether compiler and machine have it */

/* Sets cpu_simd from CRIA_SIMD, or to the highest there is. ERR_CONFIG: no such level here. */
MUST_CHECK enum status cpu_simd_choose(struct err *e);

#define CPU_INLINE static inline __attribute__((always_inline))

#ifdef __x86_64__
#define CPU_TARGET_AVX2 __attribute__((target("avx2,fma")))
#define CPU_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define CPU_AVX2 CPU_TARGET_AVX2 __attribute__((noinline))
#define CPU_AVX512 CPU_TARGET_AVX512 __attribute__((noinline))
#define CPU_LEVELS(type, name, parameters, arguments)                                \
    CPU_AVX512 static type name##_avx512 parameters { return name##_any arguments; } \
    CPU_AVX2 static type name##_avx2 parameters { return name##_any arguments; }     \
    static type name parameters                                                      \
    {                                                                                \
        if (cpu_simd == SIMD_AVX512) return name##_avx512 arguments;                 \
        if (cpu_simd == SIMD_AVX2) return name##_avx2 arguments;                     \
        return name##_any arguments;                                                 \
    }
#else
#define CPU_LEVELS(type, name, parameters, arguments) \
    static type name parameters { return name##_any arguments; }
#endif

#endif
