/* again.c - what backward has made again, when, and what waits on the host meanwhile.
 *
 * A memory lives twice when backward reads it and it is not kept in between: then it has a buffer
 * for each life. All that a full region makes and keeps to itself does; of a selective one the
 * first outputs of cheap ops, if nothing but cheap ops writes to them (statistics, which are
 * small, are kept, so that a norm is not run again for them alone); and what goes to the host.
 *
 * A node runs again when a backward reads what it writes, directly or through others that run
 * again: in a selective region before the first backward that does, in a full one on entering. */
#include "autograd/tape_internal.h"

static int writes(const struct node *n, const struct tensor *memory)
{
    for (int k = 0; k < TAPE_OUTS; k++)
        if (n->out[k] && n->out[k]->memory == memory) return 1;
    return 0;
}

/* --- lives --- */

static int may_live_twice(const struct tape *t, const struct tensor *x)
{
    int32_t r = tape_region_of(t, x);
    if (x->is_param || x->memory != x || r < 0) return 0;
    if (t->regions[r].how != RECOMPUTE_SELECTIVE) return t->regions[r].how != RECOMPUTE_NONE;
    const struct node *n = &t->nodes[x->producer];
    return n->op->cheap && n->out[0] == x;
}

static void find_lives(struct tape *t)
{
    for (int32_t i = 0; i < t->num_tensors; i++) t->twice[i] = may_live_twice(t, &t->tensors[i]);
    for (int32_t i = 0; i < t->num_nodes; i++) {
        const struct node *n = &t->nodes[i];
        for (int k = 0; k < TAPE_INS; k++) {
            const struct tensor *x = n->in[k]; /* what crosses a border is kept */
            if (x && tape_region_of(t, x->memory) != n->region) t->twice[x->memory->id] = 0;
        }
        int selective = n->region >= 0 && t->regions[n->region].how == RECOMPUTE_SELECTIVE;
        for (int k = 0; selective && !n->op->cheap && k < TAPE_OUTS; k++)
            if (n->out[k]) t->twice[n->out[k]->memory->id] = 0;
    }
}

/* --- running again --- */

/* The backward of node `at` reads this memory, or runs something again that does. */
static void demand(struct tape *t, int32_t r, const struct tensor *memory, int32_t at)
{
    if (!t->twice[memory->id] || tape_region_of(t, memory) != r) return;
    for (int32_t i = t->regions[r].first; i < t->regions[r].last; i++) {
        const struct node *n = &t->nodes[i];
        if (t->again_at[i] >= 0 || !writes(n, memory)) continue;
        t->again_at[i] = at;
        for (int k = 0; k < TAPE_INS; k++)
            if (n->in[k]) demand(t, r, n->in[k]->memory, at);
    }
}

static void find_reruns(struct tape *t, int32_t r)
{
    const struct region *region = &t->regions[r];
    int selective = region->how == RECOMPUTE_SELECTIVE;
    for (int32_t i = region->last - 1; i >= region->first; i--) {
        const struct node *n = &t->nodes[i];
        unsigned saved = n->op->saves(n);
        int32_t at = selective ? i : region->last - 1;
        for (int k = 0; k < TAPE_INS; k++)
            if (n->in[k] && saved & SAVE_IN(k)) demand(t, r, n->in[k]->memory, at);
        for (int k = 0; k < TAPE_OUTS; k++)
            if (n->out[k] && saved & SAVE_OUT(k)) demand(t, r, n->out[k]->memory, at);
    }
}

/* --- the host --- */

static int touches_elsewhere(const struct tape *t, int32_t r, const struct tensor *memory)
{
    for (int32_t i = 0; i < t->num_nodes; i++) {
        const struct node *n = &t->nodes[i];
        unsigned saved = n->op->saves(n);
        if (n->region == r) continue;
        for (int k = 0; k < TAPE_INS; k++)
            if (n->in[k] && n->in[k]->memory == memory &&
                (saved & SAVE_IN(k) || i >= t->regions[r].last))
                return 1;
        for (int k = 0; k < TAPE_OUTS; k++)
            if (n->out[k] && n->out[k]->memory == memory && saved & SAVE_OUT(k)) return 1;
    }
    return 0;
}

/* An input goes if its maker is done with it and nobody behind the region wants it. The region
 * behind is where it is brought back from. */
static void send_away(struct tape *t, int32_t r)
{
    struct region *region = &t->regions[r];
    if (r + 1 == t->num_regions || region[1].first == region[1].last) return;
    for (int32_t i = region->first; i < region->last; i++)
        for (int k = 0; k < TAPE_INS; k++) {
            struct tensor *x = t->nodes[i].in[k] ? t->nodes[i].in[k]->memory : NULL;
            if (!x || x->is_param || x->keep || t->twice[x->id]) continue;
            if (tape_region_of(t, x) == r || touches_elsewhere(t, r, x)) continue;
            t->twice[x->id] = 1;
            t->next_away[x->id] = region->away;
            region->away = x->id;
        }
}

void tape_analyse(struct tape *t)
{
    for (int32_t i = 0; i < t->num_nodes; i++) t->again_at[i] = -1;
    for (int32_t i = 0; i < t->num_tensors; i++) t->twice[i] = 0;
    for (int32_t r = 0; r < t->num_regions; r++) t->regions[r].away = -1;
    if (!t->with_backward) return;
    find_lives(t);
    for (int32_t r = 0; r < t->num_regions; r++) {
        if (t->regions[r].how != RECOMPUTE_NONE) find_reruns(t, r);
        if (t->regions[r].how == RECOMPUTE_OFFLOAD && t->device->k->copy_out) send_away(t, r);
    }
}
