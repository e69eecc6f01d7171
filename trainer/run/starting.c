#include "run/starting.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "run/weights.h"

#define ADAPTER_FILE "adapter_model.safetensors"
#define PRECISION "fp32"

static const char no_adapter[] = "base";

static int has_reference(const struct session *s)
{
    return s->aligns && preference_needs(&s->preferences).reference;
}

/* The adapter that the reference has; NULL: none. */
const char *starting_reference_adapter(const struct config *c)
{
    const char *dir = c->ref_adapter ? c->ref_adapter : c->adapter_name_or_path;
    return c->ref_model || !dir || !strcmp(dir, no_adapter) ? NULL : dir;
}

enum engine_reference starting_reference(const struct session *s)
{
    const struct config *c = s->config;
    if (!has_reference(s)) return ENGINE_NO_REFERENCE;
    if (c->ref_model || c->finetuning != CONFIG_LORA) return ENGINE_REFERENCE_MODEL;
    return starting_reference_adapter(c) ? ENGINE_REFERENCE_ADAPTER : ENGINE_REFERENCE_BASE;
}

const char *starting_reference_text(const struct session *s)
{
    const struct config *c = s->config;
    if (!has_reference(s)) return "none: the loss needs no reference";
    if (c->ref_model) return c->ref_model;
    if (c->finetuning != CONFIG_LORA) return "the model as it is before the first step";
    if (!starting_reference_adapter(c)) return "the base, without the adapter";
    return c->ref_adapter ? "the base with ref_adapter"
                          : "the base with adapter_name_or_path as it was";
}

/* --- what is named --- */

static int holds(const char *dir, const char *name)
{
    char path[IO_PATH_MAX];
    struct err ignored = {0};
    return !io_join(path, sizeof path, dir, name, &ignored) && io_exists(path);
}

