#include "ckpt/peft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#define PREFIX "base_model.model."
#define MAX_RANK 65536

static const char *const suffixes[] = {[PEFT_A] = ".lora_A.weight", [PEFT_B] = ".lora_B.weight"};

/* What the file's keys are to us. One row a key, in PEFT's order. */
enum key_kind {
    KEY_OURS,   /* from struct peft_config */
    KEY_FIXED,  /* must be as written here, or absent: anything else is another adapter */
    KEY_IGNORED /* does not change what plain LoRA computes */
};

static const struct key {
    const char *name;
    enum key_kind kind;
    const char *json; /* the value written; for KEY_FIXED also the value wanted */
} keys[] = {
    {"alora_invocation_tokens", KEY_FIXED, "null"},
    {"alpha_pattern", KEY_FIXED, "{}"},
    {"arrow_config", KEY_FIXED, "null"},
    {"auto_mapping", KEY_IGNORED, "null"},
    {"base_model_name_or_path", KEY_OURS, NULL},
    {"bias", KEY_FIXED, "\"none\""},
    {"corda_config", KEY_FIXED, "null"},
    {"ensure_weight_tying", KEY_FIXED, "false"},
    {"eva_config", KEY_FIXED, "null"},
    {"exclude_modules", KEY_IGNORED, "null"}, /* the tensors say what is adapted */
    {"fan_in_fan_out", KEY_FIXED, "false"},
    {"inference_mode", KEY_IGNORED, "true"},
    {"init_lora_weights", KEY_IGNORED, "true"}, /* but see check_init */
    {"kasa_config", KEY_FIXED, "null"},
    {"layer_replication", KEY_FIXED, "null"},
    {"layers_pattern", KEY_IGNORED, "null"},
    {"layers_to_transform", KEY_IGNORED, "null"},
    {"loftq_config", KEY_FIXED, "{}"},
    {"lora_alpha", KEY_OURS, NULL},
    {"lora_bias", KEY_FIXED, "false"},
    {"lora_dropout", KEY_OURS, NULL},
    {"lora_ga_config", KEY_FIXED, "null"},
    {"megatron_config", KEY_FIXED, "null"},
    {"megatron_core", KEY_IGNORED, "\"megatron.core\""},
    {"modules_to_save", KEY_OURS, NULL},
    {"monteclora_config", KEY_FIXED, "null"},
    {"peft_type", KEY_OURS, "\"LORA\""},
    {"peft_version", KEY_IGNORED, "\"0.21.2\""},
    {"qalora_group_size", KEY_IGNORED, "16"},
    {"r", KEY_OURS, NULL},
    {"rank_pattern", KEY_FIXED, "{}"},
    {"revision", KEY_IGNORED, "null"},
    {"target_modules", KEY_OURS, NULL},
    {"target_parameters", KEY_FIXED, "null"},
    {"task_type", KEY_IGNORED, "\"CAUSAL_LM\""},
    {"trainable_token_indices", KEY_OURS, NULL},
    {"use_bdlora", KEY_FIXED, "null"},
    {"use_dora", KEY_FIXED, "false"},
    {"use_qalora", KEY_FIXED, "false"},
    {"use_rslora", KEY_OURS, NULL},
    {"velora_config", KEY_FIXED, "null"},
};
#define KEYS (sizeof keys / sizeof *keys)

/* --- config: reading --- */

/* null, false and empty say the same: not used. */
static int is_unused(const json_t *v)
{
    return !v || json_is_null(v) || json_is_false(v) ||
           (json_is_object(v) && !json_object_size(v)) || (json_is_array(v) && !json_array_size(v));
}

static enum status refuse(const char *key, const json_t *v, const char *where, struct err *e)
{
    const char *text = json_string_value(v);
    err_at(e, ERR_UNSUPPORTED, where, 0, 0, "\"%s\"%s%.40s is not supported", key,
           text ? " of " : "", text ? text : "");
    return err_hint(e, "cria reads plain LoRA; merge this adapter with PEFT instead");
}

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < KEYS; i++)
        if (!strcmp(keys[i].name, name)) return &keys[i];
    return NULL;
}

static enum status check_keys(const json_t *root, const char *where, struct err *e)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)root, name, v)
    {
        const struct key *k = find_key(name);
        if (is_unused(v) || (k && k->kind != KEY_FIXED)) continue;
        if (!k) {
            log_warning("%s: the key \"%.60s\" is unknown and not looked at", where, name);
            continue;
        }
        if (!json_is_string(v) || strcmp(name, "bias") || strcmp(json_string_value(v), "none"))
            return refuse(name, v, where, e);
    }
    return OK;
}

