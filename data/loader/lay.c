/* The rows of a micro-batch. */
#include <string.h>

#include "data/loader/parts.h"

/* ---- texts ---- */

static enum status lay_text(struct loader *l, const struct planned *p, struct batch *b,
                            struct err *e)
{
    int32_t found = 0;
    TRY(loader_read(l, p->document, p->first, p->rows + 1, l->document_ids, e));
    struct store_targets t = store_count_targets(l->document_weights, p->rows + 1);
    if (t.count != p->targets || t.last != p->rows)
        return err_set(e, ERR_FORMAT, "%s: document %d is not what it was at the start",
                       store_path(l->store), (int)p->document);
    memcpy(l->ids + b->N, l->document_ids, (size_t)p->rows * sizeof *l->ids);
    for (int32_t i = 0; i < p->rows; i++) {
        l->positions[b->N + i] = i;
        l->documents[b->N + i] = p->document;
        l->keys[b->N + i] = p->key;
        if (l->document_weights[i + 1] == 0) continue;
        l->rows[b->S + found] = b->N + i;
        l->targets[b->S + found] = l->document_ids[i + 1];
        l->weights[b->S + found++] = l->document_weights[i + 1];
    }
    l->segments[b->num_segments] =
        (struct segment){.start = b->N, .length = p->rows, .document = b->num_segments};
    b->num_segments++;
    b->N += p->rows;
    b->S += found;
    return OK;
}

/* ---- preferences ---- */

/* A record on its way into a batch. */
struct laying {
    struct loader *l;
    struct batch *b;
    const struct parts *parts;
    int32_t document;     /* in the store */
    int32_t prefix_start; /* of the shared prompt's rows */
};

/* Appends rows that hold ids[0 .. n), the first at `position`. */
static void put_rows(struct laying *x, const int32_t *ids, int32_t n, int32_t position)
{
    struct loader *l = x->l;
    memcpy(l->ids + x->b->N, ids, (size_t)n * sizeof *ids);
    for (int32_t i = 0; i < n; i++) {
        l->positions[x->b->N + i] = position + i;
        l->documents[x->b->N + i] = x->document;
        l->keys[x->b->N + i] = x->document;
    }
    x->b->N += n;
}

/* The rows `first` ... predict targets[0 .. n). */
static struct batch_span put_targets(struct laying *x, const int32_t *targets, int32_t n,
                                     int32_t first)
{
    struct loader *l = x->l;
    struct batch_span span = {x->b->S, n};
    memcpy(l->targets + x->b->S, targets, (size_t)n * sizeof *targets);
    for (int32_t i = 0; i < n; i++) {
        l->rows[x->b->S + i] = first + i;
        l->weights[x->b->S + i] = 1;
    }
    x->b->S += n;
    return span;
}

static void put_segment(struct laying *x, struct segment s, int joined)
{
    struct segment *all = x->l->segments;
    int32_t n = x->b->num_segments, next = n ? all[n - 1].document + 1 : 0;
    s.document = joined ? next - 1 : next;
    all[n] = s;
    x->b->num_segments++;
}

/* Of a shared prompt: its rows but the last. */
static void lay_prompt(struct laying *x, const int32_t *prompt)
{
    int32_t n = x->parts->prompt - 1;
    x->prefix_start = n ? x->b->N : 0;
    if (n) put_segment(x, (struct segment){.start = x->b->N, .length = n}, 0);
    put_rows(x, prompt, n, 0);
}

/* Behind a shared prompt; `joined`: not the first segment of its document. */
static struct batch_span lay_reply_shared(struct laying *x, const int32_t *prompt,
                                          const int32_t *reply, int32_t n, int joined)
{
    int32_t before = x->parts->prompt - 1, first = x->b->N;
    put_segment(x,
                (struct segment){.start = first,
                                 .length = n,
                                 .position = before,
                                 .prefix_start = x->prefix_start,
                                 .prefix_length = before},
                joined);
    put_rows(x, prompt + before, 1, before);
    put_rows(x, reply, n - 1, before + 1);
    return put_targets(x, reply, n, first);
}

/* A document of its own. */
static struct batch_span lay_reply_plain(struct laying *x, const int32_t *prompt,
                                         const int32_t *reply, int32_t n,
                                         struct batch_span *prompt_span)
{
    int32_t before = x->parts->prompt - 1, first = x->b->N;
    put_segment(x, (struct segment){.start = first, .length = before + n}, 0);
    put_rows(x, prompt, before + 1, 0);
    put_rows(x, reply, n - 1, before + 1);
    if (prompt_span) *prompt_span = put_targets(x, prompt + 1, before, first);
    return put_targets(x, reply, n, first + before);
}