static const char *last_component(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* The distinct last components of the adapted modules. */
static enum status list_targets(struct session *s, struct err *e)
{
    const struct adapter_dir *a = &s->start;
    size_t n = a->options.num_targets;
    s->start_targets = mem_calloc(n + 1, sizeof *s->start_targets);
    if (!s->start_targets) return err_set(e, ERR_MEMORY, "no memory for the adapter's modules");
    for (size_t i = 0; i < n; i++) {
        const char *name = last_component(a->targets[i]);
        size_t k = 0;
        while (k < s->num_start_targets && strcmp(s->start_targets[k], name)) k++;
        if (k == s->num_start_targets) s->start_targets[s->num_start_targets++] = name;
    }
    return OK;
}

static enum status open_adapter(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    const char *dir = c->adapter_name_or_path;
    if (!dir) return OK;
    if (s->purpose == SESSION_PLAN && !io_exists(dir)) {
        log_notice("planned without the adapter to go on from: not at %s", dir);
        return OK;
    }
    if (!holds(dir, PEFT_CONFIG_FILE)) {
        config_fail(c, KEY_adapter_name_or_path, e, "%s holds no adapter", dir);
        return err_hint(e, "give a directory with " PEFT_CONFIG_FILE " and " ADAPTER_FILE);
    }
    TRY(adapter_dir_open(&s->start, dir, e));
    return list_targets(s, e);
}

int starting_same_shape(const struct model_config *a, const struct model_config *b)
{
    return a->family == b->family && a->vocab_size == b->vocab_size &&
           a->hidden_size == b->hidden_size && a->intermediate_size == b->intermediate_size &&
           a->num_layers == b->num_layers && a->num_heads == b->num_heads &&
           a->num_kv_heads == b->num_kv_heads && a->head_dim == b->head_dim &&
           a->norm_eps == b->norm_eps && a->rope.kind == b->rope.kind &&
           a->rope.theta == b->rope.theta && a->rope.factor == b->rope.factor &&
           a->window == b->window && a->tied == b->tied;
}

static enum status check_reference_model(const struct session *s, struct err *e)
{
    const struct config *c = s->config;
    struct model_config other;
    if (!s->aligns || !c->ref_model) return OK;
    if (s->purpose == SESSION_PLAN && !io_exists(c->ref_model)) return OK;
    if (!holds(c->ref_model, "config.json")) {
        config_fail(c, KEY_ref_model, e, "%s holds no model", c->ref_model);
        return err_hint(e, "give a directory with config.json and the weights");
    }
    TRY(model_config_read(&other, c->ref_model, e));
    int same = starting_same_shape(&other, &s->model);
    model_config_free(&other);
    if (same) return OK;
    config_fail(c, KEY_ref_model, e, "%s is of another shape than %s", c->ref_model,
                c->model_name_or_path);
    return err_hint(e, "the reference must be of the same family and sizes");
}

static enum status check_reference_adapter(const struct session *s, struct err *e)
{
    const struct config *c = s->config;
    const char *dir = s->aligns ? starting_reference_adapter(c) : NULL;
    if (!dir || holds(dir, ADAPTER_FILE) || s->purpose == SESSION_PLAN) return OK;
    config_fail(c, c->ref_adapter ? KEY_ref_adapter : KEY_adapter_name_or_path, e,
                "%s holds no adapter", dir);
    return err_hint(e, "give a directory with " ADAPTER_FILE ", or base");
}

enum status starting_open(struct session *s, struct err *e)
{
    TRY(open_adapter(s, e));
    TRY(check_reference_model(s, e));
    return check_reference_adapter(s, e);
}

/* --- the adapter's shape --- */

enum status starting_tokens(struct session *s, struct err *e)
{
    const struct lora_options *a = &s->start.options;
    size_t n = a->num_tokens;
    int given = s->num_trained_tokens > 0;
    if (!s->start.targets) return OK;
    int same = n == s->num_trained_tokens &&
               (!n || !memcmp(a->tokens, s->trained_tokens, n * sizeof *a->tokens));
    if (same) return OK;
    for (size_t i = 1; i < n; i++) given |= a->tokens[i] <= a->tokens[i - 1];
    if (given) {
        config_fail(s->config, KEY_adapter_name_or_path, e,
                    "it trains other tokens than this run (%zu, here %zu)", n,
                    s->num_trained_tokens);
        return err_hint(e, "merge it with cria merge and start from the merged model");
    }
    s->trained_tokens = mem_calloc(n, sizeof *s->trained_tokens);
    if (!s->trained_tokens) return err_set(e, ERR_MEMORY, "no memory for the list of tokens");
    memcpy(s->trained_tokens, a->tokens, n * sizeof *a->tokens);
    s->num_trained_tokens = n;
    return OK;
}

static enum status differs(const struct config *c, enum config_key key, double here, double there,
                           struct err *e)
{
    if (!config_is_set(c, key) || here == there) return OK;
    config_fail(c, key, e, "%g; the adapter to go on from has %g", here, there);
    return err_hint(e, "leave it out: adapter_name_or_path says it");
}

static int saves_same(const struct config_list *list, const struct lora_options *a)
{
    size_t found = 0;
    for (size_t i = 0; i < list->n; i++)
        for (size_t k = 0; k < a->num_saved; k++)
            found += !strcmp(last_component(a->saved[k]), last_component(list->items[i]));
    return list->n == a->num_saved && found == list->n;
}

static enum status take_shape(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    const struct lora_options *a = &s->start.options;
    TRY(differs(c, KEY_lora_r, (double)c->lora_r, a->r, e));
    TRY(differs(c, KEY_lora_alpha, c->lora_alpha, a->alpha, e));
    TRY(differs(c, KEY_use_rslora, c->use_rslora, a->rslora, e));
    if (config_is_set(c, KEY_modules_to_save) && !saves_same(&c->modules_to_save, a)) {
        config_fail(c, KEY_modules_to_save, e, "the adapter to go on from saves others");
        return err_hint(e, "leave it out: adapter_name_or_path says it");
    }
    s->lora.r = a->r;
    s->lora.alpha = a->alpha;
    s->lora.rslora = a->rslora;
    s->lora.saved = a->saved;
    s->lora.num_saved = a->num_saved;
    if (config_is_set(c, KEY_lora_target_modules)) return OK; /* loading tells whether it fits */
    s->lora.targets = s->start_targets;
    s->lora.num_targets = s->num_start_targets;
    return OK;
}

static int is_all_linear(struct config_list targets)
{
    return targets.n == 1 && !strcmp(targets.items[0], "all-linear");
}

enum status starting_lora(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    int all = is_all_linear(c->lora_target_modules);
    s->lora = (struct lora_options){.r = (int32_t)c->lora_r,
                                    .alpha = c->lora_alpha,
                                    .dropout = c->lora_dropout,
                                    .rslora = c->use_rslora,
                                    .targets = all ? NULL : c->lora_target_modules.items,
                                    .num_targets = all ? 0 : c->lora_target_modules.n,
                                    .saved = c->modules_to_save.items,
                                    .num_saved = c->modules_to_save.n,
                                    .tokens = s->trained_tokens,
                                    .num_tokens = s->num_trained_tokens};
    return s->start.targets ? take_shape(s, e) : OK;
}

/* --- the reference's log-probabilities --- */

/* What they depend on, as names; the struct's texts point into this one. */
struct key_texts {
    char base[HASH_HEX_SIZE + 24], adapter[HASH_HEX_SIZE + 64];
    struct reference_key key;
};

static enum status make_key(const struct session *s, const struct store *store,
                            struct key_texts *out, struct err *e)
{
    const struct config *c = s->config;
    const char *dir = starting_reference_adapter(c);
    char path[IO_PATH_MAX], hash[HASH_HEX_SIZE];
    *out = (struct key_texts){{0}, {0}, {0}};
    snprintf(out->base, sizeof out->base, "%s", s->engine.base_hash);
    if (s->new_tokens.count) /* rows that no file has */
        snprintf(out->base, sizeof out->base, "%s+%d at %d", s->engine.base_hash,
                 (int)s->new_tokens.count, (int)s->new_tokens.first);
    if (dir && starting_reference(s) == ENGINE_REFERENCE_ADAPTER) {
        TRY(io_join(path, sizeof path, dir, ADAPTER_FILE, e));
        TRY(hash_file(path, hash, e));
        snprintf(out->adapter, sizeof out->adapter, "%s alpha %g rslora %d", hash, s->lora.alpha,
                 s->lora.rslora);
    }
    out->key = (struct reference_key){.base = out->base,
                                      .adapter = out->adapter,
                                      .precision = PRECISION,
                                      .dataset = store_info(store)->content_hash,
                                      .max_length = (int32_t)c->max_length};
    return OK;
}

static enum status sidecar_path(const struct session *s, const struct reference_key *k, char *out,
                                size_t size, struct err *e)
{
    char dir[IO_PATH_MAX], hash[HASH_HEX_SIZE], name[HASH_HEX_SIZE + 16];
    struct hasher *h = hasher_create();
    if (!h) return err_set(e, ERR_MEMORY, "no memory for a cache's name");
    hasher_string(h, k->base);
    hasher_string(h, k->adapter);
    hasher_string(h, k->precision);
    hasher_string(h, k->dataset);
    hasher_u64(h, (uint64_t)k->max_length);
    hasher_hex(h, hash);
    hasher_destroy(h);
    snprintf(name, sizeof name, "reference-%s.h5", hash);
    TRY(dataset_cache_dir(s->config, dir, sizeof dir, e));
    TRY(io_make_dirs(dir, e));
    return io_join(out, size, dir, name, e);
}

static enum status open_sidecar(struct session *s, const struct store *store,
                                struct reference **out, char *path, size_t size, struct err *e)
{
    struct key_texts k;
    TRY(make_key(s, store, &k, e));
    TRY(sidecar_path(s, &k.key, path, size, e));
    return reference_open(out, path, &k.key, store_info(store)->num_documents, e);
}

static enum status fill(struct session *s, struct reference *known, struct loader *loader,
                        int64_t steps, const char *path, struct err *e)
{
    const struct dataset_watcher *w = s->watcher;
    struct align_watcher watcher = {w ? w->context : NULL, w ? w->reference : NULL};
    int64_t computed, there = reference_count(known);
    TRY(align_fill(&s->align, known, &s->engine, loader, steps, &watcher, &computed, e));
    if (there && !computed)
        log_notice("the reference's log-probabilities are taken from %s", path);
    else
        log_notice("the reference's log-probabilities of %lld records are computed and kept in %s",
                   (long long)computed, path);
    return OK;
}

/* The engine holds the reference in the policy's place. */
static enum status precompute(struct session *s, struct err *e)
{
    char path[IO_PATH_MAX];
    struct reference *known;
    TRY(open_sidecar(s, s->store, &s->known, path, sizeof path, e));
    TRY(fill(s, s->known, s->train_loader, s->total_steps, path, e));
    if (!s->eval_loader) return OK;
    known = s->known;
    if (s->eval_store) {
        TRY(open_sidecar(s, s->eval_store, &s->eval_known, path, sizeof path, e));
        known = s->eval_known;
    }
    return fill(s, known, s->eval_loader, INT64_MAX, path, e);
}

static enum status take_reference(struct session *s, struct err *e)
{
    struct key_texts k;
    TRY(make_key(s, s->store, &k, e));
    snprintf(s->reference_hash, sizeof s->reference_hash, "%s%s%s", k.base,
             k.adapter[0] ? " with " : "", k.adapter);
    if (s->config->precompute_ref_log_probs) {
        enum status status = precompute(s, e);
        return status ? err_wrap(e, "computing the reference's log-probabilities") : OK;
    }
    engine_keep_reference(&s->engine);
    return OK;
}

/* --- weights --- */

/* Of the base itself, unless this run is to start from new weights. */
static enum status load_weights(struct session *s, const char *dir, struct err *e)
{
    struct engine *g = &s->engine;
    const struct config *c = s->config;
    if (!c->random_weights || dir != c->model_name_or_path) return weights_load_base(g, dir, e);
    TRY(model_init_weights(&g->model, &g->device, (uint64_t)c->seed, e));
    snprintf(g->base_hash, sizeof g->base_hash, "new, by seed %lld", (long long)c->seed);
    return g->device.k->sync(&g->device, e);
}

static enum status load_base(struct session *s, const char *dir, struct err *e)
{
    TRY(load_weights(s, dir, e));
    if (s->new_tokens.count)
        TRY(weights_fill_rows(&s->engine, s->new_tokens.first, s->new_tokens.count, e));
    if (s->engine.rows.rows.count) rows_adopt(&s->engine.rows, &s->engine.device);
    if (!s->engine.has_lora) return OK;
    return lora_init_weights(&s->engine.lora, &s->engine.device, (uint64_t)s->config->seed, e);
}

static enum status load_adapter(struct session *s, enum config_key key, const char *dir,
                                struct err *e)
{
    enum status status = weights_load_adapter(&s->engine, dir, e);
    if (status != ERR_FORMAT && status != ERR_SHAPE) return status;
    e->hint[0] = 0;
    err_wrap(e, "%s: the adapter %s does not fit this run", config_name(key), dir);
    return err_hint(e, "rank and modules must be the same; or merge it with cria merge and name "
                       "the merged model");
}

enum status starting_load(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    const char *start = c->adapter_name_or_path, *other = c->ref_adapter;
    enum engine_reference mode = starting_reference(s);
    if (mode && c->ref_model) {
        TRY(load_base(s, c->ref_model, e));
        TRY(take_reference(s, e));
    }
    TRY(load_base(s, c->model_name_or_path, e));
    if (mode == ENGINE_REFERENCE_BASE || (mode && !c->ref_model && !s->engine.has_lora))
        TRY(take_reference(s, e));
    if (mode == ENGINE_REFERENCE_ADAPTER && other) {
        TRY(load_adapter(s, KEY_ref_adapter, other, e));
        TRY(take_reference(s, e));
        if (!start) return load_base(s, c->model_name_or_path, e);
    }
    if (start) TRY(load_adapter(s, KEY_adapter_name_or_path, start, e));
    return mode == ENGINE_REFERENCE_ADAPTER && !other ? take_reference(s, e) : OK;
}
