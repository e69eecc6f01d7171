/* attention.c - the parts that forward and backward share; attention.h explains them. */
#include "kernels/cpu/attention.h"

#include "base/size.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

void attention_tile_init(struct query_tile *t, const struct kern_attention *a,
                         const struct segment *s, int32_t tile, int32_t kv)
{
    t->a = a, t->s = s, t->kv = kv;
    t->group = a->H / a->KV;
    t->first = tile * ATTENTION_LINES;
    t->count = cpu_min(ATTENTION_LINES, s->length * t->group - t->first);
    t->panels = cpu_blocks(t->count, ATTENTION_PANEL);
    for (int32_t i = 0; i < t->panels * ATTENTION_PANEL; i++)
        t->position[i] = s->position + (t->first + cpu_min(i, t->count - 1)) / t->group;
    t->low = t->position[0];
    t->high = t->position[t->count - 1];
}

struct key_span attention_span(const struct query_tile *t, int which)
{
    const struct segment *s = t->s;
    int32_t window = t->a->window, oldest = window > 0 ? t->low - window + 1 : INT32_MIN;
    struct key_span p = {s->prefix_start, 0, 0, s->prefix_length, 0};
    if (which) {
        p = (struct key_span){s->start, s->position, 0, s->length, 1};
        p.end = cpu_min(p.end, t->high - s->position + 1);
    }
    if (oldest > p.position) p.begin = oldest - p.position;
    return p;
}

/* The lines of a panel that see some of these keys, rounded out to 16, and whether all do. */
static struct piece seen(const struct query_tile *t, const struct key_span *span, int32_t panel,
                         int32_t first, int32_t count)
{
    const int32_t *position = t->position + panel * ATTENTION_PANEL, window = t->a->window;
    int32_t lines = attention_panel_count(t, panel), oldest = span->position + first;
    int32_t newest = oldest + count - 1;
    struct piece p = {first, count, 0, (int32_t)size_align((size_t)lines, 16), 0};
    if (span->causal) {
        while (p.begin < p.end && position[p.begin + 15] < oldest) p.begin += 16;
        p.masked |= p.begin < p.end && newest > position[p.begin];
    }
    if (window > 0) {
        while (p.end > p.begin && position[p.end - 16] - window >= newest) p.end -= 16;
        p.masked |= p.begin < p.end && oldest <= position[p.end - 1] - window;
    }
    return p;
}

int attention_pieces(struct piece pieces[ATTENTION_PIECES], const struct query_tile *t,
                     const struct key_span *span, int32_t panel, int32_t first, int32_t count)
{
    int num = 0;
    struct piece whole = seen(t, span, panel, first, count);
    if (!whole.masked) {
        pieces[0] = whole;
        return whole.begin < whole.end;
    }
    for (int32_t j = first; j < first + count; j += ATTENTION_PIECE) {
        struct piece p = seen(t, span, panel, j, cpu_min(ATTENTION_PIECE, first + count - j));
        if (p.begin < p.end) pieces[num++] = p;
    }
    return num;
}

/* One score is hidden when its key is newer than the line or has left its window. */
CPU_INLINE void mask_rows_any(float *scores, const int32_t *position, int32_t width, int32_t key,
                              int32_t count, int32_t window, int causal)
{
    for (int32_t j = 0; j < count; j++, key++) {
        float *row = scores + (size_t)j * ATTENTION_PANEL;
        int32_t newest = window > 0 ? key + window - 1 : INT32_MAX, oldest = causal ? key : 0;
#pragma omp simd
        for (int32_t i = 0; i < width; i++)
            row[i] = position[i] < oldest || position[i] > newest ? -INFINITY : row[i];
    }
}
CPU_LEVELS(void, mask_rows,
           (float *scores, const int32_t *position, int32_t width, int32_t key, int32_t count,
            int32_t window, int causal),
           (scores, position, width, key, count, window, causal))

