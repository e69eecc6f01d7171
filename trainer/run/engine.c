#include "run/engine.h"

#include <string.h>

#include "adapter/saved.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/profile.h"

/* --- describing --- */

static enum status add_adapter(struct engine *g, const struct lora_options *o, struct err *e)
{
    const struct model *m = &g->model;
    g->has_lora = 1;
    TRY(saved_mark(&g->params, m->head, o->saved, o->num_saved, e));
    TRY(lora_create(&g->lora, m->slots, model_num_slots(m), o, &g->params, e));
    if (!o->num_tokens) return OK;
    unsigned both = g->params.params[m->embedding].flags | g->params.params[m->head].flags;
    if (both & PARAM_SAVED) {
        err_set(e, ERR_CONFIG,
                "trainable_tokens and modules_to_save both train the embedding or "
                "the head");
        return err_hint(e, "keep one of them");
    }
    int32_t head = o->embedding_alone && m->head != m->embedding ? -1 : m->head;
    return rows_create(&g->rows, &g->params, m->embedding, head, o->tokens, o->num_tokens, e);
}

static void set_trainable(struct engine *g)
{
    for (int32_t i = 0; i < g->params.count; i++) {
        struct param *p = &g->params.params[i];
        int of_adapter = (p->flags & (PARAM_FLOAT | PARAM_SAVED)) != 0;
        p->trainable = g->options.train && of_adapter == g->has_lora;
    }
}

/* Which parameters the reference has values of its own for. */
static int differs(const void *context, const struct param *p)
{
    const struct engine *g = context;
    int of_adapter = (p->flags & PARAM_FLOAT) != 0, saved = (p->flags & PARAM_SAVED) != 0;
    if (g->options.reference_in_place) return 0;
    switch (g->options.reference) {
    case ENGINE_NO_REFERENCE: break;
    case ENGINE_REFERENCE_BASE: return saved || (of_adapter && strstr(p->name, ROWS_SUFFIX));
    case ENGINE_REFERENCE_ADAPTER: return saved || of_adapter;
    case ENGINE_REFERENCE_MODEL: return !of_adapter;
    }
    return 0;
}

static enum status open_device(struct engine *g, struct err *e)
{
    const struct engine_options *o = &g->options;
    struct err why;
    if (!strcmp(o->device, "auto")) {
        TRY(device_open_best(&g->device, o->fp32, o->threads, &why, e));
        if (why.code && o->train) log_notice("computing on the CPU: %s", why.message);
        return OK;
    }
    if (o->fp32) return device_open_type(&g->device, o->device, DTYPE_F32, o->threads, e);
    return device_open(&g->device, o->device, o->threads, e);
}

enum status engine_describe(struct engine *g, const struct engine_options *o, struct err *e)
{
    *g = (struct engine){.options = *o};
    TRY(open_device(g, e));
    TRY(model_create(&g->model, o->config, &g->params, e));
    if (o->lora) TRY(add_adapter(g, o->lora, e));
    set_trainable(g);
    g->params.moments = !o->train         ? PARAM_NO_MOMENTS
                        : o->moments_8bit ? PARAM_MOMENTS_8BIT
                                          : PARAM_MOMENTS_FP32;
    g->params.no_masters = o->no_masters;
    TRY(frozen_create(&g->reference, &g->params, differs, g, e));
    return tape_create(&g->tape, &g->device, model_tape_nodes(o->config), e);
}

static void numbers_free(struct engine_numbers *n)
{
    mem_free(n->weights);
    mem_free(n->rows);
    mem_free(n->documents);
    mem_free(n->keys);
}

void engine_free(struct engine *g)
{
    if (g->device.k) {
        g->device.k->release(&g->device, g->run_base, g->memory.run);
        g->device.k->release(&g->device, g->step_base, g->memory.step);
        g->device.k->release(&g->device, g->scratch_base, g->memory.scratch);
        if (g->host_base) g->device.k->host_release(&g->device, g->host_base, g->memory.host);
    }
    tape_plan_free(&g->train_plan);
    tape_plan_free(&g->eval_plan);
    tape_plan_free(&g->reference_plan);
    tape_plan_free(&g->decode_plan);
    tape_destroy(g->tape);
    lora_free(&g->lora);
    rows_free(&g->rows);
    frozen_free(&g->reference);
    model_free(&g->model);
    param_set_free(&g->params);
    mem_free(g->caches);
    mem_free(g->cached);
    mem_free(g->host_floats);
    mem_free(g->host_hits);
    mem_free(g->host_stats);
    mem_free(g->host_slots);
    for (int i = 0; i < 2; i++) numbers_free(&g->numbers[i]);
    device_close(&g->device);
    *g = (struct engine){0};
}

/* --- updates --- */

enum status engine_update(struct engine *g, const struct adamw_options *o, double lr, int64_t t,
                          double divisor, double *grad_norm, struct err *e)
{
    profile_enter(&g->device, SCOPE_optimiser, -1);
    enum status status =
        optimizer_step(&g->device, &g->params, o, lr, t, divisor, g->scratch_base, grad_norm, e);
    if (!status) {
        optimizer_clear_gradients(&g->device, &g->params);
        engine_refresh(g);
    }
    profile_leave(&g->device);
    return status;
}

void engine_refresh(struct engine *g)
{
    if (g->rows.rows.count) rows_apply(&g->rows, &g->device);
}

void engine_drop(struct engine *g) { optimizer_clear_gradients(&g->device, &g->params); }

/* --- what it costs --- */

struct engine_work engine_work(const struct engine *g, const struct batch *b)
{
    const struct model_config *c = g->options.config;
    struct engine_work w = {.rows = b->N, .supervised = b->S};
    for (int32_t l = 0; l < c->num_layers; l++)
        w.pairs += segment_pairs(b->segments, b->num_segments, model_config_window(c, l));
    return w;
}

/* Of one product by the scores, in all heads. */
static double attention_flops(const struct engine *g, const struct engine_work *w)
{
    const struct model_config *c = g->options.config;
    return 2.0 * w->pairs * c->num_heads * c->head_dim;
}

static double product_flops(const struct engine *g, const struct engine_work *w)
{
    const struct model_config *c = g->options.config;
    return model_flops_per_token(c) * w->rows +
           2.0 * c->hidden_size * c->vocab_size * w->supervised;
}

double engine_forward_flops(const struct engine *g, const struct engine_work *w)
{
    return product_flops(g, w) + 2 * attention_flops(g, w); /* scores, and values by them */
}

double engine_train_flops(const struct engine *g, const struct engine_work *w)
{
    int products = g->has_lora ? 2 : 3; /* forward, by the input, by the weight */
    /* backward has the scores again, their gradient, and those of queries, keys and values */
    return products * product_flops(g, w) + 7 * attention_flops(g, w);
}