/* PiSSA, OLoRA and their like change the base too, so their A and B alone are not the model. */
static enum status check_init(const json_t *root, const char *where, struct err *e)
{
    const json_t *v = json_object_get(root, "init_lora_weights");
    const char *name = json_string_value(v);
    if (name && strcmp(name, "gaussian") && strcmp(name, "orthogonal"))
        return refuse("init_lora_weights", v, where, e);
    const char *type = NULL, *task = NULL;
    TRY(json_get_string(root, "peft_type", &type, where, e));
    TRY(json_get_string(root, "task_type", &task, where, e));
    if (!type || strcmp(type, "LORA"))
        return refuse("peft_type", json_object_get(root, "peft_type"), where, e);
    if (task && strcmp(task, "CAUSAL_LM"))
        return refuse("task_type", json_object_get(root, "task_type"), where, e);
    return OK;
}

static enum status check_targets(const json_t *v, const char *where, struct err *e)
{
    int fine = json_is_string(v) || json_array_size(v);
    for (size_t i = 0; i < json_array_size(v); i++) fine &= json_is_string(json_array_get(v, i));
    if (fine) return OK;
    return err_at(e, ERR_FORMAT, where, 0, 0,
                  "\"target_modules\" should be a list of names or one string");
}

static enum status check_saved(struct peft_config *c, const char *where, struct err *e)
{
    json_t *v = json_object_get(c->source, "modules_to_save"), *item;
    size_t i;
    int fine = json_is_array(v) || is_unused(v);
    json_array_foreach(v, i, item) fine &= json_string_length(item) > 0;
    if (!fine)
        return err_at(e, ERR_FORMAT, where, 0, 0, "\"modules_to_save\" should be a list of names");
    c->modules_to_save = json_array_size(v) ? v : NULL;
    return OK;
}

static int are_ids(const json_t *list)
{
    const json_t *item;
    size_t i;
    int fine = json_is_array(list);
    json_array_foreach(list, i, item)
    {
        json_int_t id = json_integer_value(item);
        fine &= json_is_integer(item) && id >= 0 && id <= INT32_MAX;
    }
    return fine;
}

/* The same ids in embedding and head, or in the embedding alone: all else is refused. */
static enum status check_tokens(struct peft_config *c, const char *where, struct err *e)
{
    json_t *v = json_object_get(c->source, "trainable_token_indices"), *ids, *first = NULL;
    const char *name;
    if (is_unused(v)) return OK;
    int fine = are_ids(v) || json_is_object(v);
    json_object_foreach(v, name, ids)
    {
        fine &= are_ids(ids) && (!strcmp(name, PEFT_EMBEDDING) || !strcmp(name, PEFT_HEAD));
        fine &= !first || json_equal(first, ids);
        first = ids;
    }
    if (json_is_object(v)) fine &= json_is_array(json_object_get(v, PEFT_EMBEDDING));
    if (!fine) return refuse("trainable_token_indices", v, where, e);
    c->trainable_token_indices = v;
    return OK;
}

static enum status parse_config(struct peft_config *c, const char *where, struct err *e)
{
    const json_t *root = c->source;
    int64_t r = 8;
    c->lora_alpha = 8; /* PEFT's defaults */
    if (!json_is_object(root)) return err_at(e, ERR_FORMAT, where, 0, 0, "should be an object");
    TRY(check_init(root, where, e));
    TRY(check_keys(root, where, e));
    TRY(json_get_int(root, "r", &r, where, e));
    if (r < 1 || r > MAX_RANK)
        return err_at(e, ERR_FORMAT, where, 0, 0, "\"r\" is %lld; it should be 1 to %d",
                      (long long)r, MAX_RANK);
    c->r = (int32_t)r;
    TRY(json_get_double(root, "lora_alpha", &c->lora_alpha, where, e));
    TRY(json_get_double(root, "lora_dropout", &c->lora_dropout, where, e));
    if (!(c->lora_dropout >= 0 && c->lora_dropout < 1))
        return err_at(e, ERR_FORMAT, where, 0, 0,
                      "\"lora_dropout\" is %g; it should be 0 to below 1", c->lora_dropout);
    TRY(json_get_bool(root, "use_rslora", &c->use_rslora, where, e));
    TRY(json_get_string(root, "base_model_name_or_path", &c->base_model, where, e));
    c->target_modules = json_object_get(root, "target_modules");
    TRY(check_targets(c->target_modules, where, e));
    TRY(check_saved(c, where, e));
    return check_tokens(c, where, e);
}

enum status peft_config_read(struct peft_config *out, const char *path, struct err *e)
{
    char file[IO_PATH_MAX];
    *out = (struct peft_config){0};
    if (io_is_dir(path)) {
        TRY(io_join(file, sizeof file, path, PEFT_CONFIG_FILE, e));
        path = file;
    }
    TRY(json_parse_file(path, &out->source, e));
    enum status s = parse_config(out, path, e);
    if (s == ERR_FORMAT) err_hint(e, "take " PEFT_CONFIG_FILE " as PEFT or cria wrote it");
    if (s) peft_config_free(out);
    return s;
}

