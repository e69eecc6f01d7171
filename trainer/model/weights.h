/* weights.h - which weights a model has: one row a name.
 *
 * The order is the order in memory. A row marked JOINED continues the one before it, so q, k, v
 * (and gate, up) are one matrix each; see autograd/param.h.
 */
#ifndef CRIA_MODEL_WEIGHTS_H
#define CRIA_MODEL_WEIGHTS_H

#include "autograd/param.h"
#include "model/hf_config.h"

/* name, Hugging Face name below "model.layers.N.", rows, columns, param flags, present when */
#define LAYER_WEIGHTS(X)                                                                     \
    X(INPUT_NORM, "input_layernorm.weight", 1, hidden(c), PARAM_VECTOR, 1)                   \
    X(Q, "self_attn.q_proj.weight", queries(c), hidden(c), 0, 1)                             \
    X(K, "self_attn.k_proj.weight", keys(c), hidden(c), PARAM_JOINED, 1)                     \
    X(V, "self_attn.v_proj.weight", keys(c), hidden(c), PARAM_JOINED, 1)                     \
    X(Q_BIAS, "self_attn.q_proj.bias", 1, queries(c), PARAM_VECTOR, c->qkv_bias)             \
    X(K_BIAS, "self_attn.k_proj.bias", 1, keys(c), PARAM_VECTOR | PARAM_JOINED, c->qkv_bias) \
    X(V_BIAS, "self_attn.v_proj.bias", 1, keys(c), PARAM_VECTOR | PARAM_JOINED, c->qkv_bias) \
    X(Q_NORM, "self_attn.q_norm.weight", 1, c->head_dim, PARAM_VECTOR, c->qk_norm)           \
    X(K_NORM, "self_attn.k_norm.weight", 1, c->head_dim, PARAM_VECTOR, c->qk_norm)           \
    X(O, "self_attn.o_proj.weight", hidden(c), queries(c), 0, 1)                             \
    X(O_BIAS, "self_attn.o_proj.bias", 1, hidden(c), PARAM_VECTOR, c->o_bias)                \
    X(MLP_NORM, "post_attention_layernorm.weight", 1, hidden(c), PARAM_VECTOR, 1)            \
    X(GATE, "mlp.gate_proj.weight", c->intermediate_size, hidden(c), 0, 1)                   \
    X(UP, "mlp.up_proj.weight", c->intermediate_size, hidden(c), PARAM_JOINED, 1)            \
    X(GATE_BIAS, "mlp.gate_proj.bias", 1, c->intermediate_size, PARAM_VECTOR, c->mlp_bias)   \
    X(UP_BIAS, "mlp.up_proj.bias", 1, c->intermediate_size, PARAM_VECTOR | PARAM_JOINED,     \
      c->mlp_bias)                                                                           \
    X(DOWN, "mlp.down_proj.weight", hidden(c), c->intermediate_size, 0, 1)                   \
    X(DOWN_BIAS, "mlp.down_proj.bias", 1, hidden(c), PARAM_VECTOR, c->mlp_bias)

enum layer_weight {
#define X(name, ...) WEIGHT_##name,
    LAYER_WEIGHTS(X)
#undef X
        NUM_LAYER_WEIGHTS
};

#define WEIGHT_EMBEDDING "model.embed_tokens.weight"
#define WEIGHT_FINAL_NORM "model.norm.weight"
#define WEIGHT_HEAD "lm_head.weight"

/* One row for one config. */
struct weight_shape {
    const char *suffix;
    int32_t rows, cols;
    unsigned flags;
    int present;
};
struct weight_shape model_weight_shape(const struct model_config *c, enum layer_weight w);

/* "model.layers.3.self_attn.q_proj.weight" into out[size]. */
void model_weight_name(char *out, size_t size, int32_t layer, enum layer_weight w);

#endif
