#include "model/hf_config.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "model/hf_config_keys.h"

static const struct model_family families[] = {
    {"llama", "LlamaForCausalLM", FAMILY_ATTENTION_BIAS_KEY | FAMILY_MLP_BIAS_KEY | FAMILY_SQUARE,
     .kv_heads = 0, .head_dim = 0, .max_positions = 2048, .window = 0, .bos = 1, .eos = 2},
    {"mistral", "MistralForCausalLM", FAMILY_WINDOW, .kv_heads = 8, .head_dim = 0,
     .max_positions = 131072, .window = 4096, .bos = 1, .eos = 2},
    {"qwen2", "Qwen2ForCausalLM", FAMILY_QKV_BIAS | FAMILY_WINDOW_SWITCH, .kv_heads = 32,
     .head_dim = 0, .max_positions = 32768, .window = 4096, .bos = -1, .eos = -1},
    {"qwen3", "Qwen3ForCausalLM", FAMILY_ATTENTION_BIAS_KEY | FAMILY_QK_NORM | FAMILY_WINDOW_SWITCH,
     .kv_heads = 32, .head_dim = 128, .max_positions = 32768, .window = 4096, .bos = -1, .eos = -1},
};
#define FAMILIES (sizeof families / sizeof *families)

#define MAX_HEADS (1 << 16)
#define MAX_HEAD_DIM (1 << 12)
#define MAX_POSITIONS (1 << 28)
#define MAX_WIDTH (1 << 22) /* heads * head_dim */

/* What one reading goes by. */
struct reader {
    const json_t *root;
    const char *where;
    struct model_config *c;
    struct err *e;
};

/* --- getters with bounds --- */

/* Absent or null leaves *out alone. */
static enum status get_int(const struct reader *r, const json_t *object, const char *key,
                           int64_t min, int64_t max, int32_t *out)
{
    int64_t v = *out;
    if (!present(object, key)) return OK;
    TRY(json_get_int(object, key, &v, r->where, r->e));
    if (v < min || v > max)
        return err_at(r->e, ERR_FORMAT, r->where, 0, 0, "\"%s\" is %lld; it should be %lld to %lld",
                      key, (long long)v, (long long)min, (long long)max);
    *out = (int32_t)v;
    return OK;
}

/* A number above `above`; absent leaves *out alone. */
static enum status get_double(const struct reader *r, const json_t *object, const char *key,
                              double above, double *out)
{
    if (!present(object, key)) return OK;
    TRY(json_get_double(object, key, out, r->where, r->e));
    if (*out > above && isfinite(*out)) return OK;
    return err_at(r->e, ERR_FORMAT, r->where, 0, 0, "\"%s\" is %g; it should be above %g", key,
                  *out, above);
}

static enum status missing(const struct reader *r, const char *key, const char *whose)
{
    return err_at(r->e, ERR_FORMAT, r->where, 0, 0, "%s has no \"%s\"", whose, key);
}

/* --- the parts --- */

static enum status read_family(const struct reader *r)
{
    const char *type = NULL;
    TRY(json_get_string(r->root, "model_type", &type, r->where, r->e));
    if (!type) return missing(r, "model_type", "the config");
    for (size_t i = 0; i < FAMILIES; i++)
        if (!strcmp(families[i].name, type)) r->c->family = &families[i];
    if (!r->c->family) {
        err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0, "model_type \"%.60s\" is not supported",
               type);
        return err_hint(r->e, "cria trains llama, mistral, qwen2 and qwen3");
    }
    const json_t *names = json_object_get(r->root, "architectures");
    if (!names || json_is_null(names)) return OK;
    const char *name = json_string_value(json_array_get(names, 0));
    if (!name || json_array_size(names) != 1)
        return err_at(r->e, ERR_FORMAT, r->where, 0, 0,
                      "\"architectures\" should be a list of one name");
    if (!strcmp(name, r->c->family->architecture)) return OK;
    err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0, "architecture \"%.60s\" is not supported", name);
    return err_hint(r->e, "for model_type %s cria knows %s", type, r->c->family->architecture);
}

