/* attention_backward.c - dq, dk and dv, with the probabilities recomputed from lse.
 *
 * For a panel of a query tile and a key tile, with delta = rowsum(do * o):
 *   p = 2^(log2(e) (scale q k^T - lse));  dp = do v^T;  ds = p (dp - delta)
 *   dv += p^T do;  dk += scale ds^T q;  dq += scale ds k
 * Layout as forward; d_o has o's row stride, dq, dk and dv their own; only rows of segments are
 * written, and a prefix must lie in rows of its own document, whose dk and dv it adds to.
 * FLOPs 10 D a visible pair in one pass, 14 D in two. Bytes: q, o, do, dq once, k, v, dk, dv once
 * a query tile. Scratch a thread: five [lines, D], k's tile and two of scores, whatever N is.
 *
 * Deterministic, and the two schedules give the same bits. dk and dv of a row are chains over the
 * document's segments, query tiles and lines in order; dq of a row over spans and keys in order;
 * cpu_product keeps chains whatever the cut. One pass: a unit is (document, key head) and does
 * all. Two passes, when those units are too few or too uneven for the threads: units (query
 * tile, key head) for dq, then (block of rows, key head) for dk and dv.
 */
#include <omp.h>

#include "base/size.h"
#include "kernels/cpu/attention.h"

enum { WANT_Q = 1, WANT_KV = 2 };

struct workspace {
    float *q, *g, *dq;      /* [panels][D, panel]: scaled q, do, and dq to be */
    float *q_rows, *g_rows; /* [lines, D] */
    float *k;               /* [keys, D] */
    float *p, *ds;          /* [keys, panel] */
    float lse[ATTENTION_LINES], delta[ATTENTION_LINES];
};

struct backward {
    const struct kern_attention *a;
    const struct kern_attention_grad *g;
    float *scratch;
    size_t stride;
    int threads;
};

size_t attention_backward_floats(const struct kern_attention *a)
{
    return (size_t)a->D * (5 * ATTENTION_LINES + ATTENTION_KEYS) +
           2 * (size_t)ATTENTION_KEYS * ATTENTION_PANEL;
}

static void carve(struct workspace *w, float *scratch, int32_t D)
{
    size_t each = (size_t)D * ATTENTION_LINES;
    w->q = scratch, w->g = w->q + each, w->dq = w->g + each;
    w->q_rows = w->dq + each, w->g_rows = w->q_rows + each;
    w->k = w->g_rows + each;
    w->p = w->k + (size_t)D * ATTENTION_KEYS, w->ds = w->p + ATTENTION_KEYS * ATTENTION_PANEL;
}

static void copy_line(float *to, const float *from, int32_t D, float scale)
{
#pragma omp simd
    for (int32_t k = 0; k < D; k++) to[k] = scale * from[k];
}

/* delta[i] = sum_k g[k][i] o[k][i] of one panel in the order of a dp, so that a row which sees
 * itself alone has ds = dp - delta = 0 to the bit. */
CPU_INLINE void row_sums_any(float *delta, const float *g, const float *o, int32_t D)
{
    for (int32_t i = 0; i < ATTENTION_PANEL; i++) delta[i] = 0;
    for (size_t k = 0; k < (size_t)D; k++) {
#pragma omp simd
        for (int32_t i = 0; i < ATTENTION_PANEL; i++)
            delta[i] += g[k * ATTENTION_PANEL + i] * o[k * ATTENTION_PANEL + i];
    }
}
CPU_LEVELS(void, row_sums, (float *delta, const float *g, const float *o, int32_t D),
           (delta, g, o, D))

