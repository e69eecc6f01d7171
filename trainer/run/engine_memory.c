#include "run/engine_internal.h"

#include "base/mem.h"
#include "base/size.h"

#define LEAST_FOR_GRAPHS ((size_t)64 << 20)

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
    if (g->options.train && g->has_lora && g->lora.options.dropout > 0)
        g->on_device.dropout = take(arena, 1, sizeof(struct rng_key));
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
    struct tokens tokens = engine_device_tokens(g, most.max_rows, most.max_segments);
    if (!g->options.reference) return OK;
    engine_record_reference(g, &tokens, most.max_supervised);
    return plan_one(g, &g->reference_plan, e);
}

static enum status plan_train(struct engine *g, struct err *e)
{
    const struct loader_limits *t = &g->options.train_limits;
    struct tokens tokens = engine_device_tokens(g, t->max_rows, t->max_segments);
    if (!g->options.train) return OK;
    if (g->has_lora) lora_set_dropout(&g->lora, g->on_device.dropout, &tokens);
    engine_record(g, 1, &tokens, t->max_supervised);
    if (g->has_lora) lora_clear_dropout(&g->lora);
    TRY(plan_one(g, &g->train_plan, e));
    g->memory.scratch = size_max(g->memory.scratch, optimizer_scratch(&g->device, &g->params));
    return OK;
}

static enum status plan_all(struct engine *g, struct err *e)
{
    const struct loader_limits *v = &g->options.eval_limits;
    if (v->max_rows) {
        struct tokens tokens = engine_device_tokens(g, v->max_rows, v->max_segments);
        engine_record(g, 0, &tokens, v->max_supervised);
        TRY(plan_one(g, &g->eval_plan, e));
    }
    TRY(plan_reference(g, e));
    if (g->options.cache_rows) {
        struct tokens tokens = engine_device_tokens(g, g->options.decode_rows, 1);
        for (int32_t l = 0; l < g->options.config->num_layers; l++)
            g->caches[l].length = 1; /* rows before these: what they need of scratch differs */
        engine_record_decode(g, &tokens);
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

size_t engine_graph_bytes(const struct engine *g)
{
    const struct engine_memory *m = &g->memory;
    if (!g->options.graphs || !g->device.k->graph_begin) return 0;
    return size_max(LEAST_FOR_GRAPHS, (m->run + m->step + m->scratch) / 200);
}

enum status engine_allocate(struct engine *g, struct err *e)
{
    struct arena arena;
    if (!g->memory.run) TRY(engine_measure(g, e));
    g->device.graphs = engine_graph_bytes(g);
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
