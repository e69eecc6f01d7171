/* attention_forward.c - o = softmax(scale q k^T + mask) v and lse, tile by tile.
 *
 * For a query tile, with scores in powers of two (s = log2(e) scale q k^T):
 *   top = -1e30, l = 0, o = 0; for each visible key tile
 *     where max s > top + 8: a = 2^(top - max s), top = max s, l = a l, o = a o
 *     p = 2^(s - top);  l = l + sum p;  o = o + v^T p
 * and at the end o / l, lse = (top + log2 l) ln 2. No N x N matrix (Milakov and Gimelshein 2018;
 * Dao 2022). A top that lags by up to 8 costs no precision, p stays below 2^8, and spares nearly
 * every pass over o.
 * q [N, H*D], k and v [rows, KV*D], o [N, H*D], lse [N, H]; kernels.h says which rows and strides.
 * FLOPs 4 D a visible pair of query head and key. Bytes: q and o once, k and v once a query tile.
 * Scratch a thread: q, o [lines, D], a tile of v and s [keys, panel], whatever N is.
 * Deterministic: a unit is (segment, query tile, key head); it goes over its keys in order.
 */
#include <omp.h>

#include "kernels/cpu/attention.h"

struct workspace {
    float *q, *o;                                        /* [panels][D, panel] */
    float *v;                                            /* [keys, D] */
    float *s;                                            /* [keys, panel] */
    float top[ATTENTION_LINES], sum[ATTENTION_LINES];    /* of the lines */
    float high[ATTENTION_PANEL], alpha[ATTENTION_PANEL]; /* of one panel */
};

size_t attention_forward_floats(const struct kern_attention *a)
{
    return (2 * (size_t)a->D) * ATTENTION_LINES + (size_t)a->D * ATTENTION_KEYS +
           (size_t)ATTENTION_KEYS * ATTENTION_PANEL;
}

/* high[i] = max(high[i], max over keys of s) */
CPU_INLINE void raise_top_any(float *high, const float *s, int32_t keys, int32_t width)
{
    for (int32_t first = 0; first < width; first += 16) {
        float most[16];
#pragma omp simd
        for (int32_t i = 0; i < 16; i++) most[i] = high[first + i];
        for (int32_t j = 0; j < keys; j++) {
            const float *row = s + (size_t)j * ATTENTION_PANEL + first;
#pragma omp simd
            for (int32_t i = 0; i < 16; i++) most[i] = row[i] > most[i] ? row[i] : most[i];
        }
#pragma omp simd
        for (int32_t i = 0; i < 16; i++) high[first + i] = most[i];
    }
}
CPU_LEVELS(void, raise_top, (float *high, const float *s, int32_t keys, int32_t width),
           (high, s, keys, width))

/* Moves tops that lag too far; alpha = how much of the old sums stays. Whether any moved. */
CPU_INLINE int settle_any(float *top, float *sum, float *alpha, const float *high)
{
    int moved = 0;
    for (int32_t i = 0; i < ATTENTION_PANEL; i++) moved |= high[i] > top[i] + 8;
    if (!moved) return 0;
#pragma omp simd
    for (int32_t i = 0; i < ATTENTION_PANEL; i++) {
        float next = high[i] > top[i] + 8 ? high[i] : top[i];
        alpha[i] = attention_exp2(top[i] - next);
        top[i] = next;
        sum[i] *= alpha[i];
    }
    return 1;
}
CPU_LEVELS(int, settle, (float *top, float *sum, float *alpha, const float *high),
           (top, sum, alpha, high))

CPU_INLINE void rescale_any(float *o, const float *alpha, int32_t D)
{
    for (int32_t k = 0; k < D; k++) {
        float *row = o + (size_t)k * ATTENTION_PANEL;
#pragma omp simd
        for (int32_t i = 0; i < ATTENTION_PANEL; i++) row[i] *= alpha[i];
    }
}
CPU_LEVELS(void, rescale, (float *o, const float *alpha, int32_t D), (o, alpha, D))

/* Scores become p; sum moves on. */
CPU_INLINE void soften_any(float *s, const float *top, float *sum, int32_t keys, int32_t width)
{
    for (int32_t first = 0; first < width; first += 16) {
        float part[16], most[16];
#pragma omp simd
        for (int32_t i = 0; i < 16; i++) part[i] = 0, most[i] = top[first + i];
        for (int32_t j = 0; j < keys; j++) {
            float *row = s + (size_t)j * ATTENTION_PANEL + first;
#pragma omp simd
            for (int32_t i = 0; i < 16; i++) {
                row[i] = attention_exp2(row[i] - most[i]);
                part[i] += row[i];
            }
        }
#pragma omp simd
        for (int32_t i = 0; i < 16; i++) sum[first + i] += part[i];
    }
}
CPU_LEVELS(void, soften, (float *s, const float *top, float *sum, int32_t keys, int32_t width),
           (s, top, sum, keys, width))