static void load_tile(struct workspace *w, const struct query_tile *t,
                      const struct kern_attention_grad *g)
{
    const struct kern_attention *a = t->a;
    int32_t D = a->D;
    size_t each = attention_panel_floats(a);
    attention_load(w->q, t, a->q, a->ldq, a->scale * ATTENTION_LOG2E);
    attention_load(w->g, t, g->d_o, a->ldo, 1);
    attention_load(w->dq, t, a->o, a->ldo, 1); /* o for a moment */
    for (int32_t i = 0; i < t->panels; i++)
        row_sums(w->delta + i * ATTENTION_PANEL, w->g + (size_t)i * each, w->dq + (size_t)i * each,
                 D);
    memset(w->dq, 0, (size_t)t->panels * each * sizeof(float));
    memset(w->lse, 0, sizeof w->lse);
    for (int32_t i = 0; i < t->count; i++) {
        size_t row = (size_t)(attention_line_row(t, i) - a->first_row);
        size_t head = (size_t)attention_line_head(t, i);
        const float *q = (const float *)a->q + row * a->ldq + head * D;
        const float *go = (const float *)g->d_o + row * a->ldo + head * D;
        copy_line(w->q_rows + (size_t)i * D, q, D, a->scale);
        copy_line(w->g_rows + (size_t)i * D, go, D, 1);
        w->lse[i] = a->lse[row * a->H + head] * ATTENTION_LOG2E;
    }
}

/* p holds scores, ds holds dp; they become what their names say. */
CPU_INLINE void differentiate_any(float *p, float *ds, const float *lse, const float *delta,
                                  int32_t keys, int32_t width)
{
    for (int32_t j = 0; j < keys; j++) {
        float *pj = p + (size_t)j * ATTENTION_PANEL, *dj = ds + (size_t)j * ATTENTION_PANEL;
#pragma omp simd
        for (int32_t i = 0; i < width; i++) {
            pj[i] = attention_exp2(pj[i] - lse[i]);
            dj[i] = pj[i] * (dj[i] - delta[i]);
        }
    }
}
CPU_LEVELS(void, differentiate,
           (float *p, float *ds, const float *lse, const float *delta, int32_t keys, int32_t width),
           (p, ds, lse, delta, keys, width))

/* One piece of a panel and a key tile from key j, whose k are packed in w. */
static void visit_piece(struct workspace *w, const struct query_tile *t,
                        const struct key_span *span, const struct kern_attention_grad *g,
                        int32_t panel, const struct piece *s, int32_t j, int want)
{
    const struct kern_attention *a = t->a;
    size_t D = (size_t)a->D, head = (size_t)t->kv * D, row = (size_t)(span->row + s->first);
    size_t columns = (size_t)panel * attention_panel_floats(a) + (size_t)s->begin;
    size_t line = (size_t)(panel * ATTENTION_PANEL + s->begin);
    const float *k = w->k + (size_t)(s->first - j) * D;
    const float *v = (const float *)a->v + row * a->ldv + head;
    float *p = w->p + s->begin, *ds = w->ds + s->begin;
    int32_t width = s->end - s->begin;
    int32_t count = cpu_min(s->end, attention_panel_count(t, panel)) - s->begin;
    cpu_product_new(p, ATTENTION_PANEL, k, D, 1, w->q + columns, ATTENTION_PANEL, s->count, width,
                    a->D);
    cpu_product_new(ds, ATTENTION_PANEL, v, (size_t)a->ldv, 1, w->g + columns, ATTENTION_PANEL,
                    s->count, width, a->D);
    attention_mask(p, t, span, panel, s);
    differentiate(p, ds, w->lse + line, w->delta + line, s->count, width);
    if (want & WANT_KV) {
        cpu_product((float *)g->dv + row * g->lddv + head, (size_t)g->lddv, p, ATTENTION_PANEL, 1,
                    w->g_rows + line * D, D, s->count, a->D, count);
        cpu_product((float *)g->dk + row * g->lddk + head, (size_t)g->lddk, ds, ATTENTION_PANEL, 1,
                    w->q_rows + line * D, D, s->count, a->D, count);
    }
    if (want & WANT_Q)
        cpu_product(w->dq + columns, ATTENTION_PANEL, k, 1, D, ds, ATTENTION_PANEL, a->D, width,
                    s->count);
}

