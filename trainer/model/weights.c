#include "model/weights.h"

#include <stdio.h>

static int32_t hidden(const struct model_config *c) { return c->hidden_size; }
static int32_t queries(const struct model_config *c) { return c->num_heads * c->head_dim; }
static int32_t keys(const struct model_config *c) { return c->num_kv_heads * c->head_dim; }

static const char *const suffixes[] = {
#define X(name, suffix, ...) suffix,
    LAYER_WEIGHTS(X)
#undef X
};

struct weight_shape model_weight_shape(const struct model_config *c, enum layer_weight w)
{
    switch (w) { /* the table again, with this config in scope */
#define X(name, suffix, rows, cols, flags, present) \
    case WEIGHT_##name: return (struct weight_shape){suffix, rows, cols, flags, present};
        LAYER_WEIGHTS(X)
#undef X
    case NUM_LAYER_WEIGHTS: break;
    }
    return (struct weight_shape){0};
}

void model_weight_name(char *out, size_t size, int32_t layer, enum layer_weight w)
{
    snprintf(out, size, "model.layers.%d.%s", (int)layer, suffixes[w]);
}
