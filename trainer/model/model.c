#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/rope.h"

/* --- parameters --- */

static enum status add_layer(struct model *m, int32_t layer, struct err *e)
{
    char name[PARAM_NAME_MAX];
    for (int w = 0; w < NUM_LAYER_WEIGHTS; w++) {
        struct weight_shape s = model_weight_shape(m->config, (enum layer_weight)w);
        m->layers[layer].at[w] = -1;
        if (!s.present) continue;
        model_weight_name(name, sizeof name, layer, (enum layer_weight)w);
        TRY(param_set_add(m->params, name, s.rows, s.cols, s.flags, &m->layers[layer].at[w], e));
    }
    return OK;
}

/* The projections of each slot: first weight, and how many are joined to it. */
static const struct slot_row {
    enum layer_weight first;
    int count;
} slot_rows[SLOTS_PER_LAYER] = {
    [SLOT_QKV] = {WEIGHT_Q, 3},
    [SLOT_O] = {WEIGHT_O, 1},
    [SLOT_GATE_UP] = {WEIGHT_GATE, 2},
    [SLOT_DOWN] = {WEIGHT_DOWN, 1},
};

static void make_slot(struct model *m, int32_t layer, int kind)
{
    const struct slot_row *row = &slot_rows[kind];
    struct linear_slot *s = &m->slots[layer * SLOTS_PER_LAYER + kind];
    *s = (struct linear_slot){.id = layer * SLOTS_PER_LAYER + kind, .num_parts = row->count};
    for (int i = 0, column = 0; i < row->count; i++) {
        const struct param *p = &m->params->params[m->layers[layer].at[row->first + i]];
        int path = (int)(strlen(p->name) - strlen(".weight"));
        snprintf(s->parts[i].path, SLOT_PATH_MAX, "%.*s", path, p->name);
        s->parts[i].first = column;
        s->parts[i].out = p->rows;
        s->parts[i].param = m->layers[layer].at[row->first + i];
        s->in = p->cols;
        column += p->rows;
    }
}

enum status model_create(struct model *m, const struct model_config *config,
                         struct param_set *params, struct err *e)
{
    size_t layers = (size_t)config->num_layers;
    *m = (struct model){.config = config, .params = params};
    m->layers = mem_calloc(layers, sizeof *m->layers);
    m->slots = mem_calloc(layers, SLOTS_PER_LAYER * sizeof *m->slots);
    if (!m->layers || !m->slots) return err_set(e, ERR_MEMORY, "no memory for %zu layers", layers);
    TRY(param_set_add(params, WEIGHT_EMBEDDING, config->vocab_size, config->hidden_size,
                      PARAM_EMBEDDING, &m->embedding, e));
    for (int32_t l = 0; l < config->num_layers; l++) {
        TRY(add_layer(m, l, e));
        for (int kind = 0; kind < SLOTS_PER_LAYER; kind++) make_slot(m, l, kind);
    }
    TRY(param_set_add(params, WEIGHT_FINAL_NORM, 1, config->hidden_size, PARAM_VECTOR,
                      &m->final_norm, e));
    m->head = m->embedding;
    if (!config->tied)
        TRY(param_set_add(params, WEIGHT_HEAD, config->vocab_size, config->hidden_size, 0, &m->head,
                          e));
    return OK;
}

void model_free(struct model *m)
{
    mem_free(m->layers);
    mem_free(m->slots);
    *m = (struct model){0};
}

int32_t model_num_slots(const struct model *m) { return m->config->num_layers * SLOTS_PER_LAYER; }

void model_place(struct model *m, int32_t positions, struct arena *arena)
{
    m->rope_positions = positions;
    m->rope_table =
        arena_take(arena, (size_t)positions * (size_t)m->config->head_dim * sizeof(float));
}

