#include "objective/preference_options.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EVERY_LOSS 0u

/* An option that is a number: its key, its place, who reads it, its bounds. */
static const struct number {
    const char *key;
    size_t offset;
    unsigned flag; /* EVERY_LOSS: all read it */
    double low, high;
    int open; /* low itself is too low, and high too high */
} numbers[] = {
#define ROW(key, field, flag, low, high, open)                                 \
    {                                                                          \
        key, offsetof(struct preference_options, field), flag, low, high, open \
    }
    ROW("beta", beta, EVERY_LOSS, 0, INFINITY, 1),
    ROW("label_smoothing", label_smoothing, LOSS_SMOOTHING, 0, 1, 0),
    ROW("simpo_gamma", simpo_gamma, LOSS_GAMMA, 0, 1e9, 0),
    ROW("cpo_alpha", cpo_alpha, LOSS_CPO_ALPHA, 0, 1e9, 0),
    ROW("discopop_tau", discopop_tau, LOSS_TAU, 0, INFINITY, 1),
    ROW("desirable_weight", desirable_weight, LOSS_LABEL_WEIGHTS, 0, 1e9, 0),
    ROW("undesirable_weight", undesirable_weight, LOSS_LABEL_WEIGHTS, 0, 1e9, 0),
    ROW("f_alpha_divergence_coef", f_alpha_divergence_coef, LOSS_DIVERGENCE, -1e9, 1e9, 0),
    ROW("ld_alpha", ld_alpha, LOSS_LD_ALPHA, 0, 1, 0),
#undef ROW
};

struct preference_options preference_defaults(void)
{
    return (struct preference_options){.losses = {preference_loss_find("sigmoid")},
                                       .loss_weights = {1},
                                       .num_losses = 1,
                                       .beta = 0.1,
                                       .simpo_gamma = 0.5,
                                       .cpo_alpha = 1,
                                       .discopop_tau = 0.05,
                                       .desirable_weight = 1,
                                       .undesirable_weight = 1,
                                       .divergence = DIVERGENCE_REVERSE_KL,
                                       .f_alpha_divergence_coef = 0.5,
                                       .ld_alpha = 1,
                                       .reduction = LOSS_TOKEN_MEAN};
}

static double number_of(const struct preference_options *o, const struct number *n)
{
    return *(const double *)((const char *)o + n->offset);
}

/* The first chosen loss that lacks the flag, or NULL. */
static const struct preference_loss *without(const struct preference_options *o, unsigned flag)
{
    for (int i = 0; i < o->num_losses; i++)
        if (!(o->losses[i]->flags & flag)) return o->losses[i];
    return NULL;
}

static unsigned all_flags(const struct preference_options *o)
{
    unsigned flags = 0;
    for (int i = 0; i < o->num_losses; i++) flags |= o->losses[i]->flags;
    return flags;
}

/* "sigmoid, robust, ...": the losses that have the flag */
static void list_losses(unsigned flag, char *out, size_t size)
{
    size_t used = 0;
    const struct preference_loss *l;
    out[0] = 0;
    for (int i = 0; (l = preference_loss_at(i)); i++) {
        if (!(l->flags & flag)) continue;
        int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", l->name);
        if (n < 0 || (size_t)n >= size - used) return;
        used += (size_t)n;
    }
}

static enum status not_for(const char *key, unsigned flag, const struct preference_loss *l,
                           struct err *e)
{
    char names[256];
    list_losses(flag, names, sizeof names);
    err_set(e, ERR_CONFIG, "%s means nothing to loss_type %s", key, l->name);
    return err_hint(e, "leave it out, or choose among %s", names);
}

static enum status check_number(const struct preference_options *o, const struct number *n,
                                const struct preference_options *plain, struct err *e)
{
    double v = number_of(o, n);
    int inside = n->open ? v > n->low && v < n->high : v >= n->low && v <= n->high;
    if (!inside && n->open) return err_set(e, ERR_CONFIG, "%s is %g, not above 0", n->key, v);
    if (!inside)
        return err_set(e, ERR_CONFIG, "%s is %g, not from %g to %g", n->key, v, n->low, n->high);
    /* these two change the numbers that all losses share, so all must allow them */
    int all = n->flag == LOSS_LD_ALPHA || n->flag == LOSS_DIVERGENCE;
    if (n->flag == EVERY_LOSS || v == number_of(plain, n)) return OK;
    if (all ? !without(o, n->flag) : all_flags(o) & n->flag) return OK;
    return not_for(n->key, n->flag, without(o, n->flag), e);
}

