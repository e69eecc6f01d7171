#include "run/engine.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "adapter/saved.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
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

/* --- memory --- */

static int32_t max32(int32_t a, int32_t b) { return a > b ? a : b; }

static struct loader_limits both_limits(const struct engine *g)
{
    const struct loader_limits *a = &g->options.train_limits, *b = &g->options.eval_limits;
    struct loader_limits most = *a;
    if (b->max_rows > most.max_rows) most.max_rows = b->max_rows;
    if (b->max_supervised > most.max_supervised) most.max_supervised = b->max_supervised;
    if (b->max_segments > most.max_segments) most.max_segments = b->max_segments;
    if (g->options.decode_rows > most.max_rows) most.max_rows = g->options.decode_rows;
    if (most.max_segments < 1) most.max_segments = 1;
    return most;
}

static void *take(struct arena *a, int64_t count, size_t each)
{
    return arena_take(a, (size_t)count * each);
}

static void place_batch(struct engine *g, struct arena *arena)
{
    struct loader_limits most = both_limits(g);
    g->on_device = (struct engine_batch){
        .ids = take(arena, most.max_rows, sizeof(int32_t)),
        .positions = take(arena, most.max_rows, sizeof(int32_t)),
        .documents = take(arena, most.max_rows, sizeof(int32_t)),
        .rows = take(arena, most.max_supervised, sizeof(int32_t)),
        .targets = take(arena, most.max_supervised, sizeof(int32_t)),
        .dlogp = take(arena, most.max_supervised, sizeof(float)),
        .segments = take(arena, most.max_segments, sizeof(struct segment)),
    };
}

static void place_caches(struct engine *g, struct arena *arena)
{
    const struct model_config *c = g->options.config;
    int64_t n = (int64_t)g->options.cache_rows * c->num_kv_heads * c->head_dim;
    for (int32_t l = 0; l < c->num_layers; l++) {
        g->caches[l].k = take(arena, n, dtype_size(g->device.type));
        g->caches[l].v = take(arena, n, dtype_size(g->device.type));
    }
    g->logits = take(arena, c->vocab_size, dtype_size(g->device.type));
    if (g->device.k->sample) g->drawn = take(arena, 1, sizeof *g->drawn);
}

/* Everything of the run arena, in one order whether measuring or placing. */
static void place_run(struct engine *g, struct arena *arena)
{
    param_set_place(&g->params, &g->device, arena);
    frozen_place(&g->reference, &g->device, arena);
    model_place(&g->model, g->options.positions, arena);
    place_batch(g, arena);
    if (g->options.cache_rows) place_caches(g, arena);
    if (g->has_lora) lora_bind(&g->lora);
    if (g->rows.rows.count) {
        rows_place(&g->rows, arena);
        g->on_device.slots = take(arena, both_limits(g).max_rows, sizeof(int32_t));
    }
}

static struct tokens device_tokens(const struct engine *g, int32_t rows, int32_t segments)
{
    return (struct tokens){rows,
                           g->on_device.ids,
                           g->on_device.positions,
                           g->on_device.documents,
                           g->on_device.segments,
                           segments,
                           g->on_device.slots,
                           0};
}

static struct tokens batch_tokens(const struct engine *g, const struct batch *b)
{
    struct tokens tokens = device_tokens(g, b->N, b->num_segments);
    tokens.longest = segments_longest(b->segments, b->num_segments);
    return tokens;
}

static const struct param_rows *trained_rows(const struct engine *g)
{
    return g->rows.rows.count && g->options.train ? &g->rows.rows : NULL;
}

/* Records a training or evaluation micro-batch of this size. */
static struct head_result record(struct engine *g, int backward, const struct tokens *tokens,
                                 int32_t supervised)
{
    struct slot_filler filler = g->has_lora ? lora_filler(&g->lora) : (struct slot_filler){0};
    struct model_call call = {.recompute = g->options.recompute,
                              .filler = g->has_lora ? &filler : NULL,
                              .rows = trained_rows(g)};
    struct head_request request = {.S = supervised,
                                   .rows = g->on_device.rows,
                                   .targets = g->on_device.targets,
                                   .dlogp =
                                       backward && !g->options.pairs ? g->on_device.dlogp : NULL,
                                   .want_spread = g->options.pairs};
    tape_reset(g->tape, backward);
    if (call.rows) {
        request.trained = param_tensor(g->tape, &g->params, call.rows->head, 1);
        request.trained_rows = call.rows->ids;
    }
    struct tensor *hidden = model_forward(&g->model, g->tape, tokens, &call);
    return op_head(g->tape, hidden, model_head(&g->model, g->tape), &request);
}

