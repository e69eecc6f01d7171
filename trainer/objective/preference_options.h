/* preference_options.h - what a user may choose about a preference loss, and what goes together.
 *
 *     struct preference_options o = preference_defaults();
 *     o.losses[0] = preference_loss_find("sigmoid");
 *     TRY(preference_check(&o, &key, &e));
 *
 * Names and defaults are TRL's.
 */
#ifndef CRIA_OBJECTIVE_PREFERENCE_OPTIONS_H
#define CRIA_OBJECTIVE_PREFERENCE_OPTIONS_H

#include "base/status.h"
#include "objective/cross_entropy.h"
#include "objective/divergence.h"
#include "objective/preference_loss.h"

#define PREFERENCE_LOSSES_MAX 8

struct preference_options {
    const struct preference_loss *losses[PREFERENCE_LOSSES_MAX]; /* loss_type */
    double loss_weights[PREFERENCE_LOSSES_MAX];
    int num_losses;
    double beta;                                 /* 0.1 */
    double label_smoothing;                      /* 0 */
    double simpo_gamma;                          /* 0.5 */
    double cpo_alpha;                            /* 1 */
    double discopop_tau;                         /* 0.05 */
    double desirable_weight, undesirable_weight; /* 1 */
    enum divergence divergence;                  /* reverse_kl */
    double f_alpha_divergence_coef;              /* 0.5 */
    double ld_alpha; /* weight of the tokens beyond the pair's shorter reply; 1: as all others */
    int use_weighting;
    enum loss_reduction reduction; /* token_mean: means over the step */
};

/* One loss, sigmoid, of weight 1; the rest as above. */
struct preference_options preference_defaults(void);

/* ERR_CONFIG: values out of range, losses that do not go together, options that none of the losses
 * reads and that differ from their defaults. *key is then the config key at fault ("ld_alpha"). */
MUST_CHECK enum status preference_check(const struct preference_options *o, const char **key,
                                        struct err *e);

/* What the losses need of those who make the numbers. */
struct preference_needs {
    int reference;           /* reference log-probabilities of the replies */
    int unpaired;            /* records with one reply (stage kto); otherwise pairs (stage dpo) */
    int mismatch;            /* kto: mismatched replies, from policy and reference */
    int prompt_tokens;       /* orpo: the prompt's tokens are supervised as well */
    int sum_p2;              /* use_weighting: log sum p^2 of each token */
    enum preference_nll nll; /* which tokens have a cross-entropy of their own */
    int coupled;             /* the loss depends on how records lie in micro-batches */
};

struct preference_needs preference_needs(const struct preference_options *o);

#endif
