#include "run/engine_internal.h"

#include "kernels/profile.h"

static void collect_scores(struct engine *g, const struct batch *b, const struct engine_results *r,
                           struct engine_scores *out)
{
    size_t s = (size_t)engine_supervised(b);
    const struct kernels *k = g->device.k;
    profile_enter(&g->device, SCOPE_metrics, -1);
    k->download(&g->device, g->host_floats, r->logp, s * sizeof(float));
    k->download(&g->device, g->host_hits, r->hit, s);
    k->download(&g->device, g->host_stats, r->stats, (HEAD_SUM_P2 + 1) * s * sizeof(float));
    *out = (struct engine_scores){.logp = g->host_floats,
                                  .hit = g->host_hits,
                                  .mean_logit = g->host_stats + HEAD_MEAN_LOGIT * s,
                                  .entropy = g->host_stats + HEAD_ENTROPY * s,
                                  .sum_p2 = g->host_stats + HEAD_SUM_P2 * s};
    profile_leave(&g->device);
}

enum status engine_score(struct engine *g, const struct batch *b, int backward, uint64_t seed,
                         int64_t step, struct engine_scores *out, struct err *e)
{
    enum engine_pass pass = backward ? ENGINE_SCORE : ENGINE_EVALUATE;
    engine_upload_batch(g, b);
    if (backward) engine_upload_dropout(g, seed, step);
    TRY(engine_pass(g, pass, b, e));
    collect_scores(g, b, &g->results[pass], out);
    return g->device.k->sync(&g->device, e);
}

enum status engine_backward(struct engine *g, const struct batch *b, const float *dlogp,
                            struct err *e)
{
    engine_upload(g, g->on_device.dlogp, dlogp, b->S, sizeof(float));
    if (b->tail.supervised)
        g->device.k->zero(&g->device, g->on_device.dlogp + b->S,
                          (size_t)b->tail.supervised * sizeof(float));
    TRY(engine_pass(g, ENGINE_BACKWARD, b, e));
    return g->device.k->sync(&g->device, e);
}

/* The copies into use, or out of it again: pointers that others hold, and the tables' rows. */
static void change_over(struct engine *g)
{
    frozen_swap(&g->reference);
    if (g->has_lora) lora_bind(&g->lora);
    if (g->options.reference != ENGINE_REFERENCE_MODEL) engine_refresh(g);
}

void engine_keep_reference(struct engine *g) { frozen_keep(&g->reference, &g->device); }

enum status engine_reference(struct engine *g, const struct batch *b, struct err *e)
{
    engine_upload_batch(g, b);
    change_over(g);
    enum status status = engine_pass(g, ENGINE_REFER, b, e);
    if (!status) {
        g->device.k->download(&g->device, g->host_floats, g->results[ENGINE_REFER].logp,
                              (size_t)b->S * sizeof(float));
        status = g->device.k->sync(&g->device, e);
    }
    change_over(g);
    return status;
}
