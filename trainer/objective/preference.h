/* preference.h - the loss of a micro-batch of preference records, and its gradient by each token.
 *
 *     preference_init(&p, &options, most records of a micro-batch, &e)
 *     for each micro-batch of a step:
 *         preference_reference(...) from the reference's log-probabilities, or from a sidecar
 *         preference_run(&p, &step, &input, dlogp, &sums)
 *     divide the summed gradients by preference_divisor(...), once
 *     preference_loss_mean(&sums), preference_metric(...)
 *
 * Reduction (SEMANTICS E).
 *   token_mean       mean over the step's records, and for the cross-entropies (sft, cpo_alpha,
 *                    orpo's) mean over the step's tokens of that kind. Gradients come out as
 *                    d(sum over records): the divisor is the step's number of records, and a
 *                    cross-entropy is multiplied by records/tokens of the step to fit, so these
 *                    must be known beforehand (struct preference_step).
 *   microbatch_mean  TRL's: means over each micro-batch, then over micro-batches; metrics too.
 * With use_weighting each pair's part of the sft term is multiplied by its weight too (TRL fails).
 *
 * A micro-batch has at least one record. Sums over tokens and records are in double and in order.
 * A call allocates nothing.
 */
#ifndef CRIA_OBJECTIVE_PREFERENCE_H
#define CRIA_OBJECTIVE_PREFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "objective/preference_options.h"

/* Supervised rows first ... first+count-1, whose targets are one text in order. */
struct preference_span {
    int32_t first, count;
};

/* A reply's log-probability in two parts: of its first min(|w|, |l|) tokens and of those beyond
 * (ld_alpha weighs them). A reply of an unpaired record has all in `shared`. */
struct preference_logp {
    double shared, tail;
};

struct preference_record {
    struct preference_span prompt; /* its tokens but the first; empty unless needs.prompt_tokens */
    struct preference_span chosen, rejected; /* unpaired records have one of the two */
    struct preference_span mismatch;         /* kto; empty counts as a log-ratio of 0 (TRL) */
    struct preference_logp ref_chosen, ref_rejected, ref_mismatch; /* if needs.reference */
};

/* A micro-batch. Arrays over S supervised rows are the head's; rows of no span get no gradient. */
struct preference_input {
    int32_t S;
    const float *logp;       /* [S] */
    const float *sum_p2;     /* [S] log sum p^2, if needs.sum_p2; else NULL */
    const float *mean_logit; /* [S], or NULL: no logits/ metrics */
    const float *entropy;    /* [S], or NULL */
    const uint8_t *hit;      /* [S], or NULL: no mean_token_accuracy */
    const struct preference_record *records;
    int32_t num_records;
};

/* What the step holds in all its micro-batches; not looked at under microbatch_mean. */
struct preference_step {
    double records;
    double nll_tokens; /* in spans of needs.nll's kind: chosen, or prompt and chosen; 0 if none */
};

/* name in logs, meaning. A metric that a loss or record kind does not have is not logged. */
#define PREFERENCE_METRICS_TABLE(X)                                                         \
    X(REWARDS_CHOSEN, "rewards/chosen", "beta * log-ratio of chosen replies")               \
    X(REWARDS_REJECTED, "rewards/rejected", "beta * log-ratio of rejected replies")         \
    X(REWARDS_ACCURACIES, "rewards/accuracies", "pairs whose chosen reply has more reward") \
    X(REWARDS_MARGINS, "rewards/margins", "rewards/chosen - rewards/rejected")              \
    X(LOGPS_CHOSEN, "logps/chosen",                                                         \
      "log-probability of chosen replies; simpo, orpo: its tokens' mean")                   \
    X(LOGPS_REJECTED, "logps/rejected", "the same of rejected ones")                        \
    X(LOGITS_CHOSEN, "logits/chosen", "mean logit over vocabulary and chosen tokens")       \
    X(LOGITS_REJECTED, "logits/rejected", "the same of rejected ones")                      \
    X(ENTROPY, "entropy", "of the distribution, mean over the replies' tokens")             \
    X(TOKEN_ACCURACY, "mean_token_accuracy", "chosen tokens that were the most likely one") \
    X(KL, "kl", "kto's K")                                                                  \
    X(NLL, "nll_loss", "cross-entropy that the loss adds, before its factor")               \
    X(LOG_ODDS_RATIO, "log_odds_ratio", "orpo: log sigmoid of the log odds ratio")          \
    X(LOG_ODDS_CHOSEN, "log_odds_chosen", "orpo: the log odds ratio")

enum preference_metric {
#define X(name, text, help) PREFERENCE_##name,
    PREFERENCE_METRICS_TABLE(X)
#undef X
        NUM_PREFERENCE_METRICS
};

struct preference_mean {
    double sum, count;
};

/* What a step, a log or an evaluation adds up over micro-batches. Zero-initialise. */
struct preference_sums {
    struct preference_mean pairs;  /* the losses of records */
    struct preference_mean tokens; /* what the cross-entropies add */
    struct preference_mean metrics[NUM_PREFERENCE_METRICS];
};

struct preference {
    struct preference_options options;
    struct preference_needs needs;
    int32_t max_records;
    struct preference_pair *pairs;    /* heap, [max_records] */
    struct preference_rank *ranks[2]; /* heap, [max_records] each */
};

/* `o` must have passed preference_check. ERR_MEMORY. */
MUST_CHECK enum status preference_init(struct preference *p, const struct preference_options *o,
                                       int32_t max_records, struct err *e);
void preference_free(struct preference *p); /* zeroed is fine */

/* Fills the ref_ fields of n records from the reference's log-probabilities of their tokens. */
void preference_reference(const float *logp, struct preference_record *records, int32_t n);

/* Adds the micro-batch's losses and metrics to *sums. dlogp [S]: d(loss before the division)/d
 * logp, overwritten; NULL: not wanted, and then `step` may be NULL too. At most max_records. */
void preference_run(struct preference *p, const struct preference_step *step,
                    const struct preference_input *in, float *dlogp, struct preference_sums *sums);

/* The one division of a step. */
double preference_divisor(const struct preference_options *o, const struct preference_step *step,
                          int32_t micro_batches);

void preference_sums_add(struct preference_sums *to, const struct preference_sums *from);

/* The mean loss of what was added up; 0 where nothing was. */
double preference_loss_mean(const struct preference_sums *s);

/* 1, with *value, if there is such a metric in what was added up. */
int preference_metric(const struct preference_sums *s, enum preference_metric m, double *value);

const char *preference_metric_name(enum preference_metric m);

#endif
