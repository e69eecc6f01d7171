#include "run/engine_internal.h"

#include <assert.h>
#include <string.h>

#include "kernels/profile.h"

static void collect(struct engine *g, const struct batch *b, struct cross_entropy_sums *sums)
{
    const struct engine_results *r = &g->results[ENGINE_EVALUATE];
    size_t s = (size_t)b->S;
    profile_enter(&g->device, SCOPE_metrics, -1);
    g->device.k->download(&g->device, g->host_floats, r->logp, s * sizeof(float));
    g->device.k->download(&g->device, g->host_hits, r->hit, s);
    cross_entropy_add(sums, g->options.reduction, g->host_floats, g->host_hits, NULL, b->weights,
                      b->S);
    profile_leave(&g->device);
}

/* --- training: begun and ended --- */

/* The loader's arrays are the next micro-batch's soon, unless this one ends first. */
static void keep_batch(const struct engine *g, struct engine_numbers *n, const struct batch *b)
{
    if (!g->device.k->answer_begin) {
        n->batch = *b;
        return;
    }
    memcpy(n->documents, b->documents, (size_t)b->N * sizeof *n->documents);
    memcpy(n->keys, b->keys, (size_t)b->N * sizeof *n->keys);
    memcpy(n->rows, b->rows, (size_t)b->S * sizeof *n->rows);
    memcpy(n->weights, b->weights, (size_t)b->S * sizeof *n->weights);
    n->batch = (struct batch){.N = b->N,
                              .S = b->S,
                              .documents = n->documents,
                              .keys = n->keys,
                              .rows = n->rows,
                              .weights = n->weights};
}

/* Slots of the device's answers: two a micro-batch, which alternate. */
static int answer_slot(const struct engine_numbers *n, const struct engine *g)
{
    return 2 * (int)(n - g->numbers);
}

/* Lets the numbers come, or takes them where a device has computed when its entries return. */
static void ask_numbers(struct engine *g, struct engine_numbers *n)
{
    const struct engine_results *r = &g->results[ENGINE_TRAIN];
    struct device *d = &g->device;
    size_t s = (size_t)n->batch.S;
    int slot = answer_slot(n, g);
    profile_enter(d, SCOPE_metrics, -1);
    if (d->k->answer_begin) {
        d->k->answer_begin(d, slot, r->logp, s * sizeof(float));
        d->k->answer_begin(d, slot + 1, r->hit, s);
    } else {
        d->k->download(d, g->host_floats, r->logp, s * sizeof *g->host_floats);
        d->k->download(d, g->host_hits, r->hit, s);
    }
    profile_leave(d);
}

enum status engine_train_begin(struct engine *g, const struct batch *b, uint64_t seed, int64_t step,
                               struct err *e)
{
    struct engine_numbers *n = &g->numbers[(g->ended + g->begun) % 2];
    assert(g->begun < (g->device.k->answer_begin ? 2 : 1));
    engine_upload_batch(g, b);
    engine_upload_dropout(g, seed, step);
    cross_entropy_seed(g->options.reduction, b->weights, engine_supervised(b), g->host_floats);
    engine_upload(g, g->on_device.dlogp, g->host_floats, engine_supervised(b), sizeof(float));
    TRY(engine_pass(g, ENGINE_TRAIN, b, e));
    keep_batch(g, n, b);
    ask_numbers(g, n);
    g->begun++;
    return OK;
}

void engine_train_end(struct engine *g, struct cross_entropy_sums *sums, struct batch *of)
{
    struct device *d = &g->device;
    struct engine_numbers *n = &g->numbers[g->ended];
    size_t s = (size_t)n->batch.S;
    int slot = answer_slot(n, g);
    assert(g->begun > 0);
    profile_enter(d, SCOPE_metrics, -1);
    if (d->k->answer_end) {
        d->k->answer_end(d, slot, g->host_floats, s * sizeof *g->host_floats);
        d->k->answer_end(d, slot + 1, g->host_hits, s);
    }
    cross_entropy_add(sums, g->options.reduction, g->host_floats, g->host_hits, NULL,
                      n->batch.weights, n->batch.S);
    profile_leave(d);
    if (of) *of = n->batch;
    g->ended = (g->ended + 1) % 2;
    g->begun--;
}

enum status engine_train(struct engine *g, const struct batch *b, uint64_t seed, int64_t step,
                         struct cross_entropy_sums *sums, struct err *e)
{
    TRY(engine_train_begin(g, b, seed, step, e));
    engine_train_end(g, sums, NULL);
    return g->device.k->sync(&g->device, e);
}

enum status engine_evaluate(struct engine *g, const struct batch *b,
                            struct cross_entropy_sums *sums, struct err *e)
{
    engine_upload_batch(g, b);
    TRY(engine_pass(g, ENGINE_EVALUATE, b, e));
    collect(g, b, sums);
    return g->device.k->sync(&g->device, e);
}
