#include "kernels/cpu/turn.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "kernels/cpu/simd.h"

CPU_INLINE void turn_in_any(float *to, size_t ld, const float *const *from, int32_t n, float scale)
{
    int32_t k = 0;
#ifdef __x86_64__
    __m128 s = _mm_set1_ps(scale);
    for (; k + 4 <= n; k += 4) {
        __m128 r0 = _mm_loadu_ps(from[0] + k), r1 = _mm_loadu_ps(from[1] + k);
        __m128 r2 = _mm_loadu_ps(from[2] + k), r3 = _mm_loadu_ps(from[3] + k);
        float *at = to + (size_t)k * ld;
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        _mm_storeu_ps(at, _mm_mul_ps(r0, s));
        _mm_storeu_ps(at + ld, _mm_mul_ps(r1, s));
        _mm_storeu_ps(at + 2 * ld, _mm_mul_ps(r2, s));
        _mm_storeu_ps(at + 3 * ld, _mm_mul_ps(r3, s));
    }
#endif
    for (; k < n; k++)
        for (int i = 0; i < 4; i++) to[(size_t)k * ld + i] = scale * from[i][k];
}

CPU_INLINE void turn_out_any(float *const *to, const float *from, size_t ld, int32_t n,
                             const float *scale)
{
    int32_t k = 0;
#ifdef __x86_64__
    __m128 s = _mm_loadu_ps(scale);
    for (; k + 4 <= n; k += 4) {
        const float *at = from + (size_t)k * ld;
        __m128 r0 = _mm_mul_ps(_mm_loadu_ps(at), s);
        __m128 r1 = _mm_mul_ps(_mm_loadu_ps(at + ld), s);
        __m128 r2 = _mm_mul_ps(_mm_loadu_ps(at + 2 * ld), s);
        __m128 r3 = _mm_mul_ps(_mm_loadu_ps(at + 3 * ld), s);
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        _mm_storeu_ps(to[0] + k, r0), _mm_storeu_ps(to[1] + k, r1);
        _mm_storeu_ps(to[2] + k, r2), _mm_storeu_ps(to[3] + k, r3);
    }
#endif
    for (; k < n; k++)
        for (int i = 0; i < 4; i++) to[i][k] = scale[i] * from[(size_t)k * ld + i];
}

#ifdef __x86_64__
/* r[i] lane j and r[j] lane i change places: within quarters of a vector, then the quarters. */
CPU_TARGET_AVX512 CPU_INLINE void transpose(__m512 r[16])
{
    __m512 t[16], u[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        __m512d a = _mm512_castps_pd(t[i / 4 * 4 + i / 2 % 2]);
        __m512d b = _mm512_castps_pd(t[i / 4 * 4 + i / 2 % 2 + 2]);
        u[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        u[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512 even0 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88);
        __m512 even1 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
        __m512 odd0 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xdd);
        __m512 odd1 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xdd);
        r[c] = _mm512_shuffle_f32x4(even0, even1, 0x88);
        r[4 + c] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
        r[12 + c] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
    }
}

CPU_AVX512 static void turn_in_16(float *to, size_t ld, const float *const *from, int32_t n,
                                  float scale)
{
    int32_t k = 0;
    for (; k + 16 <= n; k += 16) {
        __m512 r[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(from[i] + k);
        transpose(r);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            _mm512_storeu_ps(to + (size_t)(k + i) * ld, _mm512_mul_ps(r[i], _mm512_set1_ps(scale)));
    }
    for (; k < n; k++)
        for (int i = 0; i < 16; i++) to[(size_t)k * ld + i] = scale * from[i][k];
}

CPU_AVX512 static void turn_out_16(float *const *to, const float *from, size_t ld, int32_t n,
                                   const float *scale)
{
    int32_t k = 0;
    __m512 s = _mm512_loadu_ps(scale);
    for (; k + 16 <= n; k += 16) {
        __m512 r[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            r[i] = _mm512_mul_ps(_mm512_loadu_ps(from + (size_t)(k + i) * ld), s);
        transpose(r);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) _mm512_storeu_ps(to[i] + k, r[i]);
    }
    for (; k < n; k++)
        for (int i = 0; i < 16; i++) to[i][k] = scale[i] * from[(size_t)k * ld + i];
}
#endif

int32_t cpu_turn_lines(void)
{
#ifdef __x86_64__
    if (cpu_simd == SIMD_AVX512) return 16;
#endif
    return 4;
}

void cpu_turn_in(float *to, size_t ld, const float *const *from, int32_t n, float scale)
{
#ifdef __x86_64__
    if (cpu_simd == SIMD_AVX512) {
        turn_in_16(to, ld, from, n, scale);
        return;
    }
#endif
    turn_in_any(to, ld, from, n, scale);
}

void cpu_turn_out(float *const *to, const float *from, size_t ld, int32_t n, const float *scale)
{
#ifdef __x86_64__
    if (cpu_simd == SIMD_AVX512) {
        turn_out_16(to, from, ld, n, scale);
        return;
    }
#endif
    turn_out_any(to, from, ld, n, scale);
}

void cpu_turn(float *to, size_t ld_to, const float *from, size_t ld_from, int32_t rows,
              int32_t columns)
{
    int32_t lines = cpu_turn_lines(), r = 0;
    for (; r + lines <= rows; r += lines) {
        const float *at[TURN_LINES_MOST];
        for (int32_t i = 0; i < lines; i++) at[i] = from + (size_t)(r + i) * ld_from;
        cpu_turn_in(to + r, ld_to, at, columns, 1);
    }
    for (; r < rows; r++)
        for (int32_t c = 0; c < columns; c++)
            to[(size_t)c * ld_to + (size_t)r] = from[(size_t)r * ld_from + (size_t)c];
}
