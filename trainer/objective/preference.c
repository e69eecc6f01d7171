#include "objective/preference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "objective/logistic.h"

/* One record of the micro-batch at hand. */
struct preference_pair {
    struct pair_point point;        /* what a row of the table gets; counts of tokens */
    double chosen_logp, chosen_ref; /* as the loss takes them: weighed by ld_alpha, or means */
    double rejected_logp, rejected_ref;
    double chosen_slope, rejected_slope; /* of f_divergence_type */
    double weight;                       /* use_weighting, else 1 */
    double d_chosen, d_rejected;         /* of all losses, by chosen_logp and rejected_logp */
};

/* For matching by rank. */
struct preference_rank {
    double number;
    int32_t pair;
};

enum status preference_init(struct preference *p, const struct preference_options *o,
                            int32_t max_records, struct err *e)
{
    size_t n = (size_t)(max_records > 0 ? max_records : 1);
    *p =
        (struct preference){.options = *o, .needs = preference_needs(o), .max_records = (int32_t)n};
    p->pairs = mem_calloc(n, sizeof *p->pairs);
    for (int i = 0; i < 2; i++) p->ranks[i] = mem_calloc(n, sizeof *p->ranks[i]);
    if (p->pairs && p->ranks[0] && p->ranks[1]) return OK;
    preference_free(p);
    return err_set(e, ERR_MEMORY, "no memory for %zu preference records", n);
}

void preference_free(struct preference *p)
{
    mem_free(p->pairs);
    for (int i = 0; i < 2; i++) mem_free(p->ranks[i]);
    *p = (struct preference){0};
}

/* --- numbers of a record --- */

static int32_t shorter(const struct preference_record *r)
{
    if (!r->chosen.count || !r->rejected.count)
        return r->chosen.count > r->rejected.count ? r->chosen.count : r->rejected.count;
    return r->chosen.count < r->rejected.count ? r->chosen.count : r->rejected.count;
}

static double sum(const float *x, int32_t first, int32_t count)
{
    double total = 0;
    for (int32_t i = 0; i < count; i++) total += x[first + i];
    return total;
}

static struct preference_logp logp_of(const float *logp, struct preference_span s, int32_t shared)
{
    int32_t n = s.count < shared ? s.count : shared;
    return (struct preference_logp){.shared = sum(logp, s.first, n),
                                    .tail = sum(logp, s.first + n, s.count - n)};
}

void preference_reference(const float *logp, struct preference_record *records, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        struct preference_record *r = &records[i];
        r->ref_chosen = logp_of(logp, r->chosen, shorter(r));
        r->ref_rejected = logp_of(logp, r->rejected, shorter(r));
        r->ref_mismatch = logp_of(logp, r->mismatch, r->mismatch.count);
    }
}

static unsigned flags_of(const struct preference *p) { return p->options.losses[0]->flags; }

/* One number for a reply of n tokens. */
static double weighed(const struct preference *p, struct preference_logp x, int32_t n)
{
    double total = x.shared + p->options.ld_alpha * x.tail;
    return flags_of(p) & LOSS_MEAN_LOGP && n ? total / n : total;
}

/* mean of logp - log sum p^2 over a reply */
static double alignment(const struct preference_input *in, struct preference_span s)
{
    if (!s.count) return 0;
    return (sum(in->logp, s.first, s.count) - sum(in->sum_p2, s.first, s.count)) / s.count;
}

static void measure(const struct preference *p, const struct preference_input *in,
                    const struct preference_record *r, struct preference_pair *pair)
{
    const struct preference_options *o = &p->options;
    int32_t w = r->chosen.count, l = r->rejected.count;
    *pair = (struct preference_pair){.weight = 1};
    pair->chosen_logp = weighed(p, logp_of(in->logp, r->chosen, shorter(r)), w);
    pair->rejected_logp = weighed(p, logp_of(in->logp, r->rejected, shorter(r)), l);
    if (p->needs.reference) {
        pair->chosen_ref = weighed(p, r->ref_chosen, w);
        pair->rejected_ref = weighed(p, r->ref_rejected, l);
    }
    if (p->needs.sum_p2) pair->weight = exp(alignment(in, r->chosen) + alignment(in, r->rejected));
    pair->point.chosen_tokens = w;
    pair->point.rejected_tokens = l;
    pair->point.chosen =
        divergence_score(o->divergence, o->f_alpha_divergence_coef,
                         pair->chosen_logp - pair->chosen_ref, &pair->chosen_slope);
    pair->point.rejected =
        divergence_score(o->divergence, o->f_alpha_divergence_coef,
                         pair->rejected_logp - pair->rejected_ref, &pair->rejected_slope);
}

