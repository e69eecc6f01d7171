#include <string.h>

#include "base/json.h"
#include "model/hf_config_keys.h"

/* A change to the object under way; `failed` gathers what jansson could not allocate. */
struct writer {
    json_t *root;
    int failed;
};

static void set(struct writer *w, const char *key, json_t *value)
{
    w->failed |= json_object_set_new(w->root, key, value);
}

static void write_rope(struct writer *w, const struct rope_config *p)
{
    int old = !json_object_get(w->root, "rope_parameters");
    json_t *rope = json_object();
    struct writer in = {rope, 0};
    json_object_del(w->root, "rope_scaling");
    json_object_del(w->root, "rope_theta");
    if (old) set(w, "rope_theta", json_real(p->theta));
    if (!old) set(&in, "rope_theta", json_real(p->theta));
    set(&in, "rope_type", json_string(rope_names[p->kind]));
    if (p->kind != ROPE_DEFAULT) set(&in, "factor", json_real(p->factor));
    if (p->kind == ROPE_LLAMA3) {
        set(&in, "low_freq_factor", json_real(p->low_freq));
        set(&in, "high_freq_factor", json_real(p->high_freq));
        set(&in, "original_max_position_embeddings", json_integer(p->original_positions));
    }
    w->failed |= in.failed;
    if (old && p->kind == ROPE_DEFAULT)
        json_decref(rope);
    else
        set(w, old ? "rope_scaling" : "rope_parameters", rope);
}

static void write_window(struct writer *w, const struct model_config *c)
{
    json_object_del(w->root, "layer_types"); /* transformers derives it from the keys below */
    if (c->family->flags & FAMILY_WINDOW_SWITCH) {
        set(w, "use_sliding_window", json_boolean(c->window != 0));
        set(w, "max_window_layers", json_integer(c->window_layer));
    }
    set(w, "sliding_window", c->window ? json_integer(c->window) : json_null());
}

static void write_eos(struct writer *w, const struct model_config *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->num_eos; i++)
        w->failed |= json_array_append_new(list, json_integer(c->eos[i]));
    if (c->num_eos > 1) {
        set(w, "eos_token_id", list);
        return;
    }
    json_decref(list);
    set(w, "eos_token_id", c->num_eos ? json_integer(c->eos[0]) : json_null());
}

static void write_names(struct writer *w, const struct model_config *c, int dtype_changed)
{
    int new_key = present(w->root, "dtype"), old_key = present(w->root, "torch_dtype");
    if (!present(w->root, "architectures"))
        set(w, "architectures", json_pack("[s]", c->family->architecture));
    set(w, "model_type", json_string(c->family->name));
    if (!dtype_changed && (new_key || old_key)) return;
    for (size_t i = 0; i < DTYPES; i++) {
        if (dtypes[i].type != c->dtype) continue;
        if (new_key) set(w, "dtype", json_string(dtypes[i].name));
        if (!new_key || old_key) set(w, "torch_dtype", json_string(dtypes[i].name));
    }
}

static int same_rope(const struct rope_config *a, const struct rope_config *b)
{
    return a->kind == b->kind && a->theta == b->theta && a->factor == b->factor &&
           a->low_freq == b->low_freq && a->high_freq == b->high_freq &&
           a->original_positions == b->original_positions;
}

static int same_eos(const struct model_config *a, const struct model_config *b)
{
    return a->num_eos == b->num_eos && !memcmp(a->eos, b->eos, (size_t)a->num_eos * sizeof *a->eos);
}

/* Sets what differs between c and `was`, the struct that root reads as. */
static void write_changes(struct writer *w, const struct model_config *c,
                          const struct model_config *was)
{
    const struct {
        const char *key;
        int32_t now, before;
    } ints[] = {{"num_key_value_heads", c->num_kv_heads, was->num_kv_heads},
                {"head_dim", c->head_dim, was->head_dim},
                {"max_position_embeddings", c->max_positions, was->max_positions}},
      flags[] = {{"tie_word_embeddings", c->tied, was->tied},
                 {"attention_bias", c->o_bias, was->o_bias},
                 {"mlp_bias", c->mlp_bias, was->mlp_bias}};
    for (size_t i = 0; i < INT_KEYS; i++)
        if (*int_of(c, &int_keys[i]) != *int_of(was, &int_keys[i]))
            set(w, int_keys[i].key, json_integer(*int_of(c, &int_keys[i])));
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (ints[i].now != ints[i].before) set(w, ints[i].key, json_integer(ints[i].now));
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (flags[i].now != flags[i].before) set(w, flags[i].key, json_boolean(flags[i].now));
    if (c->norm_eps != was->norm_eps) set(w, "rms_norm_eps", json_real(c->norm_eps));
    if (c->initializer_range != was->initializer_range)
        set(w, "initializer_range", json_real(c->initializer_range));
    if (c->bos != was->bos) set(w, "bos_token_id", c->bos < 0 ? json_null() : json_integer(c->bos));
    if (!same_eos(c, was)) write_eos(w, c);
    if (!same_rope(&c->rope, &was->rope)) write_rope(w, &c->rope);
    if (c->window != was->window || c->window_layer != was->window_layer ||
        c->num_layers != was->num_layers)
        write_window(w, c);
    write_names(w, c, c->dtype != was->dtype);
}

enum status model_config_json(const struct model_config *c, json_t **out, struct err *e)
{
    struct model_config was = {.bos = -2, .num_eos = -1, .window = -1};
    struct writer w = {c->source ? json_deep_copy(c->source) : json_object(), 0};
    enum status s = OK;
    *out = NULL;
    if (w.root && c->source) s = model_config_parse(&was, w.root, "config.json", e);
    if (!s && w.root) write_changes(&w, c, &was);
    if (!s && (!w.root || w.failed)) s = err_set(e, ERR_MEMORY, "no memory for config.json");
    model_config_free(&was);
    if (s)
        json_decref(w.root);
    else
        *out = w.root;
    return s;
}

enum status model_config_write(const struct model_config *c, const char *path, struct err *e)
{
    json_t *root;
    TRY(model_config_json(c, &root, e));
    enum status s = json_write_file(root, path, e);
    json_decref(root);
    return s;
}
