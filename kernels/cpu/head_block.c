#include "kernels/cpu/head_block.h"

#include <float.h>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/turn.h"

enum { LIMIT = 30 };

float *head_block_at(const struct head_pass *p, int32_t v0)
{
    return p->keep ? p->e + (size_t)p->count * (size_t)v0 : p->e;
}

/* --- a tile --- */

CPU_INLINE float tile_top_any(const float *z, int32_t n, float *sum)
{
    float top = z[0], part = 0;
#pragma omp simd reduction(max : top) reduction(+ : part)
    for (int32_t v = 0; v < n; v++) {
        top = z[v] > top ? z[v] : top;
        part += z[v];
    }
    *sum = part;
    return top;
}
CPU_LEVELS(float, tile_top, (const float *z, int32_t n, float *sum), (z, n, sum))

/* z becomes e. */
CPU_INLINE void exponentials_of(struct head_tile *t, float *z, int32_t n, const int more)
{
    float e1 = 0, ez = 0, e2 = 0, ref = t->ref;
#pragma omp simd reduction(+ : e1, ez, e2)
    for (int32_t v = 0; v < n; v++) {
        float e = cpu_exp(z[v] - ref);
        e1 += e;
        if (more) ez += e * (z[v] - ref);
        if (more) e2 += e * e;
        z[v] = e;
    }
    t->e = e1, t->ez = ez, t->e2 = e2;
}

CPU_INLINE void exponentials_any(struct head_tile *t, float *z, int32_t n, int more)
{
    if (more)
        exponentials_of(t, z, n, 1);
    else
        exponentials_of(t, z, n, 0);
}
CPU_LEVELS(void, exponentials, (struct head_tile * t, float *z, int32_t n, int more),
           (t, z, n, more))

/* Logits of words v0 ... v0+n-1 of row i. */
static void sweep(const struct head_pass *p, int32_t i, struct head_tile *t, float *z, int32_t v0,
                  int32_t n)
{
    const struct kern_head *h = p->h;
    struct head_row *r = &p->rows[i];
    int32_t target = h->target[p->s0 + i] - v0;
    t->top = tile_top(z, n, &t->z);
    if (t->top > r->top)
        for (t->first = v0; z[t->first - v0] < t->top;) t->first++;
    t->ref = t->top > r->ref + LIMIT ? t->top : r->ref;
    if (target >= 0 && target < n) r->at_target = z[target], z[target] = -FLT_MAX; /* e = 0 */
    exponentials(t, z, n, h->entropy || h->sum_p2);
}

/* --- rows, over the tiles of a block --- */

CPU_INLINE void multiply_any(float *x, int32_t n, float f)
{
#pragma omp simd
    for (int32_t i = 0; i < n; i++) x[i] *= f;
}
CPU_LEVELS(void, multiply, (float *x, int32_t n, float f), (x, n, f))

/* What has been summed and kept of row i under another ref. */
static void raise_row(const struct head_pass *p, int32_t i, float ref, int32_t v0)
{
    struct head_row *r = &p->rows[i];
    double d = (double)r->ref - (double)ref, f = exp(d);
    r->ez = f * (r->ez + d * r->e);
    r->e *= f;
    r->e2 *= f * f;
    r->ref = ref;
    if (p->dx && v0) multiply(p->dx + (size_t)i * (size_t)p->h->C, p->h->C, (float)f);
    for (int32_t v = 0; p->keep && v < v0; v += HEAD_WORDS) /* blocks before this one are full */
        multiply(head_block_at(p, v) + (size_t)i * HEAD_WORDS, HEAD_WORDS, (float)f);
}

/* The tile of row i and words from v on, under the row's ref; e: where it lies. */
static void raise_tile(struct head_tile *t, float ref, float *e, int32_t n)
{
    double d = (double)t->ref - (double)ref, f = exp(d);
    t->ez = (float)(f * ((double)t->ez + d * (double)t->e));
    t->e = (float)(f * (double)t->e);
    t->e2 = (float)(f * f * (double)t->e2);
    t->ref = ref;
    multiply(e, n, (float)f);
}

