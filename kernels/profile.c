/* The table of timed entries: one row each says its op, its work, and how it is called. */
#include "kernels/profile.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define CALLS_MAX ((size_t)1 << 22) /* of 150 bytes */

static const struct {
    const char *name, *text;
} ops[NUM_PROFILE_OPS] = {
#define X(name, text) {#name, text},
    PROFILE_OPS(X)
#undef X
};

static const char *const scope_texts[NUM_PROFILE_SCOPES] = {
#define X(name, text) text,
    PROFILE_SCOPES(X)
#undef X
};

const char *profile_scope_text(enum profile_scope scope) { return scope_texts[scope]; }
const char *profile_op_name(enum profile_op op) { return ops[op].name; }
const char *profile_op_text(enum profile_op op) { return ops[op].text; }

/* Of a device that is attached: the table it has is then not const, but the first member of ours.
 */
static struct profile *owner(const struct device *d)
{
    return (struct profile *)(uintptr_t)(const void *)d->k;
}

/* --- work: what a call has to compute and to move --- */

struct work {
    double flops, bytes;
    struct profile_product product;
};

/* Elements of the device's type; elements of 4 bytes. */
static struct work moves(const struct device *d, double flops, double elements, double words)
{
    return (struct work){.flops = flops,
                         .bytes = elements * (double)dtype_size(d->type) + 4 * words};
}

static double area(int64_t a, int64_t b) { return (double)a * (double)b; }

static struct work linear_work(const struct device *d, struct profile_product p, int word_result)
{
    double sides[] = {area(p.N, p.I), area(p.N, p.O), area(p.O, p.I)};
    double flops = 2 * sides[0] * p.O, all = sides[0] + sides[1] + sides[2];
    if (word_result)
        return (struct work){flops, moves(d, 0, all - sides[2], 2 * sides[2]).bytes, p};
    return (struct work){flops, moves(d, 0, all + (p.accumulate ? sides[1] : 0), 0).bytes, p};
}

static struct work head_work(const struct device *d, const struct kern_head *h, const void *scratch)
{
    double products = 1 + (h->dx != NULL) + (h->dw && !h->num_dw_rows);
    struct kern_head_cut cut = d->k->head_cut(d, h);
    struct profile_product shape = {.N = h->S,
                                    .I = h->C,
                                    .O = h->V,
                                    .chunk = cut.rows,
                                    .words = cut.words,
                                    .ldx = h->C,
                                    .ldy = cut.words,
                                    .x = h->x,
                                    .w = h->w,
                                    .y = scratch,
                                    .dx = h->dx,
                                    .dw = h->num_dw_rows ? NULL : h->dw};
    struct work w = moves(d, 2 * area(h->S, h->C) * h->V * products,
                          products * (area(h->V, h->C) + area(h->S, h->C)), 0);
    w.product = shape;
    return w;
}

/* Pairs of a query row and a key row that it sees; 0: only the device knows. */
static double visible_pairs(const struct device *d, const struct kern_attention *a)
{
    const struct profile *p = owner(d);
    const struct segment *all = p->segments ? p->segments : d->k->memory ? NULL : a->segments;
    int32_t count = !all ? 0 : p->segments ? p->num_segments : a->num_segments;
    return segment_pairs(all, count, a->window);
}

/* `products` of D multiply-adds a pair and query head; q, k, v and o moved `times`. */
static struct work attention_work(const struct device *d, const struct kern_attention *a,
                                  int products, int times)
{
    return moves(d, 2.0 * products * visible_pairs(d, a) * a->H * a->D,
                 2.0 * times * a->N * a->D * (a->H + a->KV), 0);
}

static struct work lora_work(const struct device *d, const struct kern_lora *l, int backward,
                             int with_dx)
{
    double out = 0, up = 0, both = backward ? 2 : 1;
    for (const struct kern_lora_part *p = l->parts; p < l->parts + l->num_parts; p++)
        out += p->out, up += area(p->out, p->rank);
    double flops = 2.0 * l->N * (area(l->R, l->I) + up) * both;
    double rows = backward ? l->I * (with_dx ? 3.0 : 1.0) + out : l->I + 2 * out;
    return moves(d, flops, l->N * rows, both * (area(l->R, l->I) + up) + area(l->N, l->R));
}

/* --- records --- */