static void visit_keys(struct workspace *w, const struct query_tile *t, const struct key_span *span,
                       const struct kern_attention_grad *g, int32_t j, int32_t keys, int want)
{
    const struct kern_attention *a = t->a;
    const float *k = (const float *)a->k + (size_t)(span->row + j) * a->ldk;
    attention_pack(w->k, k + (size_t)t->kv * a->D, (size_t)a->ldk, keys, a->D);
    for (int32_t panel = 0; panel < t->panels; panel++) {
        struct piece pieces[ATTENTION_PIECES];
        int num = attention_pieces(pieces, t, span, panel, j, keys);
        for (int i = 0; i < num; i++) visit_piece(w, t, span, g, panel, &pieces[i], j, want);
    }
}

/* One query tile against the keys in rows [row_begin, row_end). */
static void backward_tile(const struct backward *b, const struct segment *s, int32_t tile,
                          int32_t kv, int32_t row_begin, int32_t row_end, int want)
{
    struct query_tile t;
    struct workspace w;
    int loaded = 0;
    carve(&w, b->scratch + b->stride * (size_t)omp_get_thread_num(), b->a->D);
    attention_tile_init(&t, b->a, s, tile, kv);
    for (int which = 0; which < ATTENTION_SPANS; which++) {
        struct key_span span = attention_span(&t, which);
        int32_t begin = cpu_max(span.begin, row_begin - span.row);
        int32_t end = cpu_min(span.end, row_end - span.row);
        if (begin < end && !loaded++) load_tile(&w, &t, b->g);
        for (int32_t j = begin; j < end; j += ATTENTION_KEYS)
            visit_keys(&w, &t, &span, b->g, j, cpu_min(ATTENTION_KEYS, end - j), want);
    }
    if (want & WANT_Q) attention_store(b->g->dq, b->g->lddq, &t, w.dq, NULL, b->a->scale);
}

static void clear_rows(const struct backward *b, int32_t kv, int32_t begin, int32_t end)
{
    const struct kern_attention_grad *g = b->g;
    size_t head = (size_t)kv * b->a->D, bytes = (size_t)b->a->D * sizeof(float);
    for (int32_t r = begin; r < end; r++) {
        memset((float *)g->dk + (size_t)r * g->lddk + head, 0, bytes);
        memset((float *)g->dv + (size_t)r * g->lddv + head, 0, bytes);
    }
}

/* Segments [first, last) of one document, dk and dv (and dq) of one key head, rows from begin to
 * end. */
static void backward_rows(const struct backward *b, int32_t first, int32_t last, int32_t kv,
                          int32_t begin, int32_t end, int want)
{
    const struct segment *s = b->a->segments;
    for (int32_t i = first; i < last; i++)
        clear_rows(b, kv, cpu_max(begin, s[i].start), cpu_min(end, s[i].start + s[i].length));
    for (int32_t i = first; i < last; i++)
        for (int32_t tile = 0; tile < attention_tiles(b->a, &s[i]); tile++)
            backward_tile(b, &s[i], tile, kv, begin, end, want);
}

/* Segments of the document that segment `first` opens end before this one. */
static int32_t document_end(const struct kern_attention *a, int32_t first)
{
    int32_t i = first + 1;
    while (i < a->num_segments && a->segments[i].document == a->segments[first].document) i++;
    return i;
}

/* Visible pairs of a document, to within a tile: what its units cost. */
static double document_work(const struct kern_attention *a, int32_t first, int32_t last)
{
    double work = 0;
    for (int32_t i = first; i < last; i++) {
        double n = a->segments[i].length, w = a->window > 0 ? a->window : INT32_MAX;
        work += n < w ? n * n / 2 : n * w;
        work += n * fmin(a->segments[i].prefix_length, w);
    }
    return work;
}