/* Records the reference's forward. The copies must be in use. */
static struct head_result record_reference(struct engine *g, const struct tokens *tokens,
                                           int32_t supervised)
{
    int adapted = g->options.reference == ENGINE_REFERENCE_ADAPTER;
    struct slot_filler filler = adapted ? lora_filler(&g->lora) : (struct slot_filler){0};
    struct model_call call = {.filler = adapted ? &filler : NULL};
    struct head_request request = {
        .S = supervised, .rows = g->on_device.rows, .targets = g->on_device.targets};
    tape_reset(g->tape, 0);
    struct tensor *hidden = model_forward(&g->model, g->tape, tokens, &call);
    return op_head(g->tape, hidden, model_head(&g->model, g->tape), &request);
}

static struct tensor *record_decode(struct engine *g, const struct tokens *tokens)
{
    struct slot_filler filler = g->has_lora ? lora_filler(&g->lora) : (struct slot_filler){0};
    struct model_call call = {.filler = g->has_lora ? &filler : NULL, .caches = g->caches};
    tape_reset(g->tape, 0);
    return tape_keep(model_forward(&g->model, g->tape, tokens, &call));
}

static enum status plan_one(struct engine *g, struct tape_plan *plan, struct err *e)
{
    TRY(tape_plan(g->tape, plan, e));
    g->memory.step = size_max(g->memory.step, plan->step_bytes);
    g->memory.scratch = size_max(g->memory.scratch, plan->scratch_bytes);
    g->memory.host = size_max(g->memory.host, plan->host_bytes);
    return OK;
}

static enum status plan_reference(struct engine *g, struct err *e)
{
    struct loader_limits most = both_limits(g);
    struct tokens tokens = device_tokens(g, most.max_rows, most.max_segments);
    if (!g->options.reference) return OK;
    record_reference(g, &tokens, most.max_supervised);
    return plan_one(g, &g->reference_plan, e);
}

static enum status plan_train(struct engine *g, struct err *e)
{
    const struct loader_limits *t = &g->options.train_limits;
    struct tokens tokens = device_tokens(g, t->max_rows, t->max_segments);
    if (!g->options.train) return OK;
    if (g->has_lora) lora_set_dropout(&g->lora, (struct rng_key){0}, &tokens);
    record(g, 1, &tokens, t->max_supervised);
    if (g->has_lora) lora_clear_dropout(&g->lora);
    TRY(plan_one(g, &g->train_plan, e));
    g->memory.scratch = size_max(g->memory.scratch, optimizer_scratch(&g->device, &g->params));
    return OK;
}

static enum status plan_all(struct engine *g, struct err *e)
{
    const struct loader_limits *v = &g->options.eval_limits;
    if (v->max_rows) {
        struct tokens tokens = device_tokens(g, v->max_rows, v->max_segments);
        record(g, 0, &tokens, v->max_supervised);
        TRY(plan_one(g, &g->eval_plan, e));
    }
    TRY(plan_reference(g, e));
    if (g->options.cache_rows) {
        struct tokens tokens = device_tokens(g, g->options.decode_rows, 1);
        for (int32_t l = 0; l < g->options.config->num_layers; l++)
            g->caches[l].length = 1; /* rows before these: what they need of scratch differs */
        record_decode(g, &tokens);
        TRY(plan_one(g, &g->decode_plan, e));
    }
    g->untrained = g->memory;
    return plan_train(g, e);
}

enum status engine_set_recompute(struct engine *g, const struct model_recompute *r, struct err *e)
{
    g->options.recompute = *r;
    g->memory = g->untrained;
    return plan_train(g, e);
}

static enum status take_arena(struct engine *g, size_t bytes, const char *name, void **out,
                              struct err *e)
{
    enum status s = bytes ? g->device.k->alloc(&g->device, bytes, out, e) : OK;
    if (s) return err_wrap(e, "the %s arena of %zu bytes", name, bytes);
    return OK;
}