/* Room for one more of `each` bytes in *list; 0: there is none. */
static int make_room(struct profile *p, void **list, size_t *room, size_t need, size_t each)
{
    enum { LEAST = 1024 };
    size_t more = *room;
    while (more < need) more = more ? 2 * more : LEAST;
    if (more == *room) return 1;
    void *larger = more > CALLS_MAX ? NULL : mem_resize(*list, more, each);
    p->failed |= !larger;
    if (!larger) return 0;
    *list = larger;
    *room = more;
    return 1;
}

/* Pieces of work the device was given so far. */
static size_t queued(const struct profile *p, const struct device *d)
{
    return p->num_spans + (p->inner->trace ? p->inner->trace_count(d) : 0);
}

static void note(struct profile *p, enum profile_op op, double began, double ended,
                 struct profile_queued q, const struct work *w)
{
    void *calls = p->calls;
    if (!make_room(p, &calls, &p->room, p->count + 1, sizeof *p->calls)) return;
    p->calls = calls;
    p->calls[p->count++] = (struct profile_call){.op = op,
                                                 .step = p->step,
                                                 .began = began,
                                                 .host = ended - began,
                                                 .seconds = ended - began,
                                                 .queued = q,
                                                 .flops = w->flops,
                                                 .bytes = w->bytes,
                                                 .product = w->product};
}

/* --- the entries --- */