static enum status read_sizes(const struct reader *r)
{
    struct model_config *c = r->c;
    const struct model_family *f = c->family;
    for (size_t i = 0; i < INT_KEYS; i++) {
        if (!present(r->root, int_keys[i].key)) return missing(r, int_keys[i].key, "the config");
        TRY(get_int(r, r->root, int_keys[i].key, 1, int_keys[i].max, int_of(c, &int_keys[i])));
    }
    int said_null = json_is_null(json_object_get(r->root, "num_key_value_heads"));
    c->num_kv_heads = said_null || !f->kv_heads ? c->num_heads : f->kv_heads;
    TRY(get_int(r, r->root, "num_key_value_heads", 1, MAX_HEADS, &c->num_kv_heads));
    if (c->num_heads % c->num_kv_heads)
        return err_at(
            r->e, ERR_FORMAT, r->where, 0, 0,
            "\"num_attention_heads\" (%d) is not a multiple of \"num_key_value_heads\" (%d)",
            c->num_heads, c->num_kv_heads);
    c->head_dim = f->head_dim;
    TRY(get_int(r, r->root, "head_dim", 1, MAX_HEAD_DIM, &c->head_dim));
    if ((!c->head_dim || f->flags & FAMILY_SQUARE) && c->hidden_size % c->num_heads)
        return err_at(r->e, ERR_FORMAT, r->where, 0, 0,
                      "\"hidden_size\" (%d) is not a multiple of \"num_attention_heads\" (%d)",
                      c->hidden_size, c->num_heads);
    if (!c->head_dim) c->head_dim = c->hidden_size / c->num_heads;
    if (c->head_dim % 2 || c->head_dim < 2)
        return err_at(r->e, ERR_FORMAT, r->where, 0, 0,
                      "the head size is %d; rotary embedding needs an even \"head_dim\"",
                      c->head_dim);
    if ((int64_t)c->num_heads * c->head_dim > MAX_WIDTH || c->head_dim > MAX_HEAD_DIM)
        return err_at(r->e, ERR_FORMAT, r->where, 0, 0,
                      "%d heads of size %d are more than cria can address", c->num_heads,
                      c->head_dim);
    c->max_positions = f->max_positions;
    return get_int(r, r->root, "max_position_embeddings", 1, MAX_POSITIONS, &c->max_positions);
}

static enum status read_token_ids(const struct reader *r)
{
    struct model_config *c = r->c;
    const json_t *eos = json_object_get(r->root, "eos_token_id");
    int32_t last = c->vocab_size - 1;
    c->bos =
        json_object_get(r->root, "bos_token_id") || c->family->bos > last ? -1 : c->family->bos;
    TRY(get_int(r, r->root, "bos_token_id", 0, last, &c->bos));
    if (json_is_array(eos)) {
        if (json_array_size(eos) > MODEL_EOS_MAX)
            return err_at(r->e, ERR_FORMAT, r->where, 0, 0,
                          "\"eos_token_id\" lists more than %d ids", MODEL_EOS_MAX);
        for (size_t i = 0; i < json_array_size(eos); i++) {
            const json_t *v = json_array_get(eos, i);
            if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > last)
                return err_at(r->e, ERR_FORMAT, r->where, 0, 0,
                              "\"eos_token_id\" should list ids from 0 to %d", last);
            c->eos[c->num_eos++] = (int32_t)json_integer_value(v);
        }
        return OK;
    }
    c->eos[0] = eos || c->family->eos > last ? -1 : c->family->eos;
    TRY(get_int(r, r->root, "eos_token_id", 0, last, &c->eos[0]));
    c->num_eos = c->eos[0] >= 0;
    return OK;
}

static enum status rope_object(const struct reader *r, const char *key, const json_t **out)
{
    const json_t *v = json_object_get(r->root, key);
    if (!v || json_is_null(v)) return OK;
    if (!json_is_object(v))
        return err_at(r->e, ERR_FORMAT, r->where, 0, 0, "\"%s\" should be an object", key);
    if (json_object_size(v)) *out = v;
    return OK;
}

static enum status rope_kind_of(const struct reader *r, const json_t *rope, enum rope_kind *kind)
{
    const char *name = NULL;
    TRY(json_get_string(rope, "type", &name, r->where, r->e));
    TRY(json_get_string(rope, "rope_type", &name, r->where, r->e));
    for (size_t i = 0; i < ROPES; i++)
        if (!name || !strcmp(name, rope_names[i])) {
            *kind = (enum rope_kind)i;
            return OK;
        }
    err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0, "rope type \"%.60s\" is not supported", name);
    return err_hint(r->e, "cria knows default, linear and llama3");
}

static enum status read_llama3(const struct reader *r, const json_t *rope)
{
    struct rope_config *p = &r->c->rope;
    int32_t original = r->c->max_positions;
    if (!present(rope, "low_freq_factor")) return missing(r, "low_freq_factor", "llama3 rope");
    if (!present(rope, "high_freq_factor")) return missing(r, "high_freq_factor", "llama3 rope");
    TRY(get_double(r, rope, "low_freq_factor", 0, &p->low_freq));
    TRY(get_double(r, rope, "high_freq_factor", p->low_freq, &p->high_freq));
    TRY(get_int(r, rope, "original_max_position_embeddings", 1, MAX_POSITIONS, &original));
    p->original_positions = original;
    return OK;
}