void peft_config_free(struct peft_config *c)
{
    json_decref(c->source);
    *c = (struct peft_config){0};
}

double peft_scale(const struct peft_config *c)
{
    return c->lora_alpha / (c->use_rslora ? sqrt(c->r) : c->r);
}

/* --- config: writing --- */

/* alpha is a whole number to PEFT; 16 should not come out as 16.0. */
static json_t *number(double v)
{
    return v == floor(v) && fabs(v) < 1e15 ? json_integer((json_int_t)v) : json_real(v);
}

static json_t *or_null(json_t *v) { return v ? json_incref(v) : json_null(); }

static json_t *value_of(const struct key *k, const struct peft_config *c)
{
    if (k->json) return json_loads(k->json, JSON_DECODE_ANY, NULL);
    if (!strcmp(k->name, "r")) return json_integer(c->r);
    if (!strcmp(k->name, "lora_alpha")) return number(c->lora_alpha);
    if (!strcmp(k->name, "lora_dropout")) return json_real(c->lora_dropout);
    if (!strcmp(k->name, "use_rslora")) return json_boolean(c->use_rslora);
    if (!strcmp(k->name, "target_modules")) return json_incref(c->target_modules);
    if (!strcmp(k->name, "modules_to_save")) return or_null(c->modules_to_save);
    if (!strcmp(k->name, "trainable_token_indices")) return or_null(c->trainable_token_indices);
    return c->base_model ? json_string(c->base_model) : json_null();
}

enum status peft_config_write(const struct peft_config *c, const char *path, struct err *e)
{
    json_t *root = json_object();
    enum status s = root ? OK : err_set(e, ERR_MEMORY, "no memory to write %s", path);
    for (size_t i = 0; i < KEYS && !s; i++)
        if (json_object_set_new(root, keys[i].name, value_of(&keys[i], c)))
            s = err_set(e, ERR_MEMORY, "no memory to write %s", path);
    if (!s) s = json_write_file(root, path, e);
    json_decref(root);
    return s;
}

/* --- weights --- */

enum status peft_key(char *out, size_t size, const char *path, enum peft_part part, struct err *e)
{
    if ((size_t)snprintf(out, size, PREFIX "%s%s", path, suffixes[part]) < size) return OK;
    return err_set(e, ERR_SHAPE, "the module name %.60s... is too long", path);
}

/* How long the path in a name is, if the name is that of `part`; 0: it is not. */
static size_t path_length(const char *name, enum peft_part part)
{
    size_t n = strlen(name), head = strlen(PREFIX), tail = strlen(suffixes[part]);
    if (n <= head + tail || strncmp(name, PREFIX, head)) return 0;
    return strcmp(name + n - tail, suffixes[part]) ? 0 : n - head - tail;
}

/* The module that the A `t` belongs to, with its B. */
static enum status make_module(struct peft_adapter *a, const struct tensor_info *t, struct err *e)
{
    char key[512];
    struct peft_module *m = &a->modules[a->num_modules];
    m->path = mem_strndup(t->name + strlen(PREFIX), path_length(t->name, PEFT_A));
    if (!m->path) return err_set(e, ERR_MEMORY, "no memory for the adapter's modules");
    a->num_modules++;
    TRY(peft_key(key, sizeof key, m->path, PEFT_B, e));
    m->a = t;
    m->b = tensor_files_find(a->files, key);
    if (m->b && m->a->rank == 2 && m->b->rank == 2) {
        TRY(tensor_expect(a->files, m->a, m->a->name, 2, (int64_t[]){a->config.r, m->a->shape[1]},
                          e));
        return tensor_expect(a->files, m->b, key, 2, (int64_t[]){m->b->shape[0], a->config.r}, e);
    }
    if (!m->b) return tensor_expect(a->files, NULL, key, 2, NULL, e);
    return err_at(e, ERR_SHAPE, tensor_file_path(a->files, t), 0, 0,
                  "%s: its A and B should be matrices", m->path);
}

/* Whether text[0..n) ends with `end`. */
static int ends_with(const char *text, size_t n, const char *end)
{
    size_t m = strlen(end);
    return m <= n && !strncmp(text + n - m, end, m);
}

/* Whether the tensor is the new weight of a module; its path, which ends with a name of
 * modules_to_save, joins the list. *status: ERR_MEMORY. */
