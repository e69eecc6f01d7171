/* preference_loss.h - the losses of the DPO family: one table of pure functions, a row a loss.
 *
 * A row gets two numbers a pair and gives the loss and its derivatives by them. The numbers are
 *
 *     chosen, rejected    the replies' log-probabilities minus the reference's (SEMANTICS G: c, r),
 *                         through f_divergence_type where the row allows one;
 *                         without a reference: the log-probabilities themselves;
 *                         LOSS_MEAN_LOGP: divided by the reply's number of tokens
 *
 * What lies outside of two numbers is said by the other columns, and done by preference.c: which
 * numbers of a micro-batch meet in a pair (aot), what all pairs of it share (kto's K), and the
 * cross-entropy that some losses add (sft, cpo_alpha, orpo). Adding a loss is adding a row (and its
 * function). Everything is in double.
 */
#ifndef CRIA_OBJECTIVE_PREFERENCE_LOSS_H
#define CRIA_OBJECTIVE_PREFERENCE_LOSS_H

struct preference_options; /* objective/preference_options.h */

/* What a row needs, reads and allows. */
enum preference_flag {
    LOSS_REFERENCE = 1 << 0, /* log-ratios to a reference model */
    LOSS_UNPAIRED = 1 << 1,  /* records have one reply, desirable (chosen) or not (rejected) */
    LOSS_MEAN_LOGP = 1 << 2, /* log-probabilities are means over a reply's tokens, in logps/ too */
    LOSS_KL = 1 << 3,        /* K over the micro-batch, from mismatched replies */
    LOSS_ALONE = 1 << 4,     /* not to be added to others */
    /* options it reads */
    LOSS_SMOOTHING = 1 << 5,     /* label_smoothing */
    LOSS_GAMMA = 1 << 6,         /* simpo_gamma */
    LOSS_CPO_ALPHA = 1 << 7,     /* cpo_alpha */
    LOSS_TAU = 1 << 8,           /* discopop_tau */
    LOSS_LABEL_WEIGHTS = 1 << 9, /* desirable_weight, undesirable_weight */
    LOSS_DIVERGENCE = 1 << 10,   /* f_divergence_type */
    LOSS_LD_ALPHA = 1 << 11,     /* ld_alpha */
    LOSS_WEIGHTING = 1 << 12,    /* use_weighting */
    LOSS_LOG_ODDS = 1 << 13,     /* fills pair_value.log_odds */
};

/* Which numbers of the micro-batch meet. SORTED_*: the k-th smallest with the k-th smallest, so the
 * loss depends on how pairs lie in micro-batches. */
enum preference_match {
    MATCH_PAIR,           /* a pair's own c and r */
    MATCH_SORTED_GAPS,    /* the policy's (chosen - rejected) and the reference's */
    MATCH_SORTED_REPLIES, /* c and r */
};

/* The cross-entropy a row adds: a mean over the step's tokens of that kind. */
enum preference_nll { NLL_NONE, NLL_CHOSEN, NLL_PROMPT_AND_CHOSEN };

struct pair_point {
    double chosen, rejected;               /* see above */
    double chosen_tokens, rejected_tokens; /* 0: there is no such reply (LOSS_UNPAIRED) */
    double kl;                             /* K, where the row has LOSS_KL */
};

struct pair_value {
    double loss, d_chosen, d_rejected;
    double log_odds; /* orpo */
};

struct preference_loss {
    const char *name; /* as users write it in loss_type */
    unsigned flags;
    enum preference_match match;
    enum preference_nll nll;
    double smoothing_above, smoothing_below; /* label_smoothing must lie strictly between */
    /* NULL: the cross-entropy is all there is. */
    void (*pair)(const struct preference_options *o, const struct pair_point *x,
                 struct pair_value *y);
    const char *help;
};

/* The row of this name, or NULL. Rows are constants. */
const struct preference_loss *preference_loss_find(const char *name);

/* Row i, in the table's order; NULL behind the last. */
const struct preference_loss *preference_loss_at(int i);

/* What the cross-entropy of a row is multiplied by: cpo_alpha for those that read it, else 1. */
double preference_nll_scale(const struct preference_loss *l, const struct preference_options *o);

#endif
