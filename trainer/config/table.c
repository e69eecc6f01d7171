#include "config/table.h"

#include <string.h>
#include <strings.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define ANY
#define RANGE(a, b) .low = (a), .high = (b)
#define WORDS(...) .words = (const char *const[]){__VA_ARGS__, NULL},
#define LATER(...) \
    .later = (const char *const[]) { __VA_ARGS__, NULL }

const struct config_row config_rows[CONFIG_NUM_KEYS] = {
#define S(title)
#define X(key, kind_, preset_, bounds, when_, help_) \
    {.name = #key,                                   \
     .kind = KIND_##kind_,                           \
     .offset = offsetof(struct config, key),         \
     .preset = preset_,                              \
     .when = when_,                                  \
     .help = help_,                                  \
     bounds},
    CONFIG_KEYS(S, X)
#undef X
#undef S
};

const struct config_outline config_outline[] = {
#define S(title) {title, -1},
#define X(key, ...) {NULL, KEY_##key},
    CONFIG_KEYS(S, X)
#undef X
#undef S
};
const size_t config_outline_length = COUNT(config_outline);

const struct config_stage_default config_stage_defaults[] = {
    {CONFIG_STAGE_DPO, KEY_learning_rate, "1e-6"},
    {CONFIG_STAGE_KTO, KEY_learning_rate, "1e-6"},
    {CONFIG_STAGE_DPO, KEY_loss_type, "sigmoid"},
    {CONFIG_STAGE_KTO, KEY_loss_type, "kto"},
};
const size_t config_num_stage_defaults = COUNT(config_stage_defaults);

int config_find(const char *name)
{
    for (int key = 0; key < CONFIG_NUM_KEYS; key++)
        if (!strcmp(config_rows[key].name, name)) return key;
    return -1;
}

size_t config_names(const char *names[CONFIG_MAX_NAMES])
{
    size_t n = 0;
    for (int key = 0; key < CONFIG_NUM_KEYS; key++) names[n++] = config_rows[key].name;
    for (size_t i = 0; i < config_num_aliases; i++) names[n++] = config_aliases[i].spelling;
    return n;
}

const char *config_kind_text(enum config_kind kind)
{
    static const char *const texts[] = {
#define X(name, text) text,
        CONFIG_KINDS(X)
#undef X
    };
    return texts[kind];
}

static int always(const struct config *c) { return (void)c, 1; }
static int is_sft(const struct config *c) { return c->stage == CONFIG_STAGE_SFT; }
static int is_dpo(const struct config *c) { return c->stage == CONFIG_STAGE_DPO; }
static int is_kto(const struct config *c) { return c->stage == CONFIG_STAGE_KTO; }
static int has_preferences(const struct config *c) { return is_dpo(c) || is_kto(c); }
static int has_chats(const struct config *c) { return c->stage != CONFIG_STAGE_PT; }
static int has_alpha(const struct config *c)
{
    return c->f_divergence_type == CONFIG_F_ALPHA_DIVERGENCE;
}
static int evaluates(const struct config *c) { return c->val_size > 0 || c->eval_dataset.n; }
static int evaluates_or_never(const struct config *c) { return evaluates(c) || !c->eval_steps; }
static int goes_by_epochs(const struct config *c) { return c->max_steps < 0; }
static int is_lora(const struct config *c) { return c->finetuning == CONFIG_LORA; }

static int warms_up(const struct config *c)
{
    return c->lr_scheduler_type != CONFIG_LR_CONSTANT || c->warmup_steps == 0;
}

static int has_floor(const struct config *c)
{
    return c->lr_scheduler_type == CONFIG_LR_COSINE_WITH_MIN_LR || c->min_lr_rate == 0;
}

static int looks_for_spikes(const struct config *c) { return c->on_spike != CONFIG_SPIKE_NONE; }

static int may_skip(const struct config *c)
{
    return c->on_nan == CONFIG_NAN_SKIP || c->on_spike == CONFIG_SPIKE_SKIP;
}

int config_applies(const struct config *c, enum config_key key, const char **wants,
                   enum config_key *because)
{
    static const struct {
        int (*holds)(const struct config *c);
        enum config_key because;
        const char *wants;
    } rules[] = {
        [ALWAYS] = {always, 0, ""},
        [STAGE_SFT_ONLY] = {is_sft, KEY_stage, "stage: sft"},
        [CHAT_ONLY] = {has_chats, KEY_stage, "stage: sft, dpo or kto"},
        [PREFERENCE_ONLY] = {has_preferences, KEY_stage, "stage: dpo or kto"},
        [DPO_ONLY] = {is_dpo, KEY_stage, "stage: dpo"},
        [KTO_ONLY] = {is_kto, KEY_stage, "stage: kto"},
        [ALPHA_ONLY] = {has_alpha, KEY_f_divergence_type, "f_divergence_type: alpha_divergence"},
        [EVAL_ONLY] = {evaluates, KEY_val_size, "val_size or eval_dataset"},
        [EVAL_STEPS_ONLY] = {evaluates_or_never, KEY_val_size, "val_size or eval_dataset"},
        [WARMUP_ONLY] = {warms_up, KEY_lr_scheduler_type, "a schedule with a warm-up"},
        [MIN_LR_ONLY] = {has_floor, KEY_lr_scheduler_type, "lr_scheduler_type: cosine_with_min_lr"},
        [EPOCHS_ONLY] = {goes_by_epochs, KEY_max_steps, "max_steps: -1"},
        [LORA_ONLY] = {is_lora, KEY_finetuning, "finetuning: lora"},
        [SPIKE_ONLY] = {looks_for_spikes, KEY_on_spike, "on_spike: warn, skip or stop"},
        [SKIP_ONLY] = {may_skip, KEY_on_nan, "on_nan: skip or on_spike: skip"},
    };
    enum config_when when = config_rows[key].when;
    *wants = rules[when].wants;
    *because = rules[when].because;
    return rules[when].holds(c);
}

int config_parse_flag(const char *text)
{
    static const char *const words[2][5] = {{"false", "no", "off", "n", "0"},
                                            {"true", "yes", "on", "y", "1"}};
    for (int flag = 0; flag < 2; flag++)
        for (size_t i = 0; i < COUNT(words[flag]); i++)
            if (!strcasecmp(words[flag][i], text)) return flag;
    return -1;
}