/* Units (document, key head) in one list: unit u of `a`. */
static int32_t nth_document(const struct kern_attention *a, int32_t document)
{
    int32_t first = 0;
    while (document-- > 0) first = document_end(a, first);
    return first;
}

static void one_pass(const struct backward *b, int32_t documents)
{
    const struct kern_attention *a = b->a;
#pragma omp parallel for num_threads(b->threads) schedule(dynamic)
    for (int64_t unit = 0; unit < (int64_t)documents * a->KV; unit++) {
        int32_t first = nth_document(a, (int32_t)(unit / a->KV));
        backward_rows(b, first, document_end(a, first), (int32_t)(unit % a->KV), 0, INT32_MAX,
                      WANT_Q | WANT_KV);
    }
}

enum { ROW_BLOCK = 2 * ATTENTION_KEYS }; /* rows a unit of the second pass owns */

static int32_t document_blocks(const struct segment *s, int32_t first, int32_t last)
{
    return cpu_blocks(s[last - 1].start + s[last - 1].length - s[first].start, ROW_BLOCK);
}

static void two_passes(const struct backward *b)
{
    const struct kern_attention *a = b->a;
    int64_t tiles = 0, blocks = 0;
    for (int32_t i = 0; i < a->num_segments; i++) tiles += attention_tiles(a, &a->segments[i]);
    for (int32_t i = 0; i < a->num_segments; i = document_end(a, i))
        blocks += document_blocks(a->segments, i, document_end(a, i));
#pragma omp parallel num_threads(b->threads)
    {
#pragma omp for schedule(dynamic) nowait
        for (int64_t unit = 0; unit < tiles * a->KV; unit++) {
            int64_t tile = tiles - 1 - unit / a->KV;
            const struct segment *s = a->segments;
            for (; tile >= attention_tiles(a, s); s++) tile -= attention_tiles(a, s);
            backward_tile(b, s, (int32_t)tile, (int32_t)(unit % a->KV), 0, INT32_MAX, WANT_Q);
        }
#pragma omp for schedule(dynamic)
        for (int64_t unit = 0; unit < blocks * a->KV; unit++) {
            int64_t block = unit / a->KV;
            int32_t first = 0, last = document_end(a, 0);
            while (block >= document_blocks(a->segments, first, last)) {
                block -= document_blocks(a->segments, first, last);
                first = last, last = document_end(a, first);
            }
            int32_t begin = a->segments[first].start + (int32_t)block * ROW_BLOCK;
            backward_rows(b, first, last, (int32_t)(unit % a->KV), begin, begin + ROW_BLOCK,
                          WANT_KV);
        }
    }
}

/* How much longer the threads would take for the units of one pass than for an even split: units
 * in order, each to the thread that is free first. */
static double unevenness(const struct kern_attention *a, int threads)
{
    enum { MOST = 256 };
    double busy[MOST] = {0}, total = 0, last = 0;
    if (threads > MOST) threads = MOST;
    for (int32_t i = 0; i < a->num_segments; i = document_end(a, i)) {
        double work = document_work(a, i, document_end(a, i));
        total += work * a->KV;
        for (int32_t kv = 0; kv < a->KV; kv++) {
            int least = 0;
            for (int t = 1; t < threads; t++)
                if (busy[t] < busy[least]) least = t;
            busy[least] += work;
            last = fmax(last, busy[least]);
        }
    }
    return last * threads / total;
}

void cpu_attention_backward(struct device *d, const struct kern_attention *a,
                            const struct kern_attention_grad *g, void *scratch)
{
    struct backward b = {a, g, scratch, attention_backward_floats(a), d->threads};
    int32_t documents = 0;
    for (int32_t i = 0; i < a->num_segments; i = document_end(a, i)) documents++;
    if (!documents) return;
    if (d->threads == 1 || unevenness(a, d->threads) <= 1.4) /* 7 products for 5 */
        one_pass(&b, documents);
    else
        two_passes(&b);
}