size_t engine_host_bytes(const struct engine *g)
{
    struct loader_limits most = both_limits(g);
    const struct loader_limits *t = &g->options.train_limits;
    size_t rows = (size_t)most.max_rows, supervised = (size_t)most.max_supervised;
    size_t stats = g->options.pairs ? (HEAD_SUM_P2 + 1) * sizeof(float) : 0;
    size_t bytes = supervised * (2 * sizeof(float) + 1 + stats) + rows * sizeof(int32_t);
    if (g->options.train && !g->options.pairs && g->device.k->answer_begin) /* numbers, twice */
        bytes += 2 * ((size_t)t->max_supervised * (sizeof(float) + sizeof(int32_t)) +
                      (size_t)t->max_rows * 2 * sizeof(int32_t));
    return bytes;
}

static enum status numbers_create(struct engine *g, struct err *e)
{
    const struct loader_limits *t = &g->options.train_limits;
    size_t rows = (size_t)t->max_rows + 1, supervised = (size_t)t->max_supervised + 1;
    int wanted = g->options.train && !g->options.pairs && g->device.k->answer_begin;
    for (int i = 0; i < 2 && wanted; i++) {
        struct engine_numbers *n = &g->numbers[i];
        n->weights = mem_calloc(supervised, sizeof *n->weights);
        n->rows = mem_calloc(supervised, sizeof *n->rows);
        n->documents = mem_calloc(rows, sizeof *n->documents);
        n->keys = mem_calloc(rows, sizeof *n->keys);
        if (!n->weights || !n->rows || !n->documents || !n->keys)
            return err_set(e, ERR_MEMORY, "no memory for a micro-batch's results");
    }
    return OK;
}

static void numbers_free(struct engine_numbers *n)
{
    mem_free(n->weights);
    mem_free(n->rows);
    mem_free(n->documents);
    mem_free(n->keys);
}

enum status engine_measure(struct engine *g, struct err *e)
{
    struct arena arena;
    struct loader_limits most = both_limits(g);
    g->caches = mem_calloc((size_t)g->options.config->num_layers, sizeof *g->caches);
    g->host_floats = mem_calloc((size_t)most.max_supervised + 1, 2 * sizeof(float));
    g->host_hits = mem_calloc((size_t)most.max_supervised + 1, 1);
    g->host_stats = mem_calloc(g->options.pairs ? (size_t)most.max_supervised + 1 : 1,
                               (HEAD_SUM_P2 + 1) * sizeof(float));
    g->cached = mem_calloc((size_t)g->options.cache_rows + 1, sizeof *g->cached);
    g->host_slots = mem_calloc((size_t)most.max_rows + 1, sizeof *g->host_slots);
    if (!g->caches || !g->host_floats || !g->host_hits || !g->host_stats || !g->cached ||
        !g->host_slots)
        return err_set(e, ERR_MEMORY, "no memory for a micro-batch's results");
    TRY(numbers_create(g, e));
    arena_measure(&arena);
    place_run(g, &arena);
    g->memory = (struct engine_memory){.run = arena.used};
    return plan_all(g, e);
}

enum status engine_allocate(struct engine *g, struct err *e)
{
    struct arena arena;
    if (!g->memory.run) TRY(engine_measure(g, e));
    TRY(take_arena(g, g->memory.run, "run", &g->run_base, e));
    TRY(take_arena(g, g->memory.step, "step", &g->step_base, e));
    TRY(take_arena(g, g->memory.scratch, "scratch", &g->scratch_base, e));
    if (g->memory.host) TRY(g->device.k->host_alloc(&g->device, g->memory.host, &g->host_base, e));
    tape_set_host(g->tape, g->host_base);
    arena_over(&arena, g->run_base, g->memory.run);
    place_run(g, &arena);
    if (g->rows.rows.count) rows_upload(&g->rows, &g->device);
    return model_fill_rope(&g->model, &g->device, e);
}