static enum status read_rope(const struct reader *r)
{
    struct rope_config *p = &r->c->rope;
    const json_t *rope = NULL, *v;
    const char *key;
    double part = 1;
    TRY(rope_object(r, "rope_parameters", &rope));
    TRY(rope_object(r, "rope_scaling", &rope)); /* wins, as in transformers */
    json_object_foreach((json_t *)rope, key, v) if (json_is_object(v)) return err_at(
        r->e, ERR_UNSUPPORTED, r->where, 0, 0,
        "rope of its own for \"%.60s\" layers is not supported", key);
    p->theta = 10000;
    TRY(get_double(r, r->root, "rope_theta", 0, &p->theta));
    TRY(get_double(r, r->root, "partial_rotary_factor", 0, &part));
    if (rope) {
        TRY(rope_kind_of(r, rope, &p->kind));
        TRY(get_double(r, rope, "rope_theta", 0, &p->theta));
        TRY(get_double(r, rope, "partial_rotary_factor", 0, &part));
    }
    if (part != 1)
        return err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0,
                      "partial_rotary_factor %g is not supported, only whole heads", part);
    if (p->kind == ROPE_DEFAULT) return OK;
    if (!present(rope, "factor")) return missing(r, "factor", rope_names[p->kind]);
    TRY(get_double(r, rope, "factor", 0, &p->factor));
    return p->kind == ROPE_LLAMA3 ? read_llama3(r, rope) : OK;
}

/* layer_types, if given, must say what window and window_layer say. */
static enum status check_layer_types(const struct reader *r)
{
    const json_t *list = json_object_get(r->root, "layer_types");
    if (!list || json_is_null(list)) return OK;
    if (!json_is_array(list) || json_array_size(list) != (size_t)r->c->num_layers)
        return err_at(r->e, ERR_FORMAT, r->where, 0, 0, "\"layer_types\" should list %d layers",
                      r->c->num_layers);
    for (int32_t i = 0; i < r->c->num_layers; i++) {
        const char *have = json_string_value(json_array_get(list, (size_t)i));
        const char *want = model_config_window(r->c, i) ? "sliding_attention" : "full_attention";
        if (!have || strcmp(have, want))
            return err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0,
                          "layer_types[%d] is \"%.40s\", the window's other keys make it %s", i,
                          have ? have : "?", want);
    }
    return OK;
}

static enum status read_window(const struct reader *r)
{
    struct model_config *c = r->c;
    unsigned flags = c->family->flags;
    int on = flags & FAMILY_WINDOW;
    if (flags & FAMILY_WINDOW_SWITCH)
        TRY(json_get_bool(r->root, "use_sliding_window", &on, r->where, r->e));
    if (!on) return check_layer_types(r);
    if (!json_object_get(r->root, "sliding_window")) c->window = c->family->window;
    TRY(get_int(r, r->root, "sliding_window", 1, INT32_MAX, &c->window));
    if (flags & FAMILY_WINDOW) return OK; /* which does not look at layer_types */
    const json_t *list = json_object_get(r->root, "layer_types");
    c->window_layer = 28; /* the class's default */
    TRY(get_int(r, r->root, "max_window_layers", 0, INT32_MAX, &c->window_layer));
    if (json_is_array(list)) { /* rules over max_window_layers */
        const char *type;
        for (c->window_layer = 0; c->window_layer < c->num_layers; c->window_layer++) {
            type = json_string_value(json_array_get(list, (size_t)c->window_layer));
            if (type && !strcmp(type, "sliding_attention")) break;
        }
    }
    return check_layer_types(r);
}

static enum status read_flags(const struct reader *r)
{
    struct model_config *c = r->c;
    unsigned flags = c->family->flags;
    int attention = 0, mlp = 0;
    TRY(json_get_bool(r->root, "attention_bias", &attention, r->where, r->e));
    TRY(json_get_bool(r->root, "mlp_bias", &mlp, r->where, r->e));
    TRY(json_get_bool(r->root, "tie_word_embeddings", &c->tied, r->where, r->e));
    if (mlp && !(flags & FAMILY_MLP_BIAS_KEY))
        return err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0, "%s has no \"mlp_bias\"",
                      c->family->name);
    if (attention && !(flags & (FAMILY_ATTENTION_BIAS_KEY | FAMILY_QKV_BIAS)))
        return err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0, "%s has no \"attention_bias\"",
                      c->family->name);
    c->o_bias = flags & FAMILY_ATTENTION_BIAS_KEY && attention;
    c->qkv_bias = c->o_bias || flags & FAMILY_QKV_BIAS;
    c->mlp_bias = mlp;
    c->qk_norm = (flags & FAMILY_QK_NORM) != 0;
    return OK;
}