/* max(0, mean log-ratio of mismatched replies) */
static double mismatch_kl(const struct preference *p, const struct preference_input *in)
{
    double total = 0;
    if (!p->needs.mismatch) return 0;
    for (int32_t i = 0; i < in->num_records; i++) {
        const struct preference_record *r = &in->records[i];
        total += sum(in->logp, r->mismatch.first, r->mismatch.count) - r->ref_mismatch.shared;
    }
    return total < 0 ? 0 : total / in->num_records;
}

/* --- losses over the records --- */

static int by_number(const void *a, const void *b)
{
    const struct preference_rank *x = a, *y = b;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return (x->pair > y->pair) - (x->pair < y->pair);
}

static double number_to_match(const struct preference_pair *x, enum preference_match match,
                              int second)
{
    if (match == MATCH_SORTED_REPLIES) return second ? x->point.rejected : x->point.chosen;
    return second ? x->chosen_ref - x->rejected_ref : x->chosen_logp - x->rejected_logp;
}

static double sorted_losses(struct preference *p, const struct preference_loss *l, double weight,
                            int32_t n)
{
    double total = 0;
    for (int side = 0; side < 2; side++) {
        for (int32_t i = 0; i < n; i++)
            p->ranks[side][i] = (struct preference_rank){
                .number = number_to_match(&p->pairs[i], l->match, side), .pair = i};
        qsort(p->ranks[side], (size_t)n, sizeof **p->ranks, by_number);
    }
    for (int32_t i = 0; i < n; i++) {
        struct preference_rank first = p->ranks[0][i], second = p->ranks[1][i];
        struct pair_point x = {.chosen = first.number, .rejected = second.number};
        struct pair_value y = {0};
        l->pair(&p->options, &x, &y);
        total += weight * y.loss;
        p->pairs[first.pair].d_chosen += weight * y.d_chosen;
        if (l->match == MATCH_SORTED_REPLIES)
            p->pairs[second.pair].d_rejected += weight * y.d_rejected;
        else /* the second number is the reference's */
            p->pairs[first.pair].d_rejected -= weight * y.d_chosen;
    }
    return total;
}

static void count(struct preference_mean *to, double value)
{
    to->sum += value;
    to->count += 1;
}

static double paired_losses(struct preference *p, const struct preference_loss *l, double weight,
                            int32_t n, struct preference_mean *metrics)
{
    double total = 0;
    for (int32_t i = 0; i < n; i++) {
        struct preference_pair *x = &p->pairs[i];
        struct pair_value y = {0};
        double w = weight * x->weight;
        l->pair(&p->options, &x->point, &y);
        total += w * y.loss;
        x->d_chosen += w * y.d_chosen * x->chosen_slope;
        x->d_rejected += w * y.d_rejected * x->rejected_slope;
        if (!(l->flags & LOSS_LOG_ODDS)) continue;
        count(&metrics[PREFERENCE_LOG_ODDS_CHOSEN], y.log_odds);
        count(&metrics[PREFERENCE_LOG_ODDS_RATIO], logistic_log(y.log_odds));
    }
    return total;
}

/* Sum of all losses but the cross-entropies; fills d_chosen and d_rejected. */
static double run_losses(struct preference *p, int32_t n, struct preference_mean *metrics)
{
    double total = 0;
    for (int i = 0; i < p->options.num_losses; i++) {
        const struct preference_loss *l = p->options.losses[i];
        double weight = p->options.loss_weights[i];
        if (!l->pair) continue;
        total += l->match == MATCH_PAIR ? paired_losses(p, l, weight, n, metrics)
                                        : sorted_losses(p, l, weight, n);
    }
    return total;
}

/* --- cross-entropies --- */

struct nll {
    double sum, tokens; /* of the micro-batch, plain */
    double weighted;    /* each record's times its weight and the factor */
    double factor;      /* of loss_weights and cpo_alpha */
};