enum status model_fill_rope(struct model *m, struct device *d, struct err *e)
{
    size_t n = (size_t)m->rope_positions * (size_t)m->config->head_dim;
    float *freq = mem_calloc((size_t)m->config->head_dim, sizeof *freq);
    float *table = mem_calloc(n, sizeof *table);
    if (freq && table) {
        rope_frequencies(m->config, freq);
        rope_fill_table(m->config, m->rope_positions, freq, table);
        d->k->upload(d, m->rope_table, table, n * sizeof *table);
    }
    enum status s = freq && table ? OK : err_set(e, ERR_MEMORY, "no memory for the rotary table");
    mem_free(freq);
    mem_free(table);
    return s;
}

/* On the device; a master and its rounded copy are the same draw. */
static void fill_matrix(const struct model *m, const struct param *p, struct device *d,
                        uint64_t seed)
{
    struct rng_key key = rng_key(seed, RNG_INIT, hash_name(p->name));
    float std = (float)m->config->initializer_range;
    if (p->master) d->k->fill_normal(d, p->master, 1, p->n, key, 0, std);
    if (p->data != (void *)p->master) d->k->fill_normal(d, p->data, 0, p->n, key, 0, std);
}

enum status model_init_weights(struct model *m, struct device *d, uint64_t seed, struct err *e)
{
    size_t most = 0;
    for (int32_t i = 0; i < m->params->count; i++) {
        const struct param *p = &m->params->params[i];
        int here = p->flags & PARAM_VECTOR || !d->k->fill_normal;
        if (here && p->n > most) most = p->n;
    }
    float *values = mem_calloc(most, sizeof *values);
    if (!values) return err_set(e, ERR_MEMORY, "no memory to initialise %zu weights", most);
    for (int32_t i = 0; i < m->params->count; i++) {
        struct param *p = &m->params->params[i];
        if (p->flags & PARAM_FLOAT) continue; /* an adapter's */
        if (d->k->fill_normal && !(p->flags & PARAM_VECTOR)) {
            fill_matrix(m, p, d, seed);
            continue;
        }
        int is_bias = strstr(p->name, ".bias") != NULL;
        if (p->flags & PARAM_VECTOR)
            for (size_t k = 0; k < p->n; k++) values[k] = is_bias ? 0 : 1;
        else
            rng_fill_normal(rng_key(seed, RNG_INIT, hash_name(p->name)), values, (int64_t)p->n, 0,
                            (float)m->config->initializer_range);
        param_store(p, d, 0, p->n, values);
    }
    mem_free(values);
    return OK;
}

/* --- the recording --- */

struct recorder {
    const struct model *m;
    struct tape *t;
    const struct tokens *tokens;
    const struct model_call *call;
    int32_t layer;
};

/* Joined weights from `w` on, or NULL when the model has none. */
static struct tensor *weight(const struct recorder *r, enum layer_weight w, int32_t count)
{
    int32_t at = r->m->layers[r->layer].at[w];
    return at < 0 ? NULL : param_tensor(r->t, r->m->params, at, count);
}

static struct tensor *product(const struct recorder *r, int kind, struct tensor *x,
                              enum layer_weight bias, struct tensor *addend)
{
    const struct slot_row *row = &slot_rows[kind];
    struct tensor *y =
        op_linear(r->t, x, weight(r, row->first, row->count), weight(r, bias, row->count), addend);
    const struct slot_filler *f = r->call->filler;
    const struct linear_slot *slot = &r->m->slots[r->layer * SLOTS_PER_LAYER + kind];
    return f && y ? f->apply(f->context, r->t, slot, x, y) : y;
}

static struct tensor *head_norm(const struct recorder *r, struct tensor *x, enum layer_weight w,
                                int32_t heads)
{
    struct tensor *scale = weight(r, w, 1);
    return scale ? op_norm(r->t, x, scale, heads, (float)r->m->config->norm_eps) : x;
}

