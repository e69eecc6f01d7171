#include "run/engine_internal.h"

#include "adapter/lora.h"
#include "kernels/profile.h"

static void collect_scores(struct engine *g, const struct batch *b, const struct head_result *r,
                           struct engine_scores *out)
{
    size_t s = (size_t)engine_supervised(b);
    const struct kernels *k = g->device.k;
    profile_enter(&g->device, SCOPE_metrics, -1);
    k->download(&g->device, g->host_floats, r->logp->data, s * sizeof(float));
    k->download(&g->device, g->host_hits, r->hit->data, s);
    k->download(&g->device, g->host_stats, r->stats->data, (HEAD_SUM_P2 + 1) * s * sizeof(float));
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
    struct tokens tokens = engine_batch_tokens(g, b);
    engine_upload_batch(g, b);
    if (g->has_lora && backward)
        lora_set_dropout(&g->lora, rng_key(seed, RNG_DROPOUT, (uint64_t)step), &tokens);
    else if (g->has_lora)
        lora_clear_dropout(&g->lora);
    struct head_result r = engine_record(g, backward, &tokens, engine_supervised(b));
    TRY(tape_bind(g->tape, backward ? &g->train_plan : &g->eval_plan, g->step_base, g->scratch_base,
                  e));
    tape_forward(g->tape);
    g->scored = r.logp;
    collect_scores(g, b, &r, out);
    return g->device.k->sync(&g->device, e);
}

enum status engine_backward(struct engine *g, const struct batch *b, const float *dlogp,
                            struct err *e)
{
    engine_upload(g, g->on_device.dlogp, dlogp, b->S, sizeof(float));
    if (b->tail.supervised)
        g->device.k->zero(&g->device, g->on_device.dlogp + b->S,
                          (size_t)b->tail.supervised * sizeof(float));
    tape_backward(g->tape, g->scored, g->on_device.dlogp);
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
    struct tokens tokens = engine_batch_tokens(g, b);
    engine_upload_batch(g, b);
    if (g->has_lora) lora_clear_dropout(&g->lora);
    change_over(g);
    struct head_result r = engine_record_reference(g, &tokens, engine_supervised(b));
    enum status status = tape_bind(g->tape, &g->reference_plan, g->step_base, g->scratch_base, e);
    if (!status) {
        tape_forward(g->tape);
        g->device.k->download(&g->device, g->host_floats, r.logp->data,
                              (size_t)b->S * sizeof(float));
        status = g->device.k->sync(&g->device, e);
    }
    change_over(g);
    return status;
}