void attention_mask(float *scores, const struct query_tile *t, const struct key_span *span,
                    int32_t panel, const struct piece *p)
{
    const int32_t *position = t->position + panel * ATTENTION_PANEL + p->begin;
    if (p->masked)
        mask_rows(scores, position, p->end - p->begin, span->position + p->first, p->count,
                  t->a->window, span->causal);
}

/* Columns of panels from rows and back: `lines` of them at once, 16 with AVX-512, else 4.
 * in: to[k * ATTENTION_PANEL + i] = scale from[i][k]; out: to[i][k] = scale[i] from[k *
 * ATTENTION_PANEL + i]; k < D, i < lines. */
enum { LINES_MOST = 16 };

CPU_INLINE void turn_in_any(float *to, const float *const *from, int32_t D, float scale)
{
    int32_t k = 0;
#ifdef __x86_64__
    __m128 s = _mm_set1_ps(scale);
    for (; k + 4 <= D; k += 4) {
        __m128 r0 = _mm_loadu_ps(from[0] + k), r1 = _mm_loadu_ps(from[1] + k);
        __m128 r2 = _mm_loadu_ps(from[2] + k), r3 = _mm_loadu_ps(from[3] + k);
        float *at = to + (size_t)k * ATTENTION_PANEL;
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        _mm_storeu_ps(at, _mm_mul_ps(r0, s));
        _mm_storeu_ps(at + ATTENTION_PANEL, _mm_mul_ps(r1, s));
        _mm_storeu_ps(at + 2 * ATTENTION_PANEL, _mm_mul_ps(r2, s));
        _mm_storeu_ps(at + 3 * ATTENTION_PANEL, _mm_mul_ps(r3, s));
    }
#endif
    for (; k < D; k++)
        for (int i = 0; i < 4; i++) to[(size_t)k * ATTENTION_PANEL + i] = scale * from[i][k];
}

