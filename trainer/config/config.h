/* config.h - YAML and key=value overrides to one typed struct, through the key table (keys.h).
 *
 *     struct config c;
 *     if (config_load(&c, "alpaca.yaml", overrides, n, &e)) goto out;
 *     if (config_require(&c, KEY_output_dir, &e)) goto out;
 *     ... c.learning_rate, c.datasets.items[0].path ...
 *     if (!found) return config_fail(&c, KEY_template, &e, "no template named %s", c.template);
 *     config_free(&c);
 *
 * A config is one flat YAML mapping; only `datasets` and `eval_dataset` hold mappings. A value
 * written null, ~, or left empty gives the key its default back. Overrides come after the
 * file and win. Relative paths are kept as written, so they are relative to the current
 * directory, as in Hugging Face's tools, not to the config file.
 *
 * Spellings of axolotl, LLaMA-Factory, FastChat and others are taken as aliases, each with a
 * notice in the log. What would not be honoured is refused: an unknown key (with the nearest
 * known one), a key or value that this version does not support yet, a key that needs another
 * one (lora_r without finetuning: lora), two keys that exclude each other. Where max_steps and
 * num_train_epochs meet, or val_size and eval_dataset, the one on the command line beats the other
 * in the file.
 */
#ifndef CRIA_CONFIG_CONFIG_H
#define CRIA_CONFIG_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "config/keys.h"

#define CONFIG_FILE_MAX ((size_t)1 << 20) /* bytes */
#define CONFIG_EPOCH (-1)                 /* of eval_steps and save_steps: at the end of each */
#define CONFIG_SPIKE_WINDOW_MAX 1000

/* The words of keys.h, in its order. */
enum config_save_dtype { CONFIG_SAVE_AUTO, CONFIG_SAVE_FP32, CONFIG_SAVE_BF16, CONFIG_SAVE_FP16 };
enum config_stage {
    CONFIG_STAGE_PT,
    CONFIG_STAGE_SFT,
    CONFIG_STAGE_DPO,
    CONFIG_STAGE_KTO,
    CONFIG_STAGE_DPO_LOSSES /* from here on names of losses: the config then holds dpo */
};
enum config_f_divergence_type {
    CONFIG_F_REVERSE_KL,
    CONFIG_F_FORWARD_KL,
    CONFIG_F_JS_DIVERGENCE,
    CONFIG_F_ALPHA_DIVERGENCE
};
enum config_train_on { CONFIG_TRAIN_ASSISTANT, CONFIG_TRAIN_LAST, CONFIG_TRAIN_ALL };
enum config_compat { CONFIG_COMPAT_NONE, CONFIG_COMPAT_FASTCHAT, CONFIG_COMPAT_TRL };
enum config_val_split { CONFIG_VAL_DOCUMENT, CONFIG_VAL_HASH };
enum config_mix_strategy { CONFIG_MIX_CONCAT, CONFIG_MIX_UNDER, CONFIG_MIX_OVER };
enum config_order { CONFIG_ORDER_SHUFFLED, CONFIG_ORDER_PROGRESSIVE, CONFIG_ORDER_SEQUENTIAL };
enum config_add_special_tokens { CONFIG_ADD_AUTO, CONFIG_ADD_NEVER };
enum config_loss_reduction { CONFIG_TOKEN_MEAN, CONFIG_MICROBATCH_MEAN };
enum config_lr_scheduler_type {
    CONFIG_LR_LINEAR,
    CONFIG_LR_COSINE,
    CONFIG_LR_COSINE_WITH_MIN_LR,
    CONFIG_LR_CONSTANT,
    CONFIG_LR_CONSTANT_WITH_WARMUP
};
enum config_optim { CONFIG_OPTIM_ADAMW, CONFIG_OPTIM_ADAMW_8BIT };
enum config_finetuning { CONFIG_FULL, CONFIG_LORA };
enum config_device {
    CONFIG_DEVICE_AUTO,
    CONFIG_DEVICE_CPU,
    CONFIG_DEVICE_NULL,
    CONFIG_DEVICE_CUDA
};
enum config_precision { CONFIG_PRECISION_AUTO, CONFIG_PRECISION_FP32, CONFIG_PRECISION_BF16 };
enum config_attention {
    CONFIG_ATTENTION_AUTO,
    CONFIG_ATTENTION_PLAIN,
    CONFIG_ATTENTION_FLASH,
    CONFIG_ATTENTION_HOPPER,
    CONFIG_ATTENTION_CUDNN
};
enum config_gradient_checkpointing {
    CONFIG_CHECKPOINT_NONE,
    CONFIG_CHECKPOINT_SELECTIVE,
    CONFIG_CHECKPOINT_FULL,
    CONFIG_CHECKPOINT_OFFLOAD,
    CONFIG_CHECKPOINT_AUTO
};
enum config_cuda_graphs {
    CONFIG_CUDA_GRAPHS_AUTO,
    CONFIG_CUDA_GRAPHS_TRUE,
    CONFIG_CUDA_GRAPHS_FALSE
};
enum config_async_save { CONFIG_ASYNC_SAVE_AUTO, CONFIG_ASYNC_SAVE_TRUE, CONFIG_ASYNC_SAVE_FALSE };
enum config_metric_for_best_model {
    CONFIG_BEST_LOSS,
    CONFIG_BEST_ACCURACY,
    CONFIG_BEST_PREFERENCE,
    CONFIG_BEST_MARGIN
};
enum config_on_nan { CONFIG_NAN_STOP, CONFIG_NAN_SKIP };
enum config_on_spike { CONFIG_SPIKE_NONE, CONFIG_SPIKE_WARN, CONFIG_SPIKE_SKIP, CONFIG_SPIKE_STOP };
enum config_on_disk_full { CONFIG_DISK_FULL_STOP, CONFIG_DISK_FULL_CONTINUE };

