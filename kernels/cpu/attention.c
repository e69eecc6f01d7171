/* attention.c - the parts that forward and backward share; attention.h explains them. */
#include "kernels/cpu/attention.h"

#include "base/size.h"
#include "kernels/cpu/turn.h"

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
    int32_t D = t->a->D, i = 0, lines = cpu_turn_lines();
    for (; i + lines <= t->count; i += lines) {
        const float *from[TURN_LINES_MOST];
        for (int32_t n = 0; n < lines; n++) from[n] = x + line_at(t, i + n, ld);
        cpu_turn_in(line_column(t, to, i), ATTENTION_PANEL, from, D, scale);
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
    int32_t D = t->a->D, i = 0, lines = cpu_turn_lines();
    for (; i + lines <= t->count; i += lines) {
        float *to[TURN_LINES_MOST], factor[TURN_LINES_MOST];
        for (int32_t n = 0; n < lines; n++)
            to[n] = x + line_at(t, i + n, ld), factor[n] = scale ? scale[i + n] : all;
        cpu_turn_out(to, line_column(t, (float *)from, i), ATTENTION_PANEL, D, factor);
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