static void lay_replies(struct laying *x, const int32_t *prompt, const int32_t *const replies[3],
                        struct batch_pair *pair)
{
    const struct loader_options *o = &x->l->options;
    const int32_t lengths[] = {x->parts->chosen, x->parts->rejected, x->parts->mismatch};
    struct batch_span *spans[] = {&pair->chosen, &pair->rejected, &pair->mismatch};
    int with_prompt = o->with_prompt && lengths[0], joined = x->parts->prompt > 1;
    if (o->prefix_sharing) {
        int32_t first = x->b->N;
        lay_prompt(x, prompt);
        if (with_prompt) pair->prompt = put_targets(x, prompt + 1, x->parts->prompt - 1, first);
    }
    for (int k = 0; k < 3; k++) {
        if (!lengths[k]) continue;
        if (o->prefix_sharing)
            *spans[k] = lay_reply_shared(x, prompt, replies[k], lengths[k], joined);
        else
            *spans[k] = lay_reply_plain(x, prompt, replies[k], lengths[k],
                                        with_prompt && k == 0 ? &pair->prompt : NULL);
        joined = 1;
    }
}

static enum status lay_record(struct loader *l, const struct planned *p, const struct parts *parts,
                              struct batch *b, struct err *e)
{
    const struct store_info *info = store_info(l->store);
    int64_t d = p->document, partner = parts->partner;
    struct laying x = {.l = l, .b = b, .parts = parts, .document = p->document};
    struct batch_pair *pair = &l->pairs[b->num_pairs++];
    *pair = (struct batch_pair){.document = d, .partner = partner};
    /* Up to the end of what is used. */
    int32_t end =
        parts->rejected ? info->rejected[d] + parts->rejected : info->chosen[d] + parts->chosen;
    TRY(store_read(l->store, d, end, l->document_ids, NULL, e));
    const int32_t *replies[3] = {l->document_ids + info->chosen[d],
                                 l->document_ids + info->rejected[d], NULL};
    if (parts->mismatch) {
        int32_t start = info->chosen[partner];
        TRY(store_read(l->store, partner, start + parts->mismatch, l->partner_ids, NULL, e));
        replies[2] = l->partner_ids + start;
    }
    lay_replies(&x, l->document_ids, replies, pair);
    return OK;
}

enum status loader_lay(struct loader *l, int64_t planned, struct batch *b, struct err *e)
{
    const struct planned *p = &l->planned[planned];
    TRY(l->parts ? lay_record(l, p, &l->parts[planned], b, e) : lay_text(l, p, b, e));
    b->num_tokens += p->tokens;
    return OK;
}

/* ---- the dead tail ---- */

enum { SUPERVISED_STEPS = 16, SUPERVISED_LEAST = 16, SEGMENT_STEPS = 4 }; /* an octave */

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Up to a multiple of the largest step that goes at least `steps` times into n. */
static int64_t round_octave(int64_t n, int64_t steps, int64_t step)
{
    while (2 * step * steps <= n) step *= 2;
    return round_up(n, step);
}

struct batch_tail loader_tail(int32_t rows, int64_t N, int64_t S, int64_t segments)
{
    if (!rows || !N) return (struct batch_tail){0};
    int64_t supervised = round_octave(S, SUPERVISED_STEPS, SUPERVISED_LEAST);
    int64_t all = round_up(N + (supervised > S), rows); /* those need a row that is dead */
    if (supervised > all) supervised = all;
    int64_t cut = round_octave(segments + (all > N), SEGMENT_STEPS, 1);
    return (struct batch_tail){(int32_t)(all - N), (int32_t)(supervised - S),
                               (int32_t)(cut - segments)};
}

void loader_lay_tail(struct loader *l, struct batch *b)
{
    struct batch_tail t = loader_tail(l->multiple, b->N, b->S, b->num_segments);
    int32_t next = b->num_segments ? l->segments[b->num_segments - 1].document + 1 : 0;
    for (int32_t n = b->N; n < b->N + t.rows; n++) {
        l->ids[n] = l->positions[n] = 0;
        l->documents[n] = l->keys[n] = -1;
    }
    for (int32_t s = b->S; s < b->S + t.supervised; s++) {
        l->rows[s] = b->N + t.rows - 1;
        l->targets[s] = 0;
        l->weights[s] = 0;
    }
    for (int32_t i = 0; i < t.segments; i++)
        l->segments[b->num_segments + i] = (struct segment){
            .start = i ? b->N + t.rows : b->N, .length = i ? 0 : t.rows, .document = next + i};
    b->tail = t;
}