struct config_list {
    const char *const *items;
    size_t n;
};

/* What a dataset's file calls something: "field_instruction" is its "query". */
struct config_name {
    const char *ours, *theirs;
    long line, column; /* in the config file; 0: not from the file */
};

struct config_dataset {
    const char *path;
    const char *split;               /* NULL once loaded: files are named (split.h) */
    const char *format;              /* "auto" unless given; the data room knows the names */
    const char *sample_by;           /* "line" unless given */
    const char *template;            /* of this dataset alone; NULL: as the run's */
    double weight;                   /* share of an epoch, relative; 0: not given */
    double fraction;                 /* of its documents; 1 unless given */
    int64_t max_samples;             /* 0: not given */
    int64_t repeat;                  /* passes an epoch; 1 unless given */
    const struct config_name *names; /* [num_names] field_... and role_...; those of one that stands
                                        for several lie together */
    size_t num_names;
    long line; /* in the config file; 0: not from the file */
};

struct config_datasets {
    const struct config_dataset *items;
    size_t n;
};

enum config_key {
#define S(title)
#define X(name, ...) KEY_##name,
    CONFIG_KEYS(S, X)
#undef X
#undef S
        CONFIG_NUM_KEYS
};

/* Where a value comes from. */
struct config_origin {
    enum { CONFIG_FROM_DEFAULT, CONFIG_FROM_FILE, CONFIG_FROM_COMMAND_LINE } source;
    long line, column;    /* in the file; 0 otherwise */
    const char *spelling; /* the key as it was written: its name or an alias */
};

struct config_block; /* memory of strings and lists */

/* Read only for everyone but this room. Everything pointed to lives as long as the config. */
struct config {
#define CONFIG_FIELD_STRING const char *
#define CONFIG_FIELD_INT int64_t
#define CONFIG_FIELD_REAL double
#define CONFIG_FIELD_FLAG int
#define CONFIG_FIELD_CHOICE int
#define CONFIG_FIELD_STEPS int64_t
#define CONFIG_FIELD_LIST struct config_list
#define CONFIG_FIELD_TEXTS struct config_list
#define CONFIG_FIELD_DATASETS struct config_datasets
#define S(title)
#define X(name, kind, ...) CONFIG_FIELD_##kind name;
    CONFIG_KEYS(S, X)
#undef X
#undef S
    struct config_origin origin[CONFIG_NUM_KEYS];
    const char *file; /* NULL: none */
    struct config_block *blocks;
};

/* Fills *c (whatever it held) from the defaults, the file (NULL: none) and overrides
 * "key=value", in this order; on failure *c is empty. config_free takes both.
 * ERR_CONFIG (anything wrong in the text), ERR_UNSUPPORTED (a known key or value that this
 * version does not honour), ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status config_load(struct config *c, const char *path, const char *const *overrides,
                                   size_t num_overrides, struct err *e);
void config_free(struct config *c); /* zeroed is fine */

const char *config_name(enum config_key key);
int config_is_set(const struct config *c, enum config_key key); /* not by default */

/* "alpaca.yaml:12", "command line" or "default" into out[size]. */
void config_where(const struct config *c, enum config_key key, char *out, size_t size);

/* Fills *e with "key: message" and the value's place; returns ERR_CONFIG. For what only a loss,
 * a template table or a model can know to be wrong. */
enum status config_fail(const struct config *c, enum config_key key, struct err *e, const char *fmt,
                        ...) PRINTF_LIKE(4, 5);

/* Puts the key and its place before what *e already says; its hint and code stay. */
enum status config_blame(const struct config *c, enum config_key key, struct err *e);

/* ERR_CONFIG with a hint when a key without a default (a path, datasets, a template) is empty. */
MUST_CHECK enum status config_require(const struct config *c, enum config_key key, struct err *e);

/* The word of a CHOICE key's value, as first spelled in its row: "cosine". */
const char *config_word(const struct config *c, enum config_key key);

/* Whether a LIST key's value has this word. */
int config_has(const struct config *c, enum config_key key, const char *word);

/* One key as the resolved config has it: appends its value, in YAML. ERR_MEMORY, ERR_FORMAT. */
MUST_CHECK enum status config_value_text(const struct config *c, enum config_key key,
                                         struct buf *out);
const char *config_section(enum config_key key);                        /* "Data" */
const char *config_unused(const struct config *c, enum config_key key); /* what the key would need
                                                                to be honoured; NULL: it is */

/* Appends YAML with every key, its value and where it came from in a comment; loading it
 * gives the same config. Keys that do not apply are commented out. ERR_MEMORY, ERR_FORMAT (over
 * out->max). */
MUST_CHECK enum status config_resolve(const struct config *c, struct buf *out);

/* The same for the keys that are not by default, a line each, indented. */
MUST_CHECK enum status config_resolve_set(const struct config *c, struct buf *out);

/* The version of libyaml in use: "0.2.5". */
const char *config_yaml_version(void);

/* Appends the list of keys with kind, default and meaning. Errors as above. */
MUST_CHECK enum status config_help(struct buf *out);

/* The one of names[0..n) nearest to `text` by edits (insert, delete, replace, swap neighbours; case
 * is free), NULL if none is near enough to be meant. */
const char *config_nearest(const char *text, const char *const *names, size_t n);

#endif
