/* hf_config_keys.h - the tables of config.json's keys and words that its reader and its writer
 * share. */
#ifndef CRIA_MODEL_HF_CONFIG_KEYS_H
#define CRIA_MODEL_HF_CONFIG_KEYS_H

#include <stddef.h>

#include "model/hf_config.h"

/* Whole numbers every file must give. The bounds are far above any model and so low that no product
 * of sizes overflows 64 bits. */
static const struct int_key {
    const char *key;
    size_t offset; /* of an int32_t */
    int32_t max;
} int_keys[] = {
    {"vocab_size", offsetof(struct model_config, vocab_size), 1 << 24},
    {"hidden_size", offsetof(struct model_config, hidden_size), 1 << 20},
    {"intermediate_size", offsetof(struct model_config, intermediate_size), 1 << 22},
    {"num_hidden_layers", offsetof(struct model_config, num_layers), 1 << 12},
    {"num_attention_heads", offsetof(struct model_config, num_heads), 1 << 16},
};
#define INT_KEYS (sizeof int_keys / sizeof *int_keys)

static const struct {
    const char *name;
    enum dtype type;
} dtypes[] = {{"float32", DTYPE_F32}, {"bfloat16", DTYPE_BF16}, {"float16", DTYPE_F16}};
#define DTYPES (sizeof dtypes / sizeof *dtypes)

static const char *const rope_names[] = {
    [ROPE_DEFAULT] = "default", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3"};
#define ROPES (sizeof rope_names / sizeof *rope_names)

static inline int32_t *int_of(const struct model_config *c, const struct int_key *k)
{
    return (int32_t *)((char *)c + k->offset);
}

static inline int present(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return v && !json_is_null(v);
}

#endif