static struct tensor *attention(const struct recorder *r, struct tensor *x)
{
    const struct model_config *c = r->m->config;
    int32_t qd = c->num_heads * c->head_dim, kd = c->num_kv_heads * c->head_dim;
    struct attention_shape shape = {c->num_heads, c->num_kv_heads, c->head_dim,
                                    model_config_window(c, r->layer),
                                    1 / sqrtf((float)c->head_dim)};
    struct tensor *qkv = product(r, SLOT_QKV, x, WEIGHT_Q_BIAS, NULL);
    struct tensor *q = tape_view(r->t, qkv, 0, qd), *k = tape_view(r->t, qkv, qd, kd);
    struct tensor *v = tape_view(r->t, qkv, qd + kd, kd);
    q = head_norm(r, q, WEIGHT_Q_NORM, c->num_heads);
    k = head_norm(r, k, WEIGHT_K_NORM, c->num_kv_heads);
    q = op_rope(r->t, q, r->m->rope_table, r->tokens, c->num_heads);
    k = op_rope(r->t, k, r->m->rope_table, r->tokens, c->num_kv_heads);
    return op_attention(r->t, q, k, v, &shape, r->tokens,
                        r->call->caches ? &r->call->caches[r->layer] : NULL);
}

static struct tensor *feed_forward(const struct recorder *r, struct tensor *x)
{
    int32_t f = r->m->config->intermediate_size;
    struct tensor *both = product(r, SLOT_GATE_UP, x, WEIGHT_GATE_BIAS, NULL);
    return op_swiglu(r->t, tape_view(r->t, both, 0, f), tape_view(r->t, both, f, f));
}

enum recompute model_recompute_of(const struct model_recompute *r, int32_t layer)
{
    if (layer < r->offload) return RECOMPUTE_OFFLOAD;
    if (layer < r->offload + r->full) return RECOMPUTE_FULL;
    return layer < r->offload + r->full + r->selective ? RECOMPUTE_SELECTIVE : RECOMPUTE_NONE;
}

static struct tensor *block(const struct recorder *r, struct tensor *x)
{
    float eps = (float)r->m->config->norm_eps;
    tape_region_begin(r->t, model_recompute_of(&r->call->recompute, r->layer));
    struct tensor *h = op_norm(r->t, x, weight(r, WEIGHT_INPUT_NORM, 1), 1, eps);
    x = product(r, SLOT_O, attention(r, h), WEIGHT_O_BIAS, x);
    h = op_norm(r->t, x, weight(r, WEIGHT_MLP_NORM, 1), 1, eps);
    x = product(r, SLOT_DOWN, feed_forward(r, h), WEIGHT_DOWN_BIAS, x);
    tape_region_end(r->t);
    return x;
}

struct tensor *model_forward(const struct model *m, struct tape *t, const struct tokens *tokens,
                             const struct model_call *call)
{
    struct recorder r = {m, t, tokens, call, 0};
    struct tensor *table = param_tensor(t, m->params, m->embedding, 1), *rows = NULL;
    if (call->rows) rows = param_tensor(t, m->params, call->rows->embedding, 1);
    struct tensor *x = op_embedding_rows(t, table, rows, tokens);
    for (r.layer = 0; r.layer < m->config->num_layers; r.layer++) x = block(&r, x);
    return op_norm(t, x, param_tensor(t, m->params, m->final_norm, 1), 1,
                   (float)m->config->norm_eps);
}

struct tensor *model_head(const struct model *m, struct tape *t)
{
    return param_tensor(t, m->params, m->head, 1);
}

int32_t model_tape_nodes(const struct model_config *c)
{
    return 16 * c->num_layers +
           8; /* a block has at most 15: 4 products with adapters, 4 norms, ... */
}

double model_flops_per_token(const struct model_config *c)
{
    double in = c->hidden_size, q = (double)c->num_heads * c->head_dim;
    double k = (double)c->num_kv_heads * c->head_dim, f = c->intermediate_size;
    return 2 * c->num_layers * (in * (q + 2 * k) + q * in + 3 * in * f);
}