/* clang-format off */
/* entry, op, work, parameters, arguments */
#define ENTRIES(X) \
    X(upload, copy, moves(d, 0, 0, (double)bytes / 2), \
      (struct device *d, void *to, const void *from, size_t bytes), (d, to, from, bytes)) \
    X(download, copy, moves(d, 0, 0, (double)bytes / 2), \
      (struct device *d, void *to, const void *from, size_t bytes), (d, to, from, bytes)) \
    X(answer_begin, copy, moves(d, 0, 0, (double)bytes / 2), \
      (struct device *d, int slot, const void *from, size_t bytes), (d, slot, from, bytes)) \
    X(answer_end, copy, moves(d, 0, 0, 0), \
      (struct device *d, int slot, void *to, size_t bytes), (d, slot, to, bytes)) \
    X(copy_rows, copy, moves(d, 0, 0, (double)rows * (double)row_bytes / 2), \
      (struct device *d, void *to, size_t to_stride, const void *from, size_t from_stride, \
       int32_t rows, size_t row_bytes), \
      (d, to, to_stride, from, from_stride, rows, row_bytes)) \
    X(zero, copy, moves(d, 0, 0, (double)bytes / 4), \
      (struct device *d, void *p, size_t bytes), (d, p, bytes)) \
    X(embedding_forward, embedding, moves(d, 0, 2 * area(N, C), N), \
      (struct device *d, void *out, const void *table, const int32_t *ids, int32_t N, int32_t C), \
      (d, out, table, ids, N, C)) \
    X(embedding_backward, embedding, moves(d, area(N, C), area(N, C), 2 * area(N, C)), \
      (struct device *d, float *dtable, const void *dout, const int32_t *ids, int32_t N, \
       int32_t C), \
      (d, dtable, dout, ids, N, C)) \
    X(norm_forward, norm_forward, moves(d, 4 * area(N, G) * D, 2 * area(N, G) * D, area(N, G)), \
      (struct device *d, void *y, float *rstd, const void *x, const void *w, int32_t N, \
       int32_t G, int32_t D, int32_t ldy, int32_t ldx, float eps), \
      (d, y, rstd, x, w, N, G, D, ldy, ldx, eps)) \
    X(norm_backward, norm_backward, \
      moves(d, 8 * area(N, G) * D, (accumulate ? 4 : 3) * area(N, G) * D, area(N, G)), \
      (struct device *d, void *dx, float *dw, const void *dy, const void *x, const void *w, \
       const float *rstd, int32_t N, int32_t G, int32_t D, int32_t lddx, int32_t lddy, \
       int32_t ldx, int accumulate, void *scratch), \
      (d, dx, dw, dy, x, w, rstd, N, G, D, lddx, lddy, ldx, accumulate, scratch)) \
    X(rope, rope, moves(d, 3 * area(N, G) * D, 2 * area(N, G) * D, area(N, D)), \
      (struct device *d, void *x, const float *table, const int32_t *position, int32_t N, \
       int32_t G, int32_t D, int32_t ldx, int inverse), \
      (d, x, table, position, N, G, D, ldx, inverse)) \
    X(linear_forward, linear_forward, \
      linear_work(d, (struct profile_product){.N = N, .I = I, .O = O, .x = x, .w = w, .y = y, \
                  .ldx = ldx, .ldy = ldy, .accumulate = bias || addend}, 0), \
      (struct device *d, void *y, const void *x, const void *w, const void *bias, \
       const void *addend, int32_t N, int32_t I, int32_t O, int32_t ldy, int32_t ldx, \
       int32_t ld_addend), \
      (d, y, x, w, bias, addend, N, I, O, ldy, ldx, ld_addend)) \
    X(linear_backward_input, linear_by_input, \
      linear_work(d, (struct profile_product){.N = N, .I = I, .O = O, .x = dx, .w = w, .y = dy, \
                  .ldx = lddx, .ldy = lddy, .accumulate = accumulate}, 0), \
      (struct device *d, void *dx, const void *dy, const void *w, int32_t N, int32_t I, \
       int32_t O, int32_t lddx, int32_t lddy, int accumulate), \
      (d, dx, dy, w, N, I, O, lddx, lddy, accumulate)) \
    X(linear_backward_weight, linear_by_weight, \
      linear_work(d, (struct profile_product){.N = N, .I = I, .O = O, .x = x, .w = dw, .y = dy, \
                  .ldx = ldx, .ldy = lddy, .accumulate = 1}, 1), \
      (struct device *d, float *dw, const void *dy, const void *x, int32_t N, int32_t I, \
       int32_t O, int32_t lddy, int32_t ldx), \
      (d, dw, dy, x, N, I, O, lddy, ldx)) \
    X(linear_backward_bias, linear_bias, moves(d, area(N, O), area(N, O), 2 * (double)O), \
      (struct device *d, float *db, const void *dy, int32_t N, int32_t O, int32_t lddy), \
      (d, db, dy, N, O, lddy)) \
    X(lora_forward, lora_forward, lora_work(d, l, 0, 0), \
      (struct device *d, void *y, const struct kern_lora *l, void *scratch), (d, y, l, scratch)) \
    X(lora_backward, lora_backward, lora_work(d, l, 1, dx != NULL), \
      (struct device *d, void *dx, float *da, const void *dy, const struct kern_lora *l, \
       int32_t lddx, int accumulate, void *scratch), \
      (d, dx, da, dy, l, lddx, accumulate, scratch)) \
    X(attention_forward, attention_forward, attention_work(d, a, 2, 1), \
      (struct device *d, const struct kern_attention *a, void *scratch), (d, a, scratch)) \
    X(attention_backward, attention_backward, attention_work(d, a, 5, 2), \
      (struct device *d, const struct kern_attention *a, const struct kern_attention_grad *g, \
       void *scratch), \
      (d, a, g, scratch)) \
    X(swiglu_forward, swiglu_forward, moves(d, 5 * area(N, F), 3 * area(N, F), 0), \
      (struct device *d, void *out, const void *gate, const void *up, int32_t N, int32_t F, \
       int32_t ldo, int32_t ldg, int32_t ldu), \
      (d, out, gate, up, N, F, ldo, ldg, ldu)) \
    X(swiglu_backward, swiglu_backward, moves(d, 10 * area(N, F), 5 * area(N, F), 0), \
      (struct device *d, void *dgate, void *dup, const void *dout, const void *gate, \
       const void *up, int32_t N, int32_t F, int32_t lddo, int32_t ldg, int32_t ldu, \
       int32_t lddg, int32_t lddu), \
      (d, dgate, dup, dout, gate, up, N, F, lddo, ldg, ldu, lddg, lddu)) \
    X(head_forward, head_forward, head_work(d, h, scratch), \
      (struct device *d, const struct kern_head *h, void *scratch), (d, h, scratch)) \
    X(head_backward_input, head_backward, \
      moves(d, 2 * area(h->S, h->C), area(2 * h->S + (accumulate ? h->S : N), h->C), 0), \
      (struct device *d, void *dx_out, const float *dlogp, const struct kern_head *h, int32_t N, \
       int32_t lddx, int accumulate), \
      (d, dx_out, dlogp, h, N, lddx, accumulate)) \
    X(head_backward_weight, head_backward, \
      moves(d, 4 * area(h->S, h->C) * h->V, 2 * area(h->S, h->C), 3 * area(h->V, h->C)), \
      (struct device *d, float *dw, const float *dlogp, const struct kern_head *h, \
       void *scratch), \
      (d, dw, dlogp, h, scratch)) \
    X(grad_norm, grad_norm, moves(d, 2 * (double)n, 0, (double)n), \
      (struct device *d, float out[2], const float *grad, size_t n, float inv_weight, \
       float max_norm, void *scratch), \
      (d, out, grad, n, inv_weight, max_norm, scratch)) \
    X(adamw, adamw, moves(d, 15 * (double)a->n, 0, 7 * (double)a->n), \
      (struct device *d, const struct kern_adamw *a), (d, a)) \
    X(adamw_8bit, adamw, moves(d, 60 * (double)k->a.n, 0, 4 * (double)k->a.n), \
      (struct device *d, const struct kern_adamw_8bit *k), (d, k))