static int take_saved(struct peft_adapter *a, const char *name, enum status *status, struct err *e)
{
    static const char tail[] = ".weight";
    size_t n = strlen(name), head = strlen(PREFIX), i;
    const json_t *wanted;
    if (n <= head + strlen(tail) || strncmp(name, PREFIX, head) || !ends_with(name, n, tail))
        return 0;
    n -= strlen(tail);
    json_array_foreach(a->config.modules_to_save, i, wanted)
    {
        if (!ends_with(name + head, n - head, json_string_value(wanted))) continue;
        char *path = mem_strndup(name + head, n - head);
        if (!path) *status = err_set(e, ERR_MEMORY, "no memory for the adapter's modules");
        if (path) a->saved[a->num_saved++] = path;
        return 1;
    }
    return 0;
}

/* Whether the tensor holds rows of single tokens. */
static int take_rows(struct peft_adapter *a, const char *name)
{
    static const char tail[] = ".token_adapter.trainable_tokens_delta";
    size_t n = strlen(name);
    if (!a->num_tokens || !ends_with(name, n, tail)) return 0;
    n -= strlen(tail);
    if (ends_with(name, n, "." PEFT_HEAD)) a->head_rows = 1;
    return ends_with(name, n, "." PEFT_HEAD) || ends_with(name, n, "." PEFT_EMBEDDING);
}

static enum status take_tokens(struct peft_adapter *a, struct err *e)
{
    const json_t *v = a->config.trainable_token_indices, *id;
    const json_t *ids = json_is_object(v) ? json_object_get(v, PEFT_EMBEDDING) : v;
    size_t i;
    if (!json_array_size(ids)) return OK;
    a->tokens = mem_calloc(json_array_size(ids), sizeof *a->tokens);
    if (!a->tokens) return err_set(e, ERR_MEMORY, "no memory for the adapter's tokens");
    json_array_foreach(ids, i, id) a->tokens[a->num_tokens++] = (int32_t)json_integer_value(id);
    return OK;
}

static enum status make_modules(struct peft_adapter *a, struct err *e)
{
    size_t n = tensor_files_count(a->files), b = 0;
    a->modules = mem_calloc(n, sizeof *a->modules);
    a->saved = mem_calloc(n, sizeof *a->saved);
    if (!a->modules || !a->saved)
        return err_set(e, ERR_MEMORY, "no memory for the adapter's modules");
    TRY(take_tokens(a, e));
    for (size_t i = 0; i < n; i++) {
        const struct tensor_info *t = tensor_files_at(a->files, i);
        enum status s = OK;
        if (path_length(t->name, PEFT_A)) {
            TRY(make_module(a, t, e));
        } else if (path_length(t->name, PEFT_B)) {
            b++;
        } else if (take_rows(a, t->name) || take_saved(a, t->name, &s, e)) {
            TRY(s);
        } else {
            err_at(e, ERR_UNSUPPORTED, tensor_file_path(a->files, t), 0, 0,
                   "tensor \"%.120s\" is not a LoRA A or B of a linear", t->name);
            return err_hint(e, "cria reads plain LoRA; merge this adapter with PEFT instead");
        }
    }
    if (b == a->num_modules && b) return OK;
    return err_at(e, ERR_FORMAT, tensor_file_path(a->files, &(struct tensor_info){0}), 0, 0,
                  "%zu A matrices and %zu B matrices", a->num_modules, b);
}

enum status peft_open(struct peft_adapter *out, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    *out = (struct peft_adapter){0};
    enum status s = peft_config_read(&out->config, dir, e);
    if (s == ERR_IO)
        err_hint(e, "an adapter is a directory with " PEFT_CONFIG_FILE " and " PEFT_WEIGHTS_FILE);
    if (!s) s = io_join(path, sizeof path, dir, PEFT_WEIGHTS_FILE, e);
    if (!s && !io_exists(path)) { /* a pickled one, perhaps: that error says more */
        struct tensor_files *none = NULL;
        s = tensor_files_open(&none, dir, e);
        tensor_files_close(none);
        if (s != ERR_UNSUPPORTED) {
            s = err_at(e, ERR_IO, path, 0, 0, "no such file");
            err_hint(e,
                     "an adapter is a directory with " PEFT_CONFIG_FILE " and " PEFT_WEIGHTS_FILE);
        }
    }
    if (!s) s = tensor_files_open(&out->files, path, e);
    if (!s) s = make_modules(out, e);
    if (s) peft_close(out);
    return s;
}

void peft_close(struct peft_adapter *a)
{
    for (size_t i = 0; i < a->num_modules; i++) mem_free(a->modules[i].path);
    mem_free(a->modules);
    for (size_t i = 0; i < a->num_saved; i++) mem_free((char *)a->saved[i]);
    mem_free(a->saved);
    mem_free(a->tokens);
    tensor_files_close(a->files);
    peft_config_free(&a->config);
    *a = (struct peft_adapter){0};
}

const struct peft_module *peft_find(const struct peft_adapter *a, const char *path)
{
    for (size_t i = 0; i < a->num_modules; i++)
        if (!strcmp(a->modules[i].path, path)) return &a->modules[i];
    return NULL;
}