static double factor_of_nll(const struct preference_options *o)
{
    double factor = 0;
    for (int i = 0; i < o->num_losses; i++)
        factor += o->loss_weights[i] * preference_nll_scale(o->losses[i], o);
    return factor;
}

static struct nll measure_nll(const struct preference *p, const struct preference_input *in)
{
    struct nll nll = {0};
    if (p->needs.nll == NLL_NONE) return nll;
    nll.factor = factor_of_nll(&p->options);
    for (int32_t i = 0; i < in->num_records; i++) {
        const struct preference_record *r = &in->records[i];
        int32_t prompt = p->needs.prompt_tokens ? r->prompt.count : 0;
        double loss = -sum(in->logp, r->prompt.first, prompt) -
                      sum(in->logp, r->chosen.first, r->chosen.count);
        nll.sum += loss;
        nll.weighted += nll.factor * p->pairs[i].weight * loss;
        nll.tokens += prompt + r->chosen.count;
    }
    return nll;
}

/* --- gradient --- */

static void add_reply(const struct preference *p, struct preference_span s, int32_t shared,
                      double slope, float *dlogp)
{
    if (flags_of(p) & LOSS_MEAN_LOGP && s.count) slope /= s.count;
    for (int32_t i = 0; i < s.count; i++)
        dlogp[s.first + i] += (float)(i < shared ? slope : p->options.ld_alpha * slope);
}

static void add_constant(struct preference_span s, double slope, float *dlogp)
{
    for (int32_t i = 0; i < s.count; i++) dlogp[s.first + i] += (float)slope;
}

static void write_gradient(const struct preference *p, const struct preference_step *step,
                           const struct preference_input *in, const struct nll *nll, float *dlogp)
{
    int per_batch = p->options.reduction == LOSS_MICROBATCH_MEAN;
    double scale = per_batch ? 1.0 / in->num_records : 1, nll_scale = 0;
    if (nll->tokens > 0)
        nll_scale = nll->factor * (per_batch ? 1 / nll->tokens : step->records / step->nll_tokens);
    memset(dlogp, 0, (size_t)in->S * sizeof *dlogp);
    for (int32_t i = 0; i < in->num_records; i++) {
        const struct preference_record *r = &in->records[i];
        const struct preference_pair *x = &p->pairs[i];
        add_reply(p, r->chosen, shorter(r), scale * x->d_chosen, dlogp);
        add_reply(p, r->rejected, shorter(r), scale * x->d_rejected, dlogp);
        if (nll_scale == 0) continue;
        add_constant(r->chosen, -nll_scale * x->weight, dlogp);
        if (p->needs.prompt_tokens) add_constant(r->prompt, -nll_scale * x->weight, dlogp);
    }
}

/* --- the micro-batch --- */

static void reply_metrics(const struct preference_input *in, struct preference_span s, double logp,
                          double reward, int rejected, struct preference_mean *metrics)
{
    if (!s.count) return;
    count(&metrics[rejected ? PREFERENCE_REWARDS_REJECTED : PREFERENCE_REWARDS_CHOSEN], reward);
    count(&metrics[rejected ? PREFERENCE_LOGPS_REJECTED : PREFERENCE_LOGPS_CHOSEN], logp);
    struct preference_mean *logits =
        &metrics[rejected ? PREFERENCE_LOGITS_REJECTED : PREFERENCE_LOGITS_CHOSEN];
    if (in->mean_logit) {
        logits->sum += sum(in->mean_logit, s.first, s.count);
        logits->count += s.count;
    }
    if (in->entropy) {
        metrics[PREFERENCE_ENTROPY].sum += sum(in->entropy, s.first, s.count);
        metrics[PREFERENCE_ENTROPY].count += s.count;
    }
    if (!in->hit || rejected) return;
    for (int32_t i = 0; i < s.count; i++)
        count(&metrics[PREFERENCE_TOKEN_ACCURACY], in->hit[s.first + i]);
}

