/* peft.h - LoRA adapters on disk, as PEFT lays them out.
 *
 * A directory with adapter_config.json and adapter_model.safetensors. A module "path" is the
 * linear's name in the base model, "model.layers.0.self_attn.q_proj"; its tensors are
 *
 *     base_model.model.<path>.lora_A.weight   [r, in]
 *     base_model.model.<path>.lora_B.weight   [out, r]
 *
 * and y = W x + s B A x, s = lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora. Beside these
 * an adapter may hold
 *
 *     base_model.model.<path>.weight                            modules_to_save: a module's new
 *                                                               weight, of paths that end so
 *     base_model.model.<path>.token_adapter.trainable_tokens_delta  [n, C]: the new rows (not
 *                                                               differences) of the tokens in
 *                                                               trainable_token_indices, for the
 *                                                               embedding and, unless it is the
 *                                                               same table, the head
 *
 * Reading, the tensors say which modules are adapted; the config's target_modules is kept as it
 * was and need not be understood. Every feature of PEFT that would change what is computed and is
 * not plain LoRA is refused by name. Unknown keys are warned of (log.h), since newer versions add
 * some.
 */
#ifndef CRIA_CKPT_PEFT_H
#define CRIA_CKPT_PEFT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "ckpt/safetensors.h"

#define PEFT_CONFIG_FILE "adapter_config.json"
#define PEFT_WEIGHTS_FILE "adapter_model.safetensors"
#define PEFT_EMBEDDING "embed_tokens" /* last components, as trainable_token_indices has them */
#define PEFT_HEAD "lm_head"

struct peft_config {
    int32_t r;
    double lora_alpha, lora_dropout;
    int use_rslora;
    const char *base_model;          /* base_model_name_or_path; NULL: null */
    json_t *target_modules;          /* a list of strings, or one string: a regex, "all-linear" */
    json_t *modules_to_save;         /* a list of strings; NULL: null */
    json_t *trainable_token_indices; /* a list of ids, or {"embed_tokens": ids, "lm_head": ids};
                                        NULL: null */
    json_t *source; /* owns the four above when read from a file; else NULL, and they are the
                       caller's */
};

/* `path` is an adapter_config.json or a directory that has one. ERR_IO, ERR_MEMORY, ERR_FORMAT,
 * ERR_UNSUPPORTED (the message names the key). */
MUST_CHECK enum status peft_config_read(struct peft_config *out, const char *path, struct err *e);
void peft_config_free(struct peft_config *c); /* what a read took; a zeroed one is fine */

/* The 41 keys that PEFT 0.21.2 writes, sorted. ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status peft_config_write(const struct peft_config *c, const char *path,
                                         struct err *e);

double peft_scale(const struct peft_config *c); /* s */

enum peft_part { PEFT_A, PEFT_B };

/* The tensor's name for a module's path, into out[size]. ERR_SHAPE when it does not fit. */
MUST_CHECK enum status peft_key(char *out, size_t size, const char *path, enum peft_part part,
                                struct err *e);

/* One adapted linear. Valid until peft_close. */
struct peft_module {
    char *path;
    const struct tensor_info *a, *b; /* [r, in], [out, r] */
};

struct peft_adapter {
    struct peft_config config;
    struct tensor_files *files;
    struct peft_module *modules; /* by tensor name */
    size_t num_modules;
    const char **saved; /* paths of the modules whose weights are there */
    size_t num_saved;
    int32_t *tokens; /* ids whose rows are there */
    size_t num_tokens;
    int head_rows; /* rows of the head too, not of the embedding alone */
};

/* Reads an adapter's config and headers: each A has its B, both of rank r. As above, and ERR_SHAPE.
 * The weights come through tensor_read_float(adapter.files, module.a, ...). */
MUST_CHECK enum status peft_open(struct peft_adapter *out, const char *dir, struct err *e);
void peft_close(struct peft_adapter *a); /* a zeroed one is fine */

/* The module of this path; NULL: not adapted. */
const struct peft_module *peft_find(const struct peft_adapter *a, const char *path);

#endif
