#include "run/preference_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int preference_stage(const struct config *c)
{
    return c->stage == CONFIG_STAGE_DPO || c->stage == CONFIG_STAGE_KTO;
}

/* --- losses --- */

#define LOSSES_SHOWN 64

static int fits_stage(const struct config *c, const struct preference_loss *l)
{
    return !(l->flags & LOSS_UNPAIRED) == (c->stage == CONFIG_STAGE_DPO);
}

/* The names of the stage's losses; returns how many. */
static size_t list_losses(const struct config *c, const char *names[LOSSES_SHOWN])
{
    const struct preference_loss *l;
    size_t n = 0;
    for (int i = 0; n < LOSSES_SHOWN && (l = preference_loss_at(i)); i++)
        if (fits_stage(c, l)) names[n++] = l->name;
    return n;
}

static enum status unknown_loss(const struct config *c, const char *name, struct err *e)
{
    const char *names[LOSSES_SHOWN], *near;
    char all[sizeof e->hint] = "";
    size_t n = list_losses(c, names), used = 0;
    config_fail(c, KEY_loss_type, e, "there is no loss \"%s\"", name);
    near = config_nearest(name, names, n);
    if (near) return err_hint(e, "did you mean %s?", near);
    for (size_t i = 0; i < n && used < sizeof all; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", names[i]);
    return err_hint(e, "there are %s", all);
}

static enum status take_losses(const struct config *c, struct preference_options *o, struct err *e)
{
    const struct config_list *list = &c->loss_type;
    if (list->n > PREFERENCE_LOSSES_MAX)
        return config_fail(c, KEY_loss_type, e, "%zu losses; at most %d are added up", list->n,
                           PREFERENCE_LOSSES_MAX);
    for (size_t i = 0; i < list->n; i++) {
        const struct preference_loss *l = preference_loss_find(list->items[i]);
        if (!l) return unknown_loss(c, list->items[i], e);
        if (!fits_stage(c, l)) {
            config_fail(c, KEY_loss_type, e, "%s is no loss of stage %s", l->name,
                        config_word(c, KEY_stage));
            return err_hint(e, "it is for stage %s", c->stage == CONFIG_STAGE_DPO ? "kto" : "dpo");
        }
        o->losses[i] = l;
        o->loss_weights[i] = 1;
    }
    o->num_losses = (int)list->n;
    return OK;
}

static enum status take_weights(const struct config *c, struct preference_options *o, struct err *e)
{
    const struct config_list *list = &c->loss_weights;
    if (!list->n) return OK;
    if (list->n != c->loss_type.n) {
        config_fail(c, KEY_loss_weights, e, "%zu weights for %zu losses", list->n, c->loss_type.n);
        return err_hint(e, "give one for each of loss_type");
    }
    for (size_t i = 0; i < list->n; i++) {
        char *end;
        o->loss_weights[i] = strtod(list->items[i], &end);
        if (*end || !isfinite(o->loss_weights[i]))
            return config_fail(c, KEY_loss_weights, e, "'%.40s' is not a number", list->items[i]);
    }
    return OK;
}

/* --- what does not go together --- */

/* The message may name the key itself, which config_blame does too. */
static enum status blame(const struct config *c, const char *name, struct err *e)
{
    size_t n = name ? strlen(name) : 0;
    if (n && !strncmp(e->message, name, n) && e->message[n] == ' ')
        memmove(e->message, e->message + n + 1, strlen(e->message + n + 1) + 1);
    for (int key = 0; key < CONFIG_NUM_KEYS; key++)
        if (name && !strcmp(name, config_name((enum config_key)key)))
            return config_blame(c, (enum config_key)key, e);
    return e->code;
}

/* Keys about a reference, where no loss has one. */
static enum status check_reference(const struct config *c, const struct preference_options *o,
                                   struct err *e)
{
    static const enum config_key keys[] = {KEY_ref_model, KEY_ref_adapter,
                                           KEY_precompute_ref_log_probs};
    if (preference_needs(o).reference) return OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!config_is_set(c, keys[i])) continue;
        config_fail(c, keys[i], e, "has no effect with loss_type %s, which needs no reference",
                    o->losses[0]->name);
        return err_hint(e, "remove it, or choose a loss with a reference");
    }
    return OK;
}

static enum status check_sources(const struct config *c, struct err *e)
{
    if (c->ref_model && c->ref_adapter) {
        config_fail(c, KEY_ref_adapter, e, "an adapter of the base; ref_model is another model");
        return err_hint(e, "merge it into that model with cria merge, or keep one of them");
    }
    if (c->ref_adapter && c->finetuning != CONFIG_LORA)
        return config_fail(c, KEY_ref_adapter, e, "has no effect without finetuning: lora");
    return OK;
}

static enum status check_mismatch(const struct config *c, const struct preference_options *o,
                                  struct err *e)
{
    if (!preference_needs(o).mismatch || c->per_device_train_batch_size > 1) return OK;
    config_fail(c, KEY_per_device_train_batch_size, e,
                "1 leaves no other reply to mismatch, and kto's KL would be the reward itself");
    return err_hint(e, "set it to 2 or more, or loss_type: apo_zero_unpaired");
}

enum status preference_config(const struct config *c, struct preference_options *out, struct err *e)
{
    const char *key = NULL;
    int divergence = divergence_find(config_word(c, KEY_f_divergence_type));
    *out = preference_defaults();
    TRY(take_losses(c, out, e));
    TRY(take_weights(c, out, e));
    out->beta = c->beta;
    out->label_smoothing = c->label_smoothing;
    out->simpo_gamma = c->simpo_gamma;
    out->cpo_alpha = c->cpo_alpha;
    out->desirable_weight = c->desirable_weight;
    out->undesirable_weight = c->undesirable_weight;
    out->divergence = divergence < 0 ? DIVERGENCE_REVERSE_KL : (enum divergence)divergence;
    out->f_alpha_divergence_coef = c->f_alpha_divergence_coef;
    out->ld_alpha = c->ld_alpha;
    out->use_weighting = c->use_weighting;
    out->reduction =
        c->loss_reduction == CONFIG_MICROBATCH_MEAN ? LOSS_MICROBATCH_MEAN : LOSS_TOKEN_MEAN;
    if (preference_check(out, &key, e)) return blame(c, key, e);
    TRY(check_reference(c, out, e));
    TRY(check_sources(c, e));
    return check_mismatch(c, out, e);
}
