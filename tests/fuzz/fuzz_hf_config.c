/* config.json: read; written and read again, it says the same. */
#include "base/json.h"
#include "fuzz/fuzz.h"
#include "model/hf_config.h"

static void look_at(const struct model_config *c)
{
    FUZZ_MUST(c->num_heads > 0 && c->num_kv_heads > 0 && c->num_heads % c->num_kv_heads == 0);
    FUZZ_MUST(c->head_dim > 0 && c->head_dim % 2 == 0);
    FUZZ_MUST(model_config_parameters(c) > 0);
    for (int32_t layer = 0; layer < c->num_layers && layer < 100; layer++)
        FUZZ_MUST(model_config_window(c, layer) >= 0);
}

static int same(const struct model_config *a, const struct model_config *b)
{
    return a->family == b->family && a->vocab_size == b->vocab_size &&
           a->hidden_size == b->hidden_size && a->num_layers == b->num_layers &&
           a->num_heads == b->num_heads && a->num_kv_heads == b->num_kv_heads &&
           a->head_dim == b->head_dim && a->intermediate_size == b->intermediate_size &&
           a->max_positions == b->max_positions && a->rope.kind == b->rope.kind &&
           a->window == b->window && a->window_layer == b->window_layer && a->tied == b->tied &&
           a->num_eos == b->num_eos && a->dtype == b->dtype;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    json_t *value = NULL, *written = NULL;
    struct model_config c = {0}, again = {0};
    if (json_parse_text((const char *)data, size, "x", &value, &e)) return 0;
    enum status s = model_config_parse(&c, value, "x", &e);
    fuzz_look_at(s, &e);
    if (!s) {
        look_at(&c);
        FUZZ_MUST(!model_config_json(&c, &written, &e));
        FUZZ_MUST(!model_config_parse(&again, written, "written", &e));
        FUZZ_MUST(same(&c, &again));
    }
    model_config_free(&c);
    model_config_free(&again);
    json_decref(value);
    json_decref(written);
    return 0;
}