static void measure_metrics(const struct preference *p, const struct preference_input *in,
                            struct preference_mean *metrics)
{
    double beta = p->options.beta;
    for (int32_t i = 0; i < in->num_records; i++) {
        const struct preference_record *r = &in->records[i];
        const struct preference_pair *x = &p->pairs[i];
        double chosen = beta * (x->chosen_logp - x->chosen_ref);
        double rejected = beta * (x->rejected_logp - x->rejected_ref);
        reply_metrics(in, r->chosen, x->chosen_logp, chosen, 0, metrics);
        reply_metrics(in, r->rejected, x->rejected_logp, rejected, 1, metrics);
        if (p->needs.unpaired) continue;
        count(&metrics[PREFERENCE_REWARDS_ACCURACIES], chosen > rejected);
        count(&metrics[PREFERENCE_REWARDS_MARGINS], chosen - rejected);
    }
}

/* Margins of unpaired records are a difference of means. */
static int margin_of_means(const struct preference_mean *metrics, double *value)
{
    struct preference_mean chosen = metrics[PREFERENCE_REWARDS_CHOSEN],
                           rejected = metrics[PREFERENCE_REWARDS_REJECTED];
    if (!chosen.count || !rejected.count) return 0;
    *value = chosen.sum / chosen.count - rejected.sum / rejected.count;
    return 1;
}

static void add_mean(struct preference_mean *to, struct preference_mean x, int as_one)
{
    if (!x.count) return;
    to->sum += as_one ? x.sum / x.count : x.sum;
    to->count += as_one ? 1 : x.count;
}

static void add_metrics(const struct preference *p, struct preference_mean *batch,
                        struct preference_sums *sums)
{
    int as_one = p->options.reduction == LOSS_MICROBATCH_MEAN;
    double margin;
    if (p->needs.unpaired && as_one && margin_of_means(batch, &margin))
        count(&batch[PREFERENCE_REWARDS_MARGINS], margin);
    for (int m = 0; m < NUM_PREFERENCE_METRICS; m++) add_mean(&sums->metrics[m], batch[m], as_one);
}

void preference_run(struct preference *p, const struct preference_step *step,
                    const struct preference_input *in, float *dlogp, struct preference_sums *sums)
{
    struct preference_mean batch[NUM_PREFERENCE_METRICS] = {{0}};
    int as_one = p->options.reduction == LOSS_MICROBATCH_MEAN;
    int32_t n = in->num_records;
    for (int32_t i = 0; i < n; i++) measure(p, in, &in->records[i], &p->pairs[i]);
    double kl = mismatch_kl(p, in);
    for (int32_t i = 0; i < n; i++) p->pairs[i].point.kl = kl;
    struct preference_mean pairs = {.sum = run_losses(p, n, batch), .count = n};
    struct nll nll = measure_nll(p, in);
    add_mean(&sums->pairs, pairs, as_one);
    add_mean(&sums->tokens, (struct preference_mean){nll.weighted, nll.tokens}, as_one);
    if (dlogp) write_gradient(p, step, in, &nll, dlogp);
    measure_metrics(p, in, batch);
    if (p->needs.mismatch) count(&batch[PREFERENCE_KL], kl);
    batch[PREFERENCE_NLL] = (struct preference_mean){nll.sum, nll.tokens};
    add_metrics(p, batch, sums);
}

double preference_divisor(const struct preference_options *o, const struct preference_step *step,
                          int32_t micro_batches)
{
    return o->reduction == LOSS_MICROBATCH_MEAN ? micro_batches : step->records;
}

/* --- what was added up --- */

void preference_sums_add(struct preference_sums *to, const struct preference_sums *from)
{
    add_mean(&to->pairs, from->pairs, 0);
    add_mean(&to->tokens, from->tokens, 0);
    for (int m = 0; m < NUM_PREFERENCE_METRICS; m++) add_mean(&to->metrics[m], from->metrics[m], 0);
}

static double mean_of(struct preference_mean x) { return x.count ? x.sum / x.count : 0; }

double preference_loss_mean(const struct preference_sums *s)
{
    return mean_of(s->pairs) + mean_of(s->tokens);
}

int preference_metric(const struct preference_sums *s, enum preference_metric m, double *value)
{
    struct preference_mean x = s->metrics[m];
    if (!x.count) return m == PREFERENCE_REWARDS_MARGINS && margin_of_means(s->metrics, value);
    *value = x.sum / x.count;
    return 1;
}

static const char *const metric_names[NUM_PREFERENCE_METRICS] = {
#define X(id, name, help) name,
    PREFERENCE_METRICS_TABLE(X)
#undef X
};

const char *preference_metric_name(enum preference_metric m) { return metric_names[m]; }
