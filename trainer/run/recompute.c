#include "run/recompute.h"

static const struct {
    const char *word, *text;
} ways[NUM_RECOMPUTE] = {
#define X(name, word, text) {word, text},
    RECOMPUTE_TABLE(X)
#undef X
};

const char *recompute_word(enum recompute how) { return ways[how].word; }

struct model_recompute recompute_fixed(enum config_gradient_checkpointing word, int32_t layers)
{
    switch (word) {
    case CONFIG_CHECKPOINT_SELECTIVE: return (struct model_recompute){.selective = layers};
    case CONFIG_CHECKPOINT_FULL: return (struct model_recompute){.full = layers};
    case CONFIG_CHECKPOINT_OFFLOAD: return (struct model_recompute){.offload = layers};
    case CONFIG_CHECKPOINT_NONE:
    case CONFIG_CHECKPOINT_AUTO: break;
    }
    return (struct model_recompute){0};
}

/* --- auto --- */

/* A row of ways, each of which computes more again, and takes less, than the one before it: `n` of
 * the blocks more as `more` says, of the others as many as before. */
struct row {
    enum recompute more;
    struct model_recompute start;
};

static struct model_recompute way(const struct row *row, int32_t n)
{
    struct model_recompute r = row->start;
    if (row->more == RECOMPUTE_SELECTIVE) r.selective += n;
    if (row->more == RECOMPUTE_FULL) r.full += n, r.selective -= n;
    if (row->more == RECOMPUTE_OFFLOAD) r.offload += n, r.full -= n;
    return r;
}

struct search {
    struct engine *g;
    const struct recompute_room *room;
};

static enum status fits(const struct search *s, const struct row *row, int32_t n, int *out,
                        struct err *e)
{
    struct model_recompute r = way(row, n);
    TRY(engine_set_recompute(s->g, &r, e));
    *out = s->room->fits(s->room->context);
    return OK;
}

/* The least n from 0 to most with which it fits, and the engine so; *found = 0: not even `most`. */
static enum status least(const struct search *s, const struct row *row, int32_t most, int *found,
                         int32_t *out, struct err *e)
{
    int32_t fails = -1;
    *out = most;
    TRY(fits(s, row, 0, found, e));
    if (*found) most = 0;
    if (!*found) {
        fails = 0;
        TRY(fits(s, row, most, found, e));
    }
    while (*found && fails + 1 < most) {
        int32_t n = fails + (most - fails) / 2;
        int enough;
        TRY(fits(s, row, n, &enough, e));
        if (enough)
            most = n;
        else
            fails = n;
    }
    *out = most;
    struct model_recompute r = way(row, most);
    return engine_set_recompute(s->g, &r, e);
}

/* The last block is never run again whole: what backward makes first of all would have to be there
 * at once in any case. */
enum status recompute_choose(struct engine *g, const struct recompute_room *room, struct err *e)
{
    const struct search s = {g, room};
    int32_t layers = g->options.config->num_layers, n;
    int found;
    struct row selective = {RECOMPUTE_SELECTIVE, {0}};
    struct row full = {RECOMPUTE_FULL, {.selective = layers}};
    struct row offload = {RECOMPUTE_OFFLOAD, {.full = layers - 1, .selective = 1}};
    struct row rest = {RECOMPUTE_SELECTIVE, {0}};
    TRY(least(&s, &selective, layers, &found, &n, e));
    if (found) return OK;
    TRY(least(&s, &full, layers - 1, &found, &n, e));
    rest.start.full = n;
    if (!found && g->device.k->memory && g->device.k->copy_out) {
        TRY(least(&s, &offload, layers - 1, &found, &n, e));
        rest.start = (struct model_recompute){.offload = n, .full = layers - 1 - n};
    }
    return found ? least(&s, &rest, layers - rest.start.offload - rest.start.full, &found, &n, e)
                 : OK;
}

/* --- in words --- */

void recompute_spans(const struct engine *g, struct recompute_span out[NUM_RECOMPUTE])
{
    const struct model_recompute *r = &g->options.recompute;
    int32_t layers = g->options.config->num_layers;
    int32_t counts[NUM_RECOMPUTE] = {[RECOMPUTE_OFFLOAD] = r->offload,
                                     [RECOMPUTE_FULL] = r->full,
                                     [RECOMPUTE_SELECTIVE] = r->selective,
                                     [RECOMPUTE_NONE] =
                                         layers - r->offload - r->full - r->selective};
    int32_t first = 0;
    for (int how = NUM_RECOMPUTE - 1; how >= 0; first += counts[how--])
        out[how] = (struct recompute_span){first, counts[how]};
}

enum status recompute_print(const struct engine *g, struct buf *out)
{
    struct recompute_span spans[NUM_RECOMPUTE];
    const char *comma = "";
    recompute_spans(g, spans);
    for (int how = NUM_RECOMPUTE - 1; how >= 0; how--) {
        int32_t first = spans[how].first, count = spans[how].count;
        if (!count) continue;
        TRY(buf_printf(out, "%s%d", comma, (int)first));
        if (count > 1) TRY(buf_printf(out, "-%d", (int)(first + count - 1)));
        TRY(buf_printf(out, " %s", ways[how].word));
        comma = ", ";
    }
    return OK;
}