enum status engine_touch_products(const struct engine *g, struct device *d, struct err *e)
{
    const struct model_config *c = g->options.config;
    struct loader_limits most = both_limits(g);
    int32_t queries = c->num_heads * c->head_dim, keys = c->num_kv_heads * c->head_dim;
    int32_t in = max32(c->hidden_size, max32(queries, c->intermediate_size));
    int32_t out = max32(queries + 2 * keys, max32(c->hidden_size, 2 * c->intermediate_size));
    int weight = g->options.train && !g->has_lora;
    TRY(device_touch_products(d, most.max_rows, in, out, weight, e));
    weight |= g->params.params[g->model.head].trainable;
    float any; /* stands for the gradient that a trained head takes in its pass */
    struct kern_head head = {.S = most.max_supervised,
                             .V = c->vocab_size,
                             .C = c->hidden_size,
                             .dw = weight ? &any : NULL};
    struct kern_head_cut cut = d->k->head_cut(d, &head);
    return device_touch_products(d, cut.rows, c->hidden_size, cut.words, weight, e);
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

/* --- micro-batches --- */

static void upload(struct engine *g, void *to, const void *from, int64_t count, size_t each)
{
    if (count) g->device.k->upload(&g->device, to, from, (size_t)count * each);
}

static void upload_batch(struct engine *g, const struct batch *b)
{
    const struct engine_batch *d = &g->on_device;
    profile_segments(&g->device, b->segments, b->num_segments);
    profile_enter(&g->device, SCOPE_upload, -1);
    upload(g, d->ids, b->ids, b->N, sizeof *d->ids);
    upload(g, d->positions, b->positions, b->N, sizeof *d->positions);
    upload(g, d->documents, b->keys, b->N, sizeof *d->documents);
    upload(g, d->rows, b->rows, b->S, sizeof *d->rows);
    upload(g, d->targets, b->targets, b->S, sizeof *d->targets);
    upload(g, d->segments, b->segments, b->num_segments, sizeof *d->segments);
    if (d->slots) {
        rows_find(&g->rows, b->ids, b->N, g->host_slots);
        upload(g, d->slots, g->host_slots, b->N, sizeof *d->slots);
    }
    profile_leave(&g->device);
}

static void collect(struct engine *g, const struct batch *b, const struct head_result *r,
                    struct cross_entropy_sums *sums)
{
    size_t s = (size_t)b->S;
    profile_enter(&g->device, SCOPE_metrics, -1);
    g->device.k->download(&g->device, g->host_floats, r->logp->data, s * sizeof(float));
    g->device.k->download(&g->device, g->host_hits, r->hit->data, s);
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
static void ask_numbers(struct engine *g, struct engine_numbers *n, const struct head_result *r)
{
    struct device *d = &g->device;
    size_t s = (size_t)n->batch.S;
    int slot = answer_slot(n, g);
    profile_enter(d, SCOPE_metrics, -1);
    if (d->k->answer_begin) {
        d->k->answer_begin(d, slot, r->logp->data, s * sizeof(float));
        d->k->answer_begin(d, slot + 1, r->hit->data, s);
    } else {
        d->k->download(d, g->host_floats, r->logp->data, s * sizeof *g->host_floats);
        d->k->download(d, g->host_hits, r->hit->data, s);
    }
    profile_leave(d);
}

enum status engine_train_begin(struct engine *g, const struct batch *b, uint64_t seed, int64_t step,
                               struct err *e)
{
    struct tokens tokens = batch_tokens(g, b);
    struct engine_numbers *n = &g->numbers[(g->ended + g->begun) % 2];
    assert(g->begun < (g->device.k->answer_begin ? 2 : 1));
    upload_batch(g, b);
    cross_entropy_seed(g->options.reduction, b->weights, b->S, g->host_floats);
    upload(g, g->on_device.dlogp, g->host_floats, b->S, sizeof(float));
    if (g->has_lora)
        lora_set_dropout(&g->lora, rng_key(seed, RNG_DROPOUT, (uint64_t)step), &tokens);
    double began = profile_begin(&g->device);
    struct head_result r = record(g, 1, &tokens, b->S);
    TRY(tape_bind(g->tape, &g->train_plan, g->step_base, g->scratch_base, e));
    profile_end(&g->device, PROFILE_record, began);
    keep_batch(g, n, b);
    tape_forward(g->tape);
    tape_backward(g->tape, r.logp, g->on_device.dlogp);
    ask_numbers(g, n, &r);
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
    struct tokens tokens = batch_tokens(g, b);
    upload_batch(g, b);
    if (g->has_lora) lora_clear_dropout(&g->lora);
    struct head_result r = record(g, 0, &tokens, b->S);
    TRY(tape_bind(g->tape, &g->eval_plan, g->step_base, g->scratch_base, e));
    tape_forward(g->tape);
    collect(g, b, &r, sums);
    return g->device.k->sync(&g->device, e);
}

/* --- preferences --- */

static void collect_scores(struct engine *g, const struct batch *b, const struct head_result *r,
                           struct engine_scores *out)
{
    size_t s = (size_t)b->S;
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
    struct tokens tokens = batch_tokens(g, b);
    upload_batch(g, b);
    if (g->has_lora && backward)
        lora_set_dropout(&g->lora, rng_key(seed, RNG_DROPOUT, (uint64_t)step), &tokens);
    else if (g->has_lora)
        lora_clear_dropout(&g->lora);
    struct head_result r = record(g, backward, &tokens, b->S);
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
    upload(g, g->on_device.dlogp, dlogp, b->S, sizeof(float));
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
    struct tokens tokens = batch_tokens(g, b);
    upload_batch(g, b);
    if (g->has_lora) lora_clear_dropout(&g->lora);
    change_over(g);
    struct head_result r = record_reference(g, &tokens, b->S);
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

/* --- decoding --- */

void engine_decode_reset(struct engine *g) { g->cache_length = 0; }

int32_t engine_decode_keep(struct engine *g, const int32_t *ids, int32_t n)
{
    int32_t same = 0;
    while (same < n && same < g->cache_length && g->cached[same] == ids[same]) same++;
    g->cache_length = same;
    return same;
}

enum status engine_decode(struct engine *g, const int32_t *ids, int32_t n, float *logits,
                          struct err *e)
{
    int32_t done = g->cache_length;
    const struct model_config *c = g->options.config;
    if (n < 1 || n > g->options.decode_rows || done + n > g->options.cache_rows)
        return err_set(e, ERR_SHAPE, "%d tokens behind %d: the cache holds %d", (int)n, (int)done,
                       (int)g->options.cache_rows);
    struct segment segment = {.start = done, .length = n, .position = done, .prefix_length = done};
    upload(g, g->on_device.ids, ids, n, sizeof *ids);
    upload(g, g->on_device.segments, &segment, 1, sizeof segment);
    for (int32_t i = 0; i < n; i++) {
        int32_t position = done + i;
        upload(g, g->on_device.positions + i, &position, 1, sizeof position);
    }
    for (int32_t l = 0; l < c->num_layers; l++) g->caches[l].length = done;
    if (g->has_lora) lora_clear_dropout(&g->lora);
    struct tokens tokens = device_tokens(g, n, 1);
    struct tensor *hidden = record_decode(g, &tokens);
    TRY(tape_bind(g->tape, &g->decode_plan, g->step_base, g->scratch_base, e));
    tape_forward(g->tape);
    size_t last = (size_t)(n - 1) * (size_t)hidden->ld * dtype_size(g->device.type);
    const struct param *head = &g->params.params[g->model.head];
    g->device.k->linear_forward(&g->device, g->logits, (const char *)hidden->data + last,
                                head->data, NULL, NULL, 1, c->hidden_size, c->vocab_size,
                                c->vocab_size, c->hidden_size, 0);
    if (logits) g->device.k->download_floats(&g->device, logits, g->logits, (size_t)c->vocab_size);
    memcpy(g->cached + done, ids, (size_t)n * sizeof *ids);
    g->cache_length = done + n;
    return logits ? g->device.k->sync(&g->device, e) : OK;
}

enum status engine_draw(struct engine *g, const struct kern_sample *how, int32_t *id, struct err *e)
{
    struct device *d = &g->device;
    if (!d->k->sample) return err_set(e, ERR_UNSUPPORTED, "%s does not sample", d->k->name);
    d->k->sample(d, g->drawn, g->logits, g->options.config->vocab_size, how);
    d->k->download(d, id, g->drawn, sizeof *id);
    return d->k->sync(d, e);
}

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