CPU_INLINE void turn_out_any(float *const *to, const float *from, int32_t D, const float *scale)
{
    int32_t k = 0;
#ifdef __x86_64__
    __m128 s = _mm_loadu_ps(scale);
    for (; k + 4 <= D; k += 4) {
        const float *at = from + (size_t)k * ATTENTION_PANEL;
        __m128 r0 = _mm_mul_ps(_mm_loadu_ps(at), s);
        __m128 r1 = _mm_mul_ps(_mm_loadu_ps(at + ATTENTION_PANEL), s);
        __m128 r2 = _mm_mul_ps(_mm_loadu_ps(at + 2 * ATTENTION_PANEL), s);
        __m128 r3 = _mm_mul_ps(_mm_loadu_ps(at + 3 * ATTENTION_PANEL), s);
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        _mm_storeu_ps(to[0] + k, r0), _mm_storeu_ps(to[1] + k, r1);
        _mm_storeu_ps(to[2] + k, r2), _mm_storeu_ps(to[3] + k, r3);
    }
#endif
    for (; k < D; k++)
        for (int i = 0; i < 4; i++) to[i][k] = scale[i] * from[(size_t)k * ATTENTION_PANEL + i];
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

CPU_AVX512 static void turn_in_16(float *to, const float *const *from, int32_t D, float scale)
{
    int32_t k = 0;
    for (; k + 16 <= D; k += 16) {
        __m512 r[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(from[i] + k);
        transpose(r);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            _mm512_storeu_ps(to + (size_t)(k + i) * ATTENTION_PANEL,
                             _mm512_mul_ps(r[i], _mm512_set1_ps(scale)));
    }
    for (; k < D; k++)
        for (int i = 0; i < 16; i++) to[(size_t)k * ATTENTION_PANEL + i] = scale * from[i][k];
}

CPU_AVX512 static void turn_out_16(float *const *to, const float *from, int32_t D,
                                   const float *scale)
{
    int32_t k = 0;
    __m512 s = _mm512_loadu_ps(scale);
    for (; k + 16 <= D; k += 16) {
        __m512 r[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            r[i] = _mm512_mul_ps(_mm512_loadu_ps(from + (size_t)(k + i) * ATTENTION_PANEL), s);
        transpose(r);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) _mm512_storeu_ps(to[i] + k, r[i]);
    }
    for (; k < D; k++)
        for (int i = 0; i < 16; i++) to[i][k] = scale[i] * from[(size_t)k * ATTENTION_PANEL + i];
}
#endif

static int32_t lines_at_once(void)
{
#ifdef __x86_64__
    if (cpu_simd == SIMD_AVX512) return 16;
#endif
    return 4;
}

static void turn_in(float *to, const float *const *from, int32_t D, float scale)
{
#ifdef __x86_64__
    if (cpu_simd == SIMD_AVX512) {
        turn_in_16(to, from, D, scale);
        return;
    }
#endif
    turn_in_any(to, from, D, scale);
}

static void turn_out(float *const *to, const float *from, int32_t D, const float *scale)
{
#ifdef __x86_64__
    if (cpu_simd == SIMD_AVX512) {
        turn_out_16(to, from, D, scale);
        return;
    }
#endif
    turn_out_any(to, from, D, scale);
}

/* Where line i of the tile lies in x. */
static size_t line_at(const struct query_tile *t, int32_t i, int32_t ld)
{
    return (size_t)(attention_line_row(t, i) - t->a->first_row) * (size_t)ld +
           (size_t)attention_line_head(t, i) * (size_t)t->a->D;
}

static float *line_column(const struct query_tile *t, float *panels, int32_t i)
{
    return panels + (size_t)(i / ATTENTION_PANEL) * attention_panel_floats(t->a) +
           i % ATTENTION_PANEL;
}

void attention_load(float *to, const struct query_tile *t, const float *x, int32_t ld, float scale)
{
    int32_t D = t->a->D, i = 0, lines = lines_at_once();
    for (; i + lines <= t->count; i += lines) {
        const float *from[LINES_MOST];
        for (int32_t n = 0; n < lines; n++) from[n] = x + line_at(t, i + n, ld);
        turn_in(line_column(t, to, i), from, D, scale);
    }
    for (; i < t->count || i % 16; i++) {
        const float *from = i < t->count ? x + line_at(t, i, ld) : NULL;
        float *column = line_column(t, to, i);
        for (int32_t k = 0; k < D; k++)
            column[(size_t)k * ATTENTION_PANEL] = from ? scale * from[k] : 0;
    }
}

void attention_store(float *x, int32_t ld, const struct query_tile *t, const float *from,
                     const float *scale, float all)
{
    int32_t D = t->a->D, i = 0, lines = lines_at_once();
    for (; i + lines <= t->count; i += lines) {
        float *to[LINES_MOST], factor[LINES_MOST];
        for (int32_t n = 0; n < lines; n++)
            to[n] = x + line_at(t, i + n, ld), factor[n] = scale ? scale[i + n] : all;
        turn_out(to, line_column(t, (float *)from, i), D, factor);
    }
    for (; i < t->count; i++) {
        const float *column = line_column(t, (float *)from, i);
        float *to = x + line_at(t, i, ld), factor = scale ? scale[i] : all;
        for (int32_t k = 0; k < D; k++) to[k] = factor * column[(size_t)k * ATTENTION_PANEL];
    }
}

void attention_pack(float *to, const float *x, size_t ld, int32_t keys, int32_t D)
{
    for (int32_t j = 0; j < keys; j++)
        memcpy(to + (size_t)j * (size_t)D, x + (size_t)j * ld, (size_t)D * sizeof(float));
}

size_t cpu_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    size_t floats = size_max(attention_forward_floats(a), attention_backward_floats(a));
    return floats * sizeof(float) * (size_t)d->threads;
}
