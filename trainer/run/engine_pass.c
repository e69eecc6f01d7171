/* A micro-batch's pass: recorded on the tape and queued, or replayed by the device. */
#include "run/engine_internal.h"

#include <stddef.h>

#include "base/log.h"
#include "base/mem.h"
#include "kernels/profile.h"

static const struct pass {
    size_t plan; /* offset in struct engine */
    int dropout, for_backward, forward, backward;
} passes[] = {
    [ENGINE_TRAIN] = {offsetof(struct engine, train_plan), 1, 1, 1, 1},
    [ENGINE_EVALUATE] = {offsetof(struct engine, eval_plan), 0, 0, 1, 0},
    [ENGINE_SCORE] = {offsetof(struct engine, train_plan), 1, 1, 1, 0},
    [ENGINE_BACKWARD] = {offsetof(struct engine, train_plan), 1, 1, 0, 1},
    [ENGINE_REFER] = {offsetof(struct engine, reference_plan), 0, 0, 1, 0},
};

/* All that the work of a pass depends on beside the device's memory, and beside what stays as it is
 * while an engine lives: plans, recomputation, addresses, the wish for attention. */
struct pass_key {
    int32_t pass, rows, supervised, segments, longest;
};

/* Whether an engine may look at how long the longest segment is. */
static int looks_at_longest(const struct engine *g)
{
    const struct device *d = &g->device;
    const char *name = NULL;
    if (d->k->attention_engine) name = d->k->attention_engine(d, g->options.config->head_dim);
    return d->attention == ATTENTION_CUDNN || (name && name[0] == 'c');
}

static struct pass_key key_of(const struct engine *g, enum engine_pass pass, const struct batch *b)
{
    struct tokens t = engine_batch_tokens(g, b);
    return (struct pass_key){.pass = pass,
                             .rows = t.N,
                             .supervised = engine_supervised(b),
                             .segments = t.num_segments,
                             .longest = looks_at_longest(g) ? t.longest : 0};
}

/* The tape as the pass wants it. */
static enum status bind(struct engine *g, enum engine_pass pass, const struct batch *b,
                        struct err *e)
{
    const struct pass *p = &passes[pass];
    const struct tape_plan *plan = (const struct tape_plan *)(const void *)((char *)g + p->plan);
    struct tokens tokens = engine_batch_tokens(g, b);
    struct head_result r;
    double began = profile_begin(&g->device);
    if (g->has_lora && p->dropout)
        lora_set_dropout(&g->lora, g->on_device.dropout, &tokens);
    else if (g->has_lora)
        lora_clear_dropout(&g->lora);
    g->bound = 0;
    r = pass == ENGINE_REFER ? engine_record_reference(g, &tokens, engine_supervised(b))
                             : engine_record(g, p->for_backward, &tokens, engine_supervised(b));
    TRY(tape_bind(g->tape, plan, g->step_base, g->scratch_base, e));
    g->bound = 1;
    g->logp = r.logp;
    g->results[pass] = (struct engine_results){r.logp->data, r.hit->data, r.stats->data};
    profile_end(&g->device, PROFILE_record, began);
    return OK;
}

static enum status queue(struct engine *g, enum engine_pass pass, const struct batch *b,
                         struct err *e)
{
    if (pass != ENGINE_BACKWARD || !g->bound) TRY(bind(g, pass, b, e));
    if (passes[pass].forward) tape_forward(g->tape);
    if (passes[pass].backward) tape_backward(g->tape, g->logp, g->on_device.dlogp);
    return OK;
}

enum status engine_pass(struct engine *g, enum engine_pass pass, const struct batch *b,
                        struct err *e)
{
    struct device *d = &g->device;
    struct pass_key key = key_of(g, pass, b);
    struct err why = {0};
    enum kern_graph how = KERN_GRAPH_NONE;
    if (d->k->graph_begin) how = d->k->graph_begin(d, &key, sizeof key);
    if (how == KERN_GRAPH_REPLAYED) {
        g->bound = 0; /* the tape is of another micro-batch */
        return OK;
    }
    enum status status = queue(g, pass, b, e);
    if (how == KERN_GRAPH_NONE) return status;
    enum status ended = d->k->graph_end(d, &why);
    if (status || !ended) return status;
    log_notice("cuda_graphs: the GPU's work is queued piece by piece: %s", why.message);
    return queue(g, pass, b, e);
}