static void add_tiles(const struct head_pass *p, int32_t i, int32_t v0, int32_t n)
{
    struct head_row *r = &p->rows[i];
    float ref = r->ref, *e = head_block_at(p, v0) + (size_t)i * (size_t)n;
    for (int32_t v = 0; v < n; v += HEAD_STRIP) {
        const struct head_tile *t = &p->tiles[(size_t)(v / HEAD_STRIP) * (size_t)p->count + i];
        if (t->ref > ref) ref = t->ref;
    }
    if (ref > r->ref) raise_row(p, i, ref, v0);
    for (int32_t v = 0; v < n; v += HEAD_STRIP) {
        struct head_tile *t = &p->tiles[(size_t)(v / HEAD_STRIP) * (size_t)p->count + i];
        if (t->ref < ref) raise_tile(t, ref, e + v, cpu_min(HEAD_STRIP, n - v));
        if (t->top > r->top) r->top = t->top, r->first = t->first;
        r->z += (double)t->z, r->e += (double)t->e;
        r->ez += (double)t->ez, r->e2 += (double)t->e2;
    }
}

/* --- a block --- */

static void turn_weights(const struct head_pass *p, int32_t v0, int32_t n)
{
    int32_t C = p->h->C;
#pragma omp parallel for num_threads(p->d->threads) schedule(static)
    for (int32_t v = 0; v < n; v += TURN_LINES_MOST) {
        int32_t strip = v / HEAD_STRIP * HEAD_STRIP, width = cpu_min(HEAD_STRIP, n - strip);
        cpu_turn(p->wt + (size_t)strip * (size_t)C + (v - strip), (size_t)width,
                 (const float *)p->h->w + (size_t)(v0 + v) * (size_t)C, (size_t)C,
                 cpu_min(TURN_LINES_MOST, n - v), C);
    }
}

static void one_tile(const struct head_pass *p, int32_t v0, int32_t n, int32_t first, int32_t v)
{
    int32_t rows = cpu_min(HEAD_PIECE, p->count - first), width = cpu_min(HEAD_STRIP, n - v);
    int32_t C = p->h->C;
    float *z = head_block_at(p, v0) + (size_t)first * (size_t)n + v;
    cpu_gemm_once(BLAS_PLAIN, BLAS_PLAIN, rows, width, C, p->xs + (size_t)first * (size_t)C, C,
                  p->wt + (size_t)v * (size_t)C, width, 0, z, n);
    struct head_tile *t = p->tiles + (size_t)(v / HEAD_STRIP) * (size_t)p->count + first;
    for (int32_t i = 0; i < rows; i++)
        sweep(p, first + i, &t[i], z + (size_t)i * (size_t)n, v0 + v, width);
}

static void finish_piece(const struct head_pass *p, int32_t v0, int32_t n, int32_t first)
{
    int32_t rows = cpu_min(HEAD_PIECE, p->count - first), C = p->h->C;
    for (int32_t i = 0; i < rows; i++) add_tiles(p, first + i, v0, n);
    if (p->dx)
        cpu_gemm_once(BLAS_PLAIN, BLAS_PLAIN, rows, C, n,
                      head_block_at(p, v0) + (size_t)first * (size_t)n, n,
                      (const float *)p->h->w + (size_t)v0 * (size_t)C, C, v0 > 0,
                      p->dx + (size_t)first * (size_t)C, C);
}

void head_block_pass(struct head_pass *p, int32_t v0, int32_t n)
{
    int32_t strips = cpu_blocks(n, HEAD_STRIP), pieces = cpu_blocks(p->count, HEAD_PIECE);
    turn_weights(p, v0, n);
#pragma omp parallel for num_threads(p->d->threads) schedule(dynamic)
    for (int32_t u = 0; u < strips * pieces; u++)
        one_tile(p, v0, n, u % pieces * HEAD_PIECE, u / pieces * HEAD_STRIP);
#pragma omp parallel for num_threads(p->d->threads) schedule(dynamic)
    for (int32_t i = 0; i < pieces; i++) finish_piece(p, v0, n, i * HEAD_PIECE);
}
