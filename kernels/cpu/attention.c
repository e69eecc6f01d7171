/* attention.c - the parts that forward and backward share; attention.h explains them. */
#include "kernels/cpu/attention.h"

#include "base/size.h"

void attention_tile_init(struct query_tile *t, const struct kern_attention *a,
                         const struct segment *s, int32_t tile, int32_t kv)
{
    t->a = a, t->s = s, t->kv = kv;
    t->group = a->H / a->KV;
    t->first = tile * ATTENTION_LINES;
    t->count = cpu_min(ATTENTION_LINES, s->length * t->group - t->first);
    t->width = (int32_t)size_align((size_t)t->count, 16);
    for (int32_t i = 0; i < ATTENTION_LINES; i++)
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

/* One score is hidden when its key is newer than the line or has left its window. */
CPU_CLONES static void mask_rows(float *scores, const int32_t *position, int32_t width, int32_t key,
                                 int32_t count, int32_t window, int causal)
{
    for (int32_t j = 0; j < count; j++, key++) {
        float *row = scores + (size_t)j * ATTENTION_LINES;
        int32_t newest = window > 0 ? key + window - 1 : INT32_MAX, oldest = causal ? key : 0;
#pragma omp simd
        for (int32_t i = 0; i < width; i++)
            row[i] = position[i] < oldest || position[i] > newest ? -INFINITY : row[i];
    }
}

struct line_range attention_lines(const struct query_tile *t, const struct key_span *span,
                                  int32_t first, int32_t count)
{
    struct line_range r = {0, t->width};
    int32_t oldest = span->position + first, newest = oldest + count - 1, window = t->a->window;
    if (span->causal)
        while (r.begin + 16 < r.end && t->position[r.begin + 15] < oldest) r.begin += 16;
    if (window > 0)
        while (r.end - 16 > r.begin && t->position[r.end - 16] - window >= newest) r.end -= 16;
    return r;
}

void attention_mask(float *scores, const struct query_tile *t, const struct key_span *span,
                    struct line_range lines, int32_t first, int32_t count)
{
    int32_t window = t->a->window, key = span->position + first;
    int newer = span->causal && key + count - 1 > t->position[lines.begin];
    int left = window > 0 && key <= t->position[lines.end - 1] - window;
    if (newer || left)
        mask_rows(scores + lines.begin, t->position + lines.begin, lines.end - lines.begin, key,
                  count, window, span->causal);
}

void attention_load(float *to, const struct query_tile *t, const float *x, int32_t ld, float scale)
{
    int32_t D = t->a->D;
    for (int32_t i = 0; i < t->width; i++) {
        if (i >= t->count) {
            for (int32_t k = 0; k < D; k++) to[(size_t)k * ATTENTION_LINES + i] = 0;
            continue;
        }
        const float *from = x + (size_t)(attention_line_row(t, i) - t->a->first_row) * ld +
                            (size_t)attention_line_head(t, i) * D;
        for (int32_t k = 0; k < D; k++) to[(size_t)k * ATTENTION_LINES + i] = scale * from[k];
    }
}

size_t cpu_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    size_t floats = size_max(attention_forward_floats(a), attention_backward_floats(a));
    return floats * sizeof(float) * (size_t)d->threads;
}
