/* Lifetimes and offsets.
 *
 * A clock ticks once for every time a node runs: forward, forward again where backward wants it,
 * backward. Each tick touches the memory the node reads and writes then. A buffer lives from its
 * first to its last touch. Offsets are then given largest buffer first, each at the lowest place
 * where no buffer that lives at the same time lies: simple, offline, and within a few per cent of
 * the largest sum of live bytes on transformer graphs. */
#include <stdlib.h>

#include "autograd/tape_internal.h"
#include "base/arena.h"
#include "base/mem.h"
#include "base/size.h"

static void touch(struct tape_plan *p, int32_t buffer, size_t bytes, int32_t tick)
{
    struct tape_buffer *b = &p->buffers[buffer];
    b->bytes = size_max(b->bytes, size_align(bytes, ARENA_ALIGN));
    if (b->first < 0) b->first = tick;
    b->last = tick;
}

static void touch_data(const struct tape *t, struct tape_plan *p, const struct tensor *x, int again,
                       int32_t tick)
{
    if (!x || x->memory->is_param) return;
    int which = again && t->twice[x->memory->id] ? BUFFER_AGAIN : BUFFER_DATA;
    touch(p, tape_buffer_index(x->memory, which), tape_bytes(t, x->memory), tick);
}

static void touch_grad(const struct tape *t, struct tape_plan *p, const struct tensor *x,
                       int32_t tick)
{
    if (!x || x->is_param || !x->needs_grad) return;
    touch(p, tape_buffer_index(x->grad_memory, BUFFER_GRAD), tape_bytes(t, x->grad_memory), tick);
}

static void touch_forward(const struct tape *t, struct tape_plan *p, const struct node *n,
                          int again, int32_t tick)
{
    for (int k = 0; k < TAPE_INS; k++) touch_data(t, p, n->in[k], again, tick);
    for (int k = 0; k < TAPE_OUTS; k++) touch_data(t, p, n->out[k], again, tick);
}

static void touch_backward(const struct tape *t, struct tape_plan *p, const struct node *n,
                           int32_t tick)
{
    unsigned saved = n->op->saves(n);
    for (int k = 0; k < TAPE_INS; k++) {
        if (saved & SAVE_IN(k)) touch_data(t, p, n->in[k], 1, tick);
        touch_grad(t, p, n->in[k], tick);
    }
    for (int k = 0; k < TAPE_OUTS; k++) {
        if (saved & SAVE_OUT(k)) touch_data(t, p, n->out[k], 1, tick);
        touch_grad(t, p, n->out[k], tick);
    }
}

/* The inputs of region r that go to the host, in their first or second life. */
static void touch_away(const struct tape *t, struct tape_plan *p, int32_t r, int again,
                       int32_t tick)
{
    for (int32_t m = t->regions[r].away; m >= 0; m = t->next_away[m])
        touch_data(t, p, &t->tensors[m], again, tick);
}

/* Entering a region, backward has the inputs of the one before it brought back. */
static int32_t backward_lifetimes(const struct tape *t, struct tape_plan *p, int32_t tick)
{
    for (int32_t i = t->num_nodes - 1; i >= 0; i--) {
        int32_t r = t->nodes[i].region;
        if (r > 0 && i + 1 == t->regions[r].last) touch_away(t, p, r - 1, 1, tick);
        for (int32_t j = r < 0 ? i : t->regions[r].first; j < i + 1; j++)
            if (t->again_at[j] == i) touch_forward(t, p, &t->nodes[j], 1, tick++);
        touch_backward(t, p, &t->nodes[i], tick++);
    }
    return tick;
}

static int32_t forward_lifetimes(const struct tape *t, struct tape_plan *p)
{
    int32_t tick = 0;
    for (int32_t i = 0; i < t->num_nodes; i++, tick++) {
        int32_t r = t->nodes[i].region;
        touch_forward(t, p, &t->nodes[i], 0, tick);
        if (r >= 0 && i + 1 == t->regions[r].last) touch_away(t, p, r, 0, tick);
    }
    return tick;
}

static void find_lifetimes(const struct tape *t, struct tape_plan *p)
{
    int32_t tick = forward_lifetimes(t, p);
    if (t->with_backward) tick = backward_lifetimes(t, p, tick);
    for (int32_t i = 0; i < t->num_tensors; i++)
        if (t->tensors[i].keep) touch_data(t, p, &t->tensors[i], 0, tick);
}

/* Each has a place of its own on the host: all are there at the end of forward. */
static void place_on_host(const struct tape *t, struct tape_plan *p)
{
    for (int32_t r = 0; r < t->num_regions; r++)
        for (int32_t m = t->regions[r].away; m >= 0; m = t->next_away[m]) {
            struct tape_buffer *b = &p->buffers[tape_buffer_index(&t->tensors[m], BUFFER_HOST)];
            b->bytes = size_align(tape_bytes(t, &t->tensors[m]), ARENA_ALIGN);
            b->offset = p->host_bytes;
            p->host_bytes += b->bytes;
        }
}

/* In-place ops destroy their input, and a shared residual gradient must not be added to before its
 * owner is done: both are rules for whoever records, so breaking one is reported as an error. */