static enum status check_losses(const struct preference_options *o, const char **key, struct err *e)
{
    *key = "loss_type";
    if (o->num_losses < 1 || o->num_losses > PREFERENCE_LOSSES_MAX)
        return err_set(e, ERR_CONFIG, "loss_type names %d losses, not 1 to %d", o->num_losses,
                       PREFERENCE_LOSSES_MAX);
    for (int i = 0; i < o->num_losses; i++) {
        const struct preference_loss *l = o->losses[i];
        if (o->num_losses == 1 || !(l->flags & LOSS_ALONE)) continue;
        err_set(e, ERR_CONFIG, "loss_type %s cannot be added to others", l->name);
        return err_hint(e, "give %s alone, or leave it out", l->name);
    }
    *key = "loss_weights";
    for (int i = 0; i < o->num_losses; i++)
        if (!isfinite(o->loss_weights[i]))
            return err_set(e, ERR_CONFIG, "the weight of loss_type %s is not a number",
                           o->losses[i]->name);
    return OK;
}

static enum status check_smoothing(const struct preference_options *o, struct err *e)
{
    for (int i = 0; i < o->num_losses; i++) {
        const struct preference_loss *l = o->losses[i];
        if (o->label_smoothing <= l->smoothing_above) {
            err_set(e, ERR_CONFIG, "loss_type %s needs label_smoothing above %g", l->name,
                    l->smoothing_above);
            return err_hint(e, "its paper recommends label_smoothing: 1e-3");
        }
        if (l->flags & LOSS_SMOOTHING && o->label_smoothing >= l->smoothing_below)
            return err_set(e, ERR_CONFIG, "label_smoothing is %g; loss_type %s needs it below %g",
                           o->label_smoothing, l->name, l->smoothing_below);
    }
    return OK;
}

enum status preference_check(const struct preference_options *o, const char **key, struct err *e)
{
    struct preference_options plain = preference_defaults();
    TRY(check_losses(o, key, e));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        *key = numbers[i].key;
        TRY(check_number(o, &numbers[i], &plain, e));
    }
    *key = "label_smoothing";
    TRY(check_smoothing(o, e));
    *key = "f_divergence_type";
    if (o->divergence != DIVERGENCE_REVERSE_KL && without(o, LOSS_DIVERGENCE))
        return not_for(*key, LOSS_DIVERGENCE, without(o, LOSS_DIVERGENCE), e);
    *key = "f_alpha_divergence_coef";
    if (o->divergence != DIVERGENCE_ALPHA &&
        o->f_alpha_divergence_coef != plain.f_alpha_divergence_coef) {
        err_set(e, ERR_CONFIG, "f_alpha_divergence_coef means nothing to f_divergence_type %s",
                divergence_name(o->divergence));
        return err_hint(e, "leave it out, or set f_divergence_type: alpha_divergence");
    }
    *key = "use_weighting";
    if (o->use_weighting && without(o, LOSS_WEIGHTING))
        return not_for(*key, LOSS_WEIGHTING, without(o, LOSS_WEIGHTING), e);
    *key = NULL;
    return OK;
}

struct preference_needs preference_needs(const struct preference_options *o)
{
    struct preference_needs needs = {0};
    unsigned flags = all_flags(o);
    needs.reference = !!(flags & LOSS_REFERENCE);
    needs.unpaired = !!(flags & LOSS_UNPAIRED);
    needs.mismatch = !!(flags & LOSS_KL);
    needs.sum_p2 = !!o->use_weighting;
    needs.coupled = needs.mismatch;
    for (int i = 0; i < o->num_losses; i++) {
        const struct preference_loss *l = o->losses[i];
        if (preference_nll_scale(l, o) > 0) needs.nll = l->nll;
        if (l->match != MATCH_PAIR) needs.coupled = 1;
    }
    needs.prompt_tokens = needs.nll == NLL_PROMPT_AND_CHOSEN;
    return needs;
}
