#include "run/identity.h"

#define SET(key, ...) TRY(fingerprint_set(f, e, key, __VA_ARGS__))

static enum status identity_machine(struct session *s, struct fingerprint *f, struct err *e)
{
    char machine[256];
    s->engine.device.k->describe(&s->engine.device, machine, sizeof machine);
    SET("device", "%s", machine);
    SET("base_files", "%s", s->engine.base_hash);
    SET("dataset", "%s", store_info(s->store)->content_hash);
    SET("tokenizer", "%s", tokenizer_hash(s->tokenizer));
    return OK;
}

/* What the loss of preferences depends on, key by key as the resolved config has it. */
static enum status identity_preferences(struct session *s, struct fingerprint *f, struct err *e)
{
    static const enum config_key keys[] = {
        KEY_stage,          KEY_loss_type,         KEY_loss_weights,
        KEY_beta,           KEY_label_smoothing,   KEY_f_divergence_type,
        KEY_ld_alpha,       KEY_use_weighting,     KEY_f_alpha_divergence_coef,
        KEY_cpo_alpha,      KEY_simpo_gamma,       KEY_desirable_weight,
        KEY_prefix_sharing, KEY_undesirable_weight};
    enum status status = OK;
    for (size_t i = 0; !status && i < sizeof keys / sizeof *keys; i++) {
        struct buf text;
        buf_init(&text, 1 << 12);
        status = config_value_text(s->config, keys[i], &text);
        if (status)
            err_set(e, status, "no memory for the fingerprint");
        else
            status = fingerprint_set(f, e, config_name(keys[i]), "%s", text.data);
        buf_free(&text);
    }
    if (!status) status = fingerprint_set(f, e, "reference", "%s", s->reference_hash);
    return status;
}

static enum status identity_config(struct session *s, struct fingerprint *f, struct err *e)
{
    const struct config *c = s->config;
    char mixture[HASH_HEX_SIZE];
    SET("finetuning", "%s", config_word(c, KEY_finetuning));
    SET("seed", "%lld", (long long)c->seed);
    SET("max_length", "%lld", (long long)c->max_length);
    SET("packing", "%d", c->packing);
    SET("val_size", "%.17g", c->val_size);
    SET("order", "%s", config_word(c, KEY_order));
    TRY(mixture_hash(&s->mix, mixture, e));
    SET("mixture", "%s", mixture);
    SET("per_device_train_batch_size", "%lld", (long long)c->per_device_train_batch_size);
    SET("gradient_accumulation_steps", "%lld", (long long)c->gradient_accumulation_steps);
    SET("loss_reduction", "%s", config_word(c, KEY_loss_reduction));
    SET("total_steps", "%lld", (long long)s->total_steps);
    SET("learning_rate", "%.17g", c->learning_rate);
    SET("lr_scheduler_type", "%s", config_word(c, KEY_lr_scheduler_type));
    SET("warmup_steps", "%.17g", c->warmup_steps);
    SET("min_lr_rate", "%.17g", c->min_lr_rate);
    SET("weight_decay", "%.17g", c->weight_decay);
    SET("max_grad_norm", "%.17g", c->max_grad_norm);
    SET("adam", "%.17g %.17g %.17g%s", c->adam_beta1, c->adam_beta2, c->adam_epsilon,
        c->optim == CONFIG_OPTIM_ADAMW_8BIT ? " 8bit" : "");
    if (s->aligns) TRY(identity_preferences(s, f, e));
    if (!s->engine.has_lora) return OK;
    SET("lora", "r %d alpha %.17g dropout %.17g rslora %d", (int)s->lora.r, s->lora.alpha,
        s->lora.dropout, s->lora.rslora);
    return OK;
}

/* Only where there are any. */
static enum status identity_tokens(struct session *s, struct fingerprint *f, struct err *e)
{
    char hash[HASH_HEX_SIZE];
    if (!s->num_trained_tokens) return OK;
    struct hasher *h = hasher_create();
    if (!h) return err_set(e, ERR_MEMORY, "no memory for the fingerprint");
    hasher_bytes(h, s->trained_tokens, s->num_trained_tokens * sizeof *s->trained_tokens);
    hasher_hex(h, hash);
    hasher_destroy(h);
    SET("trained_tokens", "%zu: %s", s->num_trained_tokens, hash);
    return OK;
}

enum status identity_make(struct session *s, struct fingerprint *f, struct err *e)
{
    TRY(identity_machine(s, f, e));
    TRY(identity_tokens(s, f, e));
    return identity_config(s, f, e);
}