static enum status check_views(const struct tape *t, struct err *e)
{
    for (int32_t i = 0; t->with_backward && i < t->num_tensors; i++) {
        const struct tensor *x = &t->tensors[i];
        int32_t covered = 0;
        for (int32_t j = 0; j < t->num_tensors; j++)
            if (t->tensors[j].is_view && t->tensors[j].memory == x) covered += t->tensors[j].cols;
        if (x->needs_grad && covered && covered != x->cols)
            return err_set(e, ERR_SHAPE, "views cover %d of %d columns that need a gradient",
                           (int)covered, (int)x->cols);
    }
    return OK;
}

static enum status check_rules(const struct tape *t, struct err *e)
{
    for (int32_t i = 0; i < t->num_nodes; i++) {
        const struct node *n = &t->nodes[i];
        int place = n->op->in_place, a = n->op->addend;
        for (int32_t j = 0; j < t->num_nodes; j++) {
            const struct node *m = &t->nodes[j];
            unsigned saved = t->with_backward && j < i ? m->op->saves(m) : 0;
            for (int k = 0; k < TAPE_INS; k++) {
                if (place >= 0 && m->in[k] == n->in[place] && (j > i || saved & SAVE_IN(k)))
                    return err_set(e, ERR_SHAPE, "%s changes in place what %s still needs",
                                   n->op->name, m->op->name);
                if (a >= 0 && n->in[a] && n->in[a]->needs_grad && m->in[k] == n->in[a] && j > i)
                    return err_set(e, ERR_SHAPE, "%s is used by %s after it was an addend",
                                   n->op->name, m->op->name);
            }
            for (int k = 0; k < TAPE_OUTS; k++)
                if (place >= 0 && m->out[k] == n->in[place] && saved & SAVE_OUT(k))
                    return err_set(e, ERR_SHAPE, "%s changes in place what %s still needs",
                                   n->op->name, m->op->name);
        }
    }
    return OK;
}

static int larger_first(const void *a, const void *b, void *buffers)
{
    const struct tape_buffer *all = buffers;
    const struct tape_buffer *x = &all[*(const int32_t *)a], *y = &all[*(const int32_t *)b];
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1)
                                : (*(const int32_t *)a < *(const int32_t *)b ? -1 : 1);
}

static int lower_offset(const void *a, const void *b, void *buffers)
{
    const struct tape_buffer *all = buffers;
    const struct tape_buffer *x = &all[*(const int32_t *)a], *y = &all[*(const int32_t *)b];
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The lowest offset at which `b` meets none of the placed buffers that live when it does. */
static size_t lowest_gap(const struct tape_plan *p, const struct tape_buffer *b, int32_t *meeting,
                         const int32_t *placed, int32_t num_placed)
{
    int32_t n = 0;
    size_t at = 0;
    for (int32_t i = 0; i < num_placed; i++) {
        const struct tape_buffer *o = &p->buffers[placed[i]];
        if (o->first <= b->last && b->first <= o->last) meeting[n++] = placed[i];
    }
    qsort_r(meeting, (size_t)n, sizeof *meeting, lower_offset, p->buffers);
    for (int32_t i = 0; i < n; i++) {
        const struct tape_buffer *o = &p->buffers[meeting[i]];
        if (o->offset >= at + b->bytes) break;
        at = size_max(at, o->offset + o->bytes);
    }
    return at;
}

static enum status assign_offsets(struct tape_plan *p, struct err *e)
{
    size_t count = (size_t)p->num_buffers;
    int32_t *order = mem_calloc(count, 2 * sizeof *order), n = 0;
    if (!order) return err_set(e, ERR_MEMORY, "no memory to plan %zu buffers", count);
    for (int32_t i = 0; i < p->num_buffers; i++)
        if (p->buffers[i].first >= 0) order[n++] = i;
    qsort_r(order, (size_t)n, sizeof *order, larger_first, p->buffers);
    p->step_bytes = 0;
    for (int32_t i = 0; i < n; i++) {
        struct tape_buffer *b = &p->buffers[order[i]];
        b->offset = lowest_gap(p, b, order + count, order, i);
        p->step_bytes = size_max(p->step_bytes, b->offset + b->bytes);
    }
    mem_free(order);
    return OK;
}

enum status tape_plan(struct tape *t, struct tape_plan *p, struct err *e)
{
    TRY(tape_status(t, e));
    tape_plan_free(p);
    p->num_buffers = t->num_tensors * BUFFERS_PER_TENSOR;
    p->buffers = mem_calloc((size_t)p->num_buffers, sizeof *p->buffers);
    if (!p->buffers) return err_set(e, ERR_MEMORY, "no memory to plan %d tensors", t->num_tensors);
    for (int32_t i = 0; i < p->num_buffers; i++) p->buffers[i].first = -1;
    TRY(check_rules(t, e));
    TRY(check_views(t, e));
    tape_analyse(t);
    find_lifetimes(t, p);
    place_on_host(t, p);
    for (int32_t i = 0; i < t->num_nodes; i++) {
        const struct node *n = &t->nodes[i];
        if (n->op->scratch) p->scratch_bytes = size_max(p->scratch_bytes, n->op->scratch(t, n));
    }
    return assign_offsets(p, e);
}

void tape_plan_free(struct tape_plan *p)
{
    mem_free(p->buffers);
    *p = (struct tape_plan){0};
}