/* clang-format on */

static void name_range(struct device *d, const char *name)
{
    if (d->k->range) d->k->range(d, name);
}

#define X(entry, op, does, parameters, arguments)                \
    static void timed_##entry parameters                         \
    {                                                            \
        struct profile *profile = owner(d);                      \
        struct profile_queued q = {.first = queued(profile, d)}; \
        double began = clock_seconds();                          \
        name_range(d, #entry);                                   \
        profile->inner->entry arguments;                         \
        name_range(d, NULL);                                     \
        double ended = clock_seconds();                          \
        struct work work = does;                                 \
        q.last = queued(profile, d);                             \
        note(profile, PROFILE_##op, began, ended, q, &work);     \
    }
ENTRIES(X)
#undef X

/* --- attaching --- */

static struct profile *attached(const struct device *d)
{
    return d->k && d->k->adamw == timed_adamw ? owner(d) : NULL;
}

enum status profile_attach(struct profile *p, struct device *d, struct err *e)
{
    *p = (struct profile){.inner = d->k, .table = *d->k};
    void *calls = NULL;
    if (!make_room(p, &calls, &p->room, 1, sizeof *p->calls))
        return err_set(e, ERR_MEMORY, "no memory for a profile");
    p->calls = calls;
    enum status status = d->k->trace ? d->k->trace(d, 1, e) : OK;
    if (status) {
        profile_free(p);
        return status;
    }
#define X(entry, op, does, parameters, arguments) \
    if (p->inner->entry) p->table.entry = timed_##entry;
    ENTRIES(X)
#undef X
    d->k = &p->table;
    return OK;
}

void profile_detach(struct profile *p, struct device *d)
{
    struct err ignored = {0};
    if (d->k != &p->table) return;
    d->k = p->inner;
    if (d->k->trace && d->k->trace(d, 0, &ignored)) p->failed = 1;
}

void profile_free(struct profile *p)
{
    mem_free(p->calls);
    mem_free(p->scopes);
    mem_free(p->spans);
    *p = (struct profile){0};
}

void profile_set_step(struct profile *p, int32_t step) { p->step = step; }
int profile_has_clock(const struct profile *p) { return p->inner && p->inner->trace; }

const struct kernels *profile_inner(const struct device *d)
{
    const struct profile *p = attached(d);
    return p ? p->inner : d->k;
}

/* --- the host's --- */

double profile_begin(const struct device *d) { return attached(d) ? clock_seconds() : 0; }

void profile_end(const struct device *d, enum profile_op op, double began)
{
    struct profile *p = attached(d);
    struct work none = {0};
    if (!p) return;
    size_t now = queued(p, d);
    note(p, op, began, clock_seconds(), (struct profile_queued){now, now}, &none);
}

static void begin_scope(struct profile *p, const struct device *d, enum profile_scope scope,
                        int32_t number)
{
    void *scopes = p->scopes;
    size_t now = queued(p, d);
    if (!make_room(p, &scopes, &p->scope_room, p->num_scopes + 1, sizeof *p->scopes)) return;
    p->scopes = scopes;
    if (p->depth < PROFILE_DEPTH) p->open[p->depth] = p->num_scopes;
    p->scopes[p->num_scopes++] =
        (struct profile_scoped){scope, number, p->step, clock_seconds(), 0, {now, now}};
}

void profile_enter(struct device *d, enum profile_scope scope, int32_t number)
{
    struct profile *p = attached(d);
    if (d->k->range) {
        char name[32];
        if (number < 0)
            snprintf(name, sizeof name, "%s", scope_texts[scope]);
        else
            snprintf(name, sizeof name, "%s %d", scope_texts[scope], (int)number);
        d->k->range(d, name);
    }
    if (!p) return;
    begin_scope(p, d, scope, number);
    p->depth++;
}

void profile_leave(struct device *d)
{
    struct profile *p = attached(d);
    name_range(d, NULL);
    if (!p || !p->depth || --p->depth >= PROFILE_DEPTH || p->failed) return;
    struct profile_scoped *s = &p->scopes[p->open[p->depth]];
    s->seconds = clock_seconds() - s->began;
    s->queued.last = queued(p, d);
}

void profile_segments(const struct device *d, const struct segment *segments, int32_t count)
{
    struct profile *p = attached(d);
    if (!p) return;
    p->segments = segments;
    p->num_segments = count;
}

/* --- the device's --- */

/* A call's time is that of its work in the compute stream; what comes in beside it costs nothing
 * while it does. */
static void take_times(struct profile *p)
{
    for (; p->collected < p->count; p->collected++) {
        struct profile_call *c = &p->calls[p->collected];
        if (profile_op_of_host(c->op)) continue;
        c->seconds = 0;
        for (size_t i = c->queued.first; i < c->queued.last; i++)
            if (!p->spans[i].copy) c->seconds += p->spans[i].seconds;
    }
}

/* Work in one stream is one after the other; the clock's last digit may say otherwise. */
static void order_spans(struct kern_span *spans, size_t count)
{
    double ends[2] = {0, 0};
    for (struct kern_span *s = spans; s < spans + count; s++) {
        double *end = &ends[s->copy != 0];
        if (s->began < *end) s->began = *end;
        *end = s->began + s->seconds;
    }
}

enum status profile_collect(struct profile *p, struct device *d, struct err *e)
{
    if (!p->inner->trace) return OK;
    size_t more = p->inner->trace_count(d);
    void *spans = p->spans;
    int fits = make_room(p, &spans, &p->span_room, p->num_spans + more, sizeof *p->spans);
    p->spans = spans;
    if (!fits) return err_set(e, ERR_MEMORY, "no memory for a profile");
    TRY(p->inner->trace_read(d, p->spans + p->num_spans, e));
    p->num_spans += more;
    order_spans(p->spans, p->num_spans);
    take_times(p);
    return OK;
}

/* --- sums --- */

void profile_sum(const struct profile *p, const struct profile_rates *r, struct profile_row *rows)
{
    double computing[NUM_PROFILE_OPS] = {0};
    memset(rows, 0, NUM_PROFILE_OPS * sizeof *rows);
    for (const struct profile_call *c = p->calls; c < p->calls + p->count; c++) {
        if (c->step < 0) continue;
        struct profile_row *row = &rows[c->op];
        double compute = r->flops > 0 ? c->flops / r->flops : 0;
        double move = r->bytes > 0 ? c->bytes / r->bytes : 0;
        row->calls++;
        row->seconds += c->seconds;
        row->host += c->host;
        row->flops += c->flops;
        row->bytes += c->bytes;
        row->floor += compute > move ? compute : move;
        if (compute > move) computing[c->op] += compute;
    }
    for (int i = 0; i < NUM_PROFILE_OPS; i++) rows[i].arithmetic = 2 * computing[i] > rows[i].floor;
}

/* The row of this kind, a new one, or the last where there is no room. */
static struct profile_kernel *kernel_row(struct profile_kernel *rows, size_t *count, size_t room,
                                         enum profile_op op, const char *name)
{
    for (size_t i = 0; i < *count; i++)
        if (rows[i].op == op && !strcmp(rows[i].name, name)) return &rows[i];
    if (*count + 1 >= room) {
        op = NUM_PROFILE_OPS;
        name = "others";
    }
    if (*count == room) return &rows[room - 1];
    rows[*count] = (struct profile_kernel){.op = op, .name = name};
    return &rows[(*count)++];
}

size_t profile_kernels(const struct profile *p, struct profile_kernel *out, size_t room)
{
    size_t count = 0;
    for (const struct profile_call *c = p->calls; c < p->calls + p->collected; c++)
        for (size_t i = c->queued.first; c->step >= 0 && room && i < c->queued.last; i++) {
            struct profile_kernel *k = kernel_row(out, &count, room, c->op, p->spans[i].name);
            k->count++;
            k->seconds += p->spans[i].seconds;
        }
    return count;
}
