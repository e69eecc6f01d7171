/* table.h - the rows of keys.h as data, and the words that other tools use. Private to config/.
 *
 * A key is looked up in three tables, in this order: the keys, the aliases (another tool's name
 * for a key), the strangers (a name cria knows and does not honour); peers.c has the last two.
 */
#ifndef CRIA_CONFIG_TABLE_H
#define CRIA_CONFIG_TABLE_H

#include "config/config.h"

#define CONFIG_KINDS(X)      \
    X(STRING, "text")        \
    X(INT, "whole number")   \
    X(REAL, "number")        \
    X(FLAG, "true or false") \
    X(CHOICE, "word")        \
    X(STEPS, "steps")        \
    X(LIST, "list")          \
    X(TEXTS, "texts")        \
    X(DATASETS, "files")

enum config_kind {
#define X(name, text) KIND_##name,
    CONFIG_KINDS(X)
#undef X
};

/* When a key is honoured; config_applies decides. */
enum config_when {
    ALWAYS,
    STAGE_SFT_ONLY,
    CHAT_ONLY,       /* there are conversations, so there is a template */
    PREFERENCE_ONLY, /* stage dpo or kto */
    DPO_ONLY,
    KTO_ONLY,
    ALPHA_ONLY,      /* the divergence has an alpha */
    EVAL_ONLY,       /* there is something to evaluate on */
    EVAL_STEPS_ONLY, /* the same, or there are to be no evaluations */
    WARMUP_ONLY,     /* the schedule has a warm-up, or none is asked for */
    MIN_LR_ONLY,     /* the schedule has a floor, or none is asked for */
    EPOCHS_ONLY,     /* max_steps does not say how long */
    LORA_ONLY,
    SPIKE_ONLY, /* somebody looks for spikes */
    SKIP_ONLY   /* steps may be left out */
};

struct config_row {
    const char *name;
    enum config_kind kind;
    size_t offset;      /* of the field in struct config */
    const char *preset; /* the default, as one would write it */
    double low, high;
    const char *const *words, *const *later; /* NULL-terminated */
    enum config_when when;
    const char *help;
};

/* In the order of enum config_key. */
extern const struct config_row config_rows[CONFIG_NUM_KEYS];

/* Sections and keys as a reader sees them: a title, or (NULL) a key. */
struct config_outline {
    const char *title;
    int key;
};
extern const struct config_outline config_outline[];
extern const size_t config_outline_length;

struct config_alias {
    const char *spelling, *tool;
    enum config_key key;
    double below;         /* a value must be smaller than this; 0: any */
    const char *yes, *no; /* a flag of theirs: what its two values mean here; no NULL: nothing */
    const char *silent;   /* words (separated by |) that say nothing here; NULL: none */
};

/* A name that is no key. `harmless` values (separated by |) change nothing here and pass with a
 * notice; "*": all do. Without a value (axolotl's examples are full of such lines) it says nothing
 * and passes unsaid. */
struct config_stranger {
    const char *spelling, *harmless, *advice;
    int planned; /* 1: a later version will honour it */
};

extern const struct config_alias config_aliases[];
extern const size_t config_num_aliases;
extern const struct config_stranger config_strangers[];
extern const size_t config_num_strangers;

/* What a member of a dataset is called by other tools: `inside` is the mapping that it stands in,
 * "" the dataset itself. */
struct config_member {
    const char *inside, *spelling, *name;
};
extern const struct config_member config_members[];
extern const size_t config_num_members;

/* A key's number, -1: not a key. */
int config_find(const char *name);
const struct config_alias *config_find_alias(const char *name);
const struct config_stranger *config_find_stranger(const char *name);

/* Fills a list with all names of keys and aliases; returns their number. */
#define CONFIG_MAX_NAMES 256
size_t config_names(const char *names[CONFIG_MAX_NAMES]);

/* What `word`, written as a value of `key`, stands for: itself unless it is a known synonym. */
const char *config_synonym(enum config_key key, const char *word);
/* And why it is not quite that; NULL: it is. */
const char *config_synonym_note(enum config_key key, const char *word);

/* A default that another one replaces in a stage. */
struct config_stage_default {
    int stage;
    enum config_key key;
    const char *preset;
};
extern const struct config_stage_default config_stage_defaults[];
extern const size_t config_num_stage_defaults;

const char *config_kind_text(enum config_kind kind);

/* 1 if the key is honoured in this config; otherwise *wants says what it needs, and *because is
 * the key that decides. */
int config_applies(const struct config *c, enum config_key key, const char **wants,
                   enum config_key *because);

/* Parses true/false, yes/no, on/off, y/n, 1/0 in any case; -1: none of them. */
int config_parse_flag(const char *text);

#endif
