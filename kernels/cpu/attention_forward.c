/* attention_forward.c - o = softmax(scale q k^T + mask) v and lse, tile by tile.
 *
 * For a query tile: m = -inf, l = 0, o = 0; for each visible key tile
 *   s = k q^T;  m' = max(m, max s);  p = e^(s - m');  l = l e^(m - m') + sum p
 *   o = o e^(m - m') + v^T p
 * and at the end o / l, lse = m + log l. No N x N matrix (Milakov and Gimelshein 2018; Dao 2022).
 * q [N, H*D], k and v [rows, KV*D], o [N, H*D], lse [N, H]; kernels.h says which rows and strides.
 * FLOPs 4 D a visible pair of query head and key. Bytes: q and o once, k and v once a query tile.
 * Scratch a thread: q, o [D, lines] and s [keys, lines], whatever N is.
 * Deterministic: a unit is (segment, query tile, key head); it goes over its keys in order.
 */
#include <omp.h>

#include "kernels/cpu/attention.h"

struct workspace {
    float *q, *o, *s;
    float top[ATTENTION_LINES], sum[ATTENTION_LINES];
};

size_t attention_forward_floats(const struct kern_attention *a)
{
    return (2 * (size_t)a->D + ATTENTION_KEYS) * ATTENTION_LINES;
}

/* Scores become p; top and sum move on; alpha = how much of the old sums stays. */
CPU_CLONES static void soften(float *s, float *top, float *sum, float *alpha, int32_t keys,
                              int32_t width)
{
    float new_top[ATTENTION_LINES], part[ATTENTION_LINES];
#pragma omp simd
    for (int32_t i = 0; i < width; i++) new_top[i] = top[i], part[i] = 0;
    for (int32_t j = 0; j < keys; j++) {
        const float *row = s + (size_t)j * ATTENTION_LINES;
#pragma omp simd
        for (int32_t i = 0; i < width; i++) new_top[i] = row[i] > new_top[i] ? row[i] : new_top[i];
    }
#pragma omp simd
    for (int32_t i = 0; i < width; i++) { /* nothing seen yet: keep -inf - -inf out */
        alpha[i] = new_top[i] == -INFINITY ? 1 : cpu_exp(top[i] - new_top[i]);
        top[i] = new_top[i];
        new_top[i] = new_top[i] == -INFINITY ? 0 : new_top[i];
    }
    for (int32_t j = 0; j < keys; j++) {
        float *row = s + (size_t)j * ATTENTION_LINES;
#pragma omp simd
        for (int32_t i = 0; i < width; i++) {
            float p = cpu_exp(row[i] - new_top[i]);
            row[i] = p;
            part[i] += p;
        }
    }
#pragma omp simd
    for (int32_t i = 0; i < width; i++) sum[i] = sum[i] * alpha[i] + part[i];
}

CPU_CLONES static void rescale(float *o, const float *alpha, int32_t D, int32_t width)
{
    for (int32_t k = 0; k < D; k++) {
        float *row = o + (size_t)k * ATTENTION_LINES;
#pragma omp simd
        for (int32_t i = 0; i < width; i++) row[i] *= alpha[i];
    }
}

static void visit_span(struct workspace *w, const struct query_tile *t, const struct key_span *span)
{
    const struct kern_attention *a = t->a;
    float alpha[ATTENTION_LINES];
    for (int32_t j = span->begin; j < span->end; j += ATTENTION_KEYS) {
        int32_t keys = cpu_min(ATTENTION_KEYS, span->end - j);
        size_t row = (size_t)(span->row + j), head = (size_t)t->kv * a->D;
        const float *k = (const float *)a->k + row * a->ldk + head;
        const float *v = (const float *)a->v + row * a->ldv + head;
        struct line_range lines = attention_lines(t, span, j, keys);
        int32_t l = lines.begin, width = lines.end - l;
        memset(w->s, 0, (size_t)keys * ATTENTION_LINES * sizeof(float));
        cpu_product(w->s + l, ATTENTION_LINES, k, (size_t)a->ldk, 1, w->q + l, ATTENTION_LINES,
                    keys, width, a->D);
        attention_mask(w->s, t, span, lines, j, keys);
        soften(w->s + l, w->top + l, w->sum + l, alpha, keys, width);
        rescale(w->o + l, alpha, a->D, width);
        cpu_product(w->o + l, ATTENTION_LINES, v, 1, (size_t)a->ldv, w->s + l, ATTENTION_LINES,
                    a->D, width, keys);
    }
}

static void store(const struct workspace *w, const struct query_tile *t)
{
    const struct kern_attention *a = t->a;
    for (int32_t i = 0; i < t->count; i++) {
        size_t row = (size_t)(attention_line_row(t, i) - a->first_row);
        size_t head = (size_t)attention_line_head(t, i);
        float *to = (float *)a->o + row * a->ldo + head * a->D, inverse = 1 / w->sum[i];
        for (int32_t k = 0; k < a->D; k++) to[k] = w->o[(size_t)k * ATTENTION_LINES + i] * inverse;
        if (a->lse) a->lse[row * a->H + head] = w->top[i] + logf(w->sum[i]);
    }
}

static void forward_tile(float *scratch, const struct kern_attention *a, const struct segment *s,
                         int32_t tile, int32_t kv)
{
    struct query_tile t;
    struct workspace w = {.q = scratch,
                          .o = scratch + (size_t)a->D * ATTENTION_LINES,
                          .s = scratch + 2 * (size_t)a->D * ATTENTION_LINES};
    attention_tile_init(&t, a, s, tile, kv);
    attention_load(w.q, &t, a->q, a->ldq, a->scale);
    memset(w.o, 0, (size_t)a->D * ATTENTION_LINES * sizeof(float));
    for (int32_t i = 0; i < ATTENTION_LINES; i++) w.top[i] = -INFINITY, w.sum[i] = 0;
    for (int which = 0; which < ATTENTION_SPANS; which++) {
        struct key_span span = attention_span(&t, which);
        visit_span(&w, &t, &span);
    }
    store(&w, &t);
}

void cpu_attention_forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    int64_t tiles = 0;
    for (int32_t i = 0; i < a->num_segments; i++) tiles += attention_tiles(a, &a->segments[i]);
    size_t stride = attention_forward_floats(a);
#pragma omp parallel for num_threads(d->threads) schedule(dynamic)
    for (int64_t unit = 0; unit < tiles * a->KV; unit++) {
        int64_t tile = tiles - 1 - unit / a->KV; /* late tiles see most keys: they go first */
        const struct segment *s = a->segments;
        for (; tile >= attention_tiles(a, s); s++) tile -= attention_tiles(a, s);
        forward_tile((float *)scratch + stride * (size_t)omp_get_thread_num(), a, s, (int32_t)tile,
                     (int32_t)(unit % a->KV));
    }
}