/* One panel against one key tile: its k where it lies, its v packed. */
static void visit_panel(struct workspace *w, const struct query_tile *t,
                        const struct key_span *span, int32_t panel, int32_t j, int32_t keys)
{
    const struct kern_attention *a = t->a;
    size_t D = (size_t)a->D;
    const float *k = (const float *)a->k + (size_t)(span->row + j) * a->ldk + (size_t)t->kv * D;
    const float *q = w->q + (size_t)panel * attention_panel_floats(a);
    float *o = w->o + (size_t)panel * attention_panel_floats(a);
    float *top = w->top + panel * ATTENTION_PANEL, *sum = w->sum + panel * ATTENTION_PANEL;
    struct piece pieces[ATTENTION_PIECES];
    int num = attention_pieces(pieces, t, span, panel, j, keys);
    if (!num) return;
    memcpy(w->high, top, sizeof w->high);
    for (const struct piece *p = pieces; p < pieces + num; p++) {
        float *s = w->s + (size_t)(p->first - j) * ATTENTION_PANEL + p->begin;
        cpu_product_new(s, ATTENTION_PANEL, k + (size_t)(p->first - j) * a->ldk, (size_t)a->ldk, 1,
                        q + p->begin, ATTENTION_PANEL, p->count, p->end - p->begin, a->D);
        attention_mask(s, t, span, panel, p);
        raise_top(w->high + p->begin, s, p->count, p->end - p->begin);
    }
    if (settle(top, sum, w->alpha, w->high)) rescale(o, w->alpha, a->D);
    for (const struct piece *p = pieces; p < pieces + num; p++) {
        float *s = w->s + (size_t)(p->first - j) * ATTENTION_PANEL + p->begin;
        soften(s, top + p->begin, sum + p->begin, p->count, p->end - p->begin);
        cpu_product(o + p->begin, ATTENTION_PANEL, w->v + (size_t)(p->first - j) * D, 1, D, s,
                    ATTENTION_PANEL, a->D, p->end - p->begin, p->count);
    }
}

static void visit_span(struct workspace *w, const struct query_tile *t, const struct key_span *span)
{
    const struct kern_attention *a = t->a;
    for (int32_t j = span->begin; j < span->end; j += ATTENTION_KEYS) {
        int32_t keys = cpu_min(ATTENTION_KEYS, span->end - j);
        const float *v = (const float *)a->v + (size_t)(span->row + j) * a->ldv;
        attention_pack(w->v, v + (size_t)t->kv * a->D, (size_t)a->ldv, keys, a->D);
        for (int32_t panel = 0; panel < t->panels; panel++) visit_panel(w, t, span, panel, j, keys);
    }
}

static void store(struct workspace *w, const struct query_tile *t)
{
    const struct kern_attention *a = t->a;
    for (int32_t i = 0; i < t->count; i++) {
        size_t row = (size_t)(attention_line_row(t, i) - a->first_row);
        float lse = (w->top[i] + log2f(w->sum[i])) * (1 / ATTENTION_LOG2E);
        if (a->lse) a->lse[row * a->H + (size_t)attention_line_head(t, i)] = lse;
        w->sum[i] = 1 / w->sum[i];
    }
    attention_store(a->o, a->ldo, t, w->o, w->sum, 0);
}

static void forward_tile(float *scratch, const struct kern_attention *a, const struct segment *s,
                         int32_t tile, int32_t kv)
{
    struct query_tile t;
    size_t each = (size_t)a->D * ATTENTION_LINES;
    struct workspace w = {.q = scratch, .o = scratch + each, .v = scratch + 2 * each};
    w.s = w.v + (size_t)a->D * ATTENTION_KEYS;
    attention_tile_init(&t, a, s, tile, kv);
    attention_load(w.q, &t, a->q, a->ldq, a->scale * ATTENTION_LOG2E);
    memset(w.o, 0, (size_t)t.panels * attention_panel_floats(a) * sizeof(float));
    for (int32_t i = 0; i < ATTENTION_LINES; i++) w.top[i] = -1e30f, w.sum[i] = 0;
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