static enum status read_dtype(const struct reader *r)
{
    const char *name = NULL;
    TRY(json_get_string(r->root, "torch_dtype", &name, r->where, r->e));
    TRY(json_get_string(r->root, "dtype", &name, r->where, r->e));
    r->c->dtype = DTYPE_F32;
    r->c->has_dtype = name != NULL;
    for (size_t i = 0; i < DTYPES; i++) {
        if (name && strcmp(name, dtypes[i].name)) continue;
        r->c->dtype = dtypes[i].type;
        return OK;
    }
    err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0, "\"dtype\" is \"%.60s\"", name);
    return err_hint(r->e, "cria reads float32, bfloat16 and float16");
}

/* What changes the arithmetic and is done in one way only. */
static enum status read_rest(const struct reader *r)
{
    struct model_config *c = r->c;
    const char *act = "silu";
    double dropout = 0;
    TRY(json_get_string(r->root, "hidden_act", &act, r->where, r->e));
    if (strcmp(act, "silu") && strcmp(act, "swish"))
        return err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0,
                      "\"hidden_act\" is \"%.60s\"; cria knows silu", act);
    if (present(r->root, "quantization_config")) {
        err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0,
               "the model is quantised (quantization_config)");
        return err_hint(r->e, "take the unquantised original");
    }
    TRY(get_double(r, r->root, "attention_dropout", -1, &dropout));
    if (dropout != 0) {
        err_at(r->e, ERR_UNSUPPORTED, r->where, 0, 0, "\"attention_dropout\" is %g", dropout);
        return err_hint(r->e, "cria drops nothing inside attention: set it to 0");
    }
    c->norm_eps = 1e-6;
    TRY(get_double(r, r->root, "rms_norm_eps", 0, &c->norm_eps));
    c->initializer_range = 0.02;
    return get_double(r, r->root, "initializer_range", -1e-300, &c->initializer_range);
}

enum status model_config_parse(struct model_config *out, const json_t *object, const char *where,
                               struct err *e)
{
    static enum status (*const parts[])(const struct reader *) = {
        read_family, read_sizes, read_token_ids, read_rope,
        read_window, read_flags, read_dtype,     read_rest};
    struct reader r = {object, where, out, e};
    *out = (struct model_config){0};
    enum status s =
        json_is_object(object) ? OK : err_at(e, ERR_FORMAT, where, 0, 0, "should be an object");
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !s; i++) s = parts[i](&r);
    if (!s && !(out->source = json_deep_copy(object))) s = err_set(e, ERR_MEMORY, "no memory");
    if (s == ERR_FORMAT || s == ERR_UNSUPPORTED)
        err_hint(e, "take config.json as it is in the model's repository");
    if (s) model_config_free(out);
    return s;
}

enum status model_config_read(struct model_config *out, const char *path, struct err *e)
{
    char file[IO_PATH_MAX];
    json_t *root = NULL;
    int is_adapter = 0;
    *out = (struct model_config){0};
    if (io_is_dir(path)) {
        TRY(io_join(file, sizeof file, path, "adapter_config.json", e));
        is_adapter = io_exists(file);
        TRY(io_join(file, sizeof file, path, "config.json", e));
        path = file;
    }
    enum status s = json_parse_file(path, &root, e);
    if (s == ERR_IO && is_adapter)
        err_hint(e, "it is an adapter: name its base as the model, and it as the adapter "
                    "(--adapter, adapter_name_or_path)");
    else if (s == ERR_IO && io_is_hub_name(path))
        err_hint(e, "nothing is downloaded: `hf download %s --local-dir DIR`, and name DIR", path);
    else if (s == ERR_IO)
        err_hint(e, "a model is a directory in Hugging Face's layout: config.json, its tokenizer "
                    "and *.safetensors");
    if (!s) s = model_config_parse(out, root, path, e);
    json_decref(root);
    return s;
}

void model_config_free(struct model_config *c)
{
    json_decref(c->source);
    *c = (struct model_config){0};
}

int32_t model_config_window(const struct model_config *c, int32_t layer)
{
    return layer >= c->window_layer ? c->window : 0;
}

int64_t model_config_parameters(const struct model_config *c)
{
    int64_t C = c->hidden_size, F = c->intermediate_size, V = c->vocab_size;
    int64_t q = (int64_t)c->num_heads * c->head_dim, kv = (int64_t)c->num_kv_heads * c->head_dim;
    int64_t layer = 2 * C + C * (2 * q + 2 * kv) + 3 * C * F;
    if (c->qkv_bias) layer += q + 2 * kv;
    if (c->o_bias) layer += C;
    if (c->mlp_bias) layer += 2 * F + C;
    if (c->qk_norm) layer += 2 * c->head_dim;
    return c->num_layers * layer + C + V * C * (c->tied ? 1 : 2);
}
