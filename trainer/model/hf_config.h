/* hf_config.h - config.json of a Hugging Face model directory: read, checked, written back.
 *
 * One struct says all that decides the arithmetic of the four families cria knows. The reader
 * takes the old spelling (torch_dtype, rope_theta, rope_scaling with "type" or "rope_type") and
 * the new one (dtype, rope_parameters), fills in what the family's configuration class defaults to,
 * and checks every bound, so that later code may multiply sizes without fear. What would change
 * the arithmetic and is not done here is refused by name.
 *
 * The parsed file stays with the struct: the writer gives it back with only those keys changed
 * whose value in the struct no longer is what the file said. Unknown keys are kept and not looked
 * at.
 */
#ifndef CRIA_MODEL_HF_CONFIG_H
#define CRIA_MODEL_HF_CONFIG_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/kernels.h" /* enum dtype */

/* A row of the family table. */
struct model_family {
    const char *name;         /* model_type: "llama" */
    const char *architecture; /* "LlamaForCausalLM" */
    unsigned flags;           /* enum family_flags */
    /* what an absent key means; 0: as many as query heads, hidden / heads */
    int32_t kv_heads, head_dim, max_positions, window;
    int32_t bos, eos; /* -1: none */
};

enum family_flags {
    FAMILY_ATTENTION_BIAS_KEY = 1, /* attention_bias puts biases on q, k, v and o */
    FAMILY_QKV_BIAS = 2,           /* q, k, v always have one, o never */
    FAMILY_MLP_BIAS_KEY = 4,       /* mlp_bias is honoured */
    FAMILY_QK_NORM = 8,            /* RMSNorm over the head size on q and k, before rope */
    FAMILY_WINDOW = 16,            /* sliding_window is honoured, on every layer */
    FAMILY_WINDOW_SWITCH = 32,     /* ... if use_sliding_window, from max_window_layers on */
    FAMILY_SQUARE = 64,            /* hidden_size must be a multiple of the heads in any case */
};

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3 };

struct rope_config {
    enum rope_kind kind;
    double theta;
    double factor;              /* linear, llama3 */
    double low_freq, high_freq; /* llama3 */
    int64_t original_positions; /* llama3 */
};

#define MODEL_EOS_MAX 8

struct model_config {
    const struct model_family *family;
    int32_t vocab_size, hidden_size, intermediate_size, num_layers;
    int32_t num_heads, num_kv_heads, head_dim; /* heads a multiple of kv heads; head_dim even */
    int32_t max_positions;
    double norm_eps;
    struct rope_config rope;
    int32_t window;       /* keys a row sees, itself included; 0: all. See model_config_window */
    int32_t window_layer; /* layers from this one on have the window */
    int qkv_bias, o_bias, mlp_bias;
    int qk_norm;
    int tied; /* the head is the embedding */
    double initializer_range;
    int32_t bos;                         /* -1: none */
    int32_t eos[MODEL_EOS_MAX], num_eos; /* 0 ... MODEL_EOS_MAX of them */
    enum dtype dtype;                    /* of the stored weights; F32 if not said */
    int has_dtype;                       /* the file said so */
    json_t *source;                      /* owned; what the file held */
};

/* `path` is a config.json or a directory that has one. ERR_IO, ERR_MEMORY; ERR_FORMAT (not JSON, a
 * wrong type, a value out of range: names the key and what it may be); ERR_UNSUPPORTED (another
 * family, activation, rope or a quantised model: names what there is instead). On failure *out is
 * zeroed. */
MUST_CHECK enum status model_config_read(struct model_config *out, const char *path, struct err *e);

/* The same for a parsed object, which is copied. `where` names it in messages. */
MUST_CHECK enum status model_config_parse(struct model_config *out, const json_t *object,
                                          const char *where, struct err *e);

void model_config_free(struct model_config *c); /* a zeroed one is fine */

/* The config as an object that transformers loads: `source` with what differs changed;
 * architectures, model_type and the dtype are always there. The caller json_decref's *out.
 * ERR_MEMORY. */
MUST_CHECK enum status model_config_json(const struct model_config *c, json_t **out, struct err *e);

/* That, into the file `path`. ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status model_config_write(const struct model_config *c, const char *path,
                                          struct err *e);

/* Keys a row of this layer sees; 0: all. */
int32_t model_config_window(const struct model_config *c, int32_t layer);

/* Numbers the model has, head and embedding counted once when tied. Cannot overflow. */
int64_t model_config_parameters(const struct model_config *c);

#endif
