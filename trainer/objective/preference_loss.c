#include "objective/preference_loss.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "objective/logistic.h"
#include "objective/preference_options.h"

/* Most losses are a function of one number z = beta * (chosen - rejected); `slope` is its
 * derivative by z. */
static void of_difference(double beta, double loss, double slope, struct pair_value *y)
{
    *y = (struct pair_value){.loss = loss, .d_chosen = beta * slope, .d_rejected = -beta * slope};
}

/* -(1-e) log sigmoid z - e log sigmoid -z and its derivative */
static double smooth(double e, double z, double *slope)
{
    *slope = -(1 - e) * logistic_sigmoid(-z) + e * logistic_sigmoid(z);
    return -(1 - e) * logistic_log(z) - e * logistic_log(-z);
}

/* Rafailov et al. 2023, eq. 7; Mitchell's label smoothing. Also cpo (Xu et al. 2024, eq. 3), and
 * aot, whose numbers are matched by rank (Melnyk et al. 2024). */
static void sigmoid(const struct preference_options *o, const struct pair_point *x,
                    struct pair_value *y)
{
    double slope, loss = smooth(o->label_smoothing, o->beta * (x->chosen - x->rejected), &slope);
    of_difference(o->beta, loss, slope, y);
}

/* SLiC (Zhao et al. 2023) as the RSO paper normalises it */
static void hinge(const struct preference_options *o, const struct pair_point *x,
                  struct pair_value *y)
{
    double rest = 1 - o->beta * (x->chosen - x->rejected);
    of_difference(o->beta, rest <= 0 ? 0 : rest, rest <= 0 ? 0 : -1, y);
}

/* Azar et al. 2023, eq. 17 */
static void squared(const struct preference_options *o, const struct pair_point *x,
                    struct pair_value *y)
{
    double rest = x->chosen - x->rejected - 1 / (2 * o->beta);
    of_difference(1, rest * rest, 2 * rest, y);
}

/* `pair` on numbers divided by the replies' lengths. */
static void by_length(void (*pair)(const struct preference_options *, const struct pair_point *,
                                   struct pair_value *),
                      const struct preference_options *o, const struct pair_point *x,
                      struct pair_value *y)
{
    double w = fmax(x->chosen_tokens, 1), l = fmax(x->rejected_tokens, 1);
    struct pair_point mean = {.chosen = x->chosen / w, .rejected = x->rejected / l};
    pair(o, &mean, y);
    y->d_chosen /= w;
    y->d_rejected /= l;
}

/* IPO divided by length, as its authors confirmed it to TRL */
static void ipo(const struct preference_options *o, const struct pair_point *x,
                struct pair_value *y)
{
    by_length(squared, o, x, y);
}

static void plain_sigmoid(const struct preference_options *o, const struct pair_point *x,
                          struct pair_value *y)
{
    double z = o->beta * (x->chosen - x->rejected);
    of_difference(o->beta, -logistic_log(z), -logistic_sigmoid(-z), y);
}

static void sigmoid_norm(const struct preference_options *o, const struct pair_point *x,
                         struct pair_value *y)
{
    by_length(plain_sigmoid, o, x, y);
}

/* Chowdhury et al. 2024 */
static void robust(const struct preference_options *o, const struct pair_point *x,
                   struct pair_value *y)
{
    double e = o->label_smoothing, z = o->beta * (x->chosen - x->rejected);
    double loss = -(1 - e) * logistic_log(z) + e * logistic_log(-z);
    double slope = -(1 - e) * logistic_sigmoid(-z) - e * logistic_sigmoid(z);
    of_difference(o->beta, loss / (1 - 2 * e), slope / (1 - 2 * e), y);
}

/* Ji et al. 2024, eq. 16 for two replies: KL of (sigmoid z, sigmoid -z) from (1-e, e) */
static void exo_pair(const struct preference_options *o, const struct pair_point *x,
                     struct pair_value *y)
{
    double e = o->label_smoothing, z = o->beta * (x->chosen - x->rejected);
    double q = logistic_sigmoid(z), p = logistic_sigmoid(-z);
    double loss = q * (logistic_log(z) - log1p(-e)) + p * (logistic_log(-z) - log(e));
    of_difference(o->beta, loss, q * p * (z - log1p(-e) + log(e)), y);
}

/* Chen et al. 2024 */
static void nca_pair(const struct preference_options *o, const struct pair_point *x,
                     struct pair_value *y)
{
    double c = o->beta * x->chosen, r = o->beta * x->rejected;
    y->loss = -logistic_log(c) - 0.5 * logistic_log(-c) - 0.5 * logistic_log(-r);
    y->d_chosen = o->beta * (-logistic_sigmoid(-c) + 0.5 * logistic_sigmoid(c));
    y->d_rejected = o->beta * 0.5 * logistic_sigmoid(r);
}

/* Jung et al. 2024, without the shift by mean rewards */
static void bco_pair(const struct preference_options *o, const struct pair_point *x,
                     struct pair_value *y)
{
    double c = o->beta * x->chosen, r = o->beta * x->rejected;
    y->loss = -logistic_log(c) - logistic_log(-r);
    y->d_chosen = -o->beta * logistic_sigmoid(-c);
    y->d_rejected = o->beta * logistic_sigmoid(r);
}

/* Wu et al. 2024, eq. 4.7 with hard probabilities 1 and 0 */
static void sppo_hard(const struct preference_options *o, const struct pair_point *x,
                      struct pair_value *y)
{
    double w = x->chosen - 0.5 / o->beta, l = x->rejected + 0.5 / o->beta;
    *y = (struct pair_value){.loss = w * w + l * l, .d_chosen = 2 * w, .d_rejected = 2 * l};
}

static double sigmoid_slope(double z) { return logistic_sigmoid(z) * logistic_sigmoid(-z); }

/* D'Oosterlinck et al. 2024, eq. 7 */
static void apo_zero(const struct preference_options *o, const struct pair_point *x,
                     struct pair_value *y)
{
    double c = o->beta * x->chosen, r = o->beta * x->rejected;
    y->loss = logistic_sigmoid(-c) + logistic_sigmoid(r);
    y->d_chosen = -o->beta * sigmoid_slope(c);
    y->d_rejected = o->beta * sigmoid_slope(r);
}

/* the same, eq. 8 */
static void apo_down(const struct preference_options *o, const struct pair_point *x,
                     struct pair_value *y)
{
    double c = o->beta * x->chosen, z = o->beta * (x->chosen - x->rejected);
    y->loss = logistic_sigmoid(c) + logistic_sigmoid(-z);
    y->d_chosen = o->beta * (sigmoid_slope(c) - sigmoid_slope(z));
    y->d_rejected = o->beta * sigmoid_slope(z);
}

/* Lu et al. 2024, eq. 5: logistic and exponential loss, blended by k = sigmoid(z / tau). k e^-z is
 * taken as one exponential, since for very negative z it is 0 times infinity. */
static void discopop(const struct preference_options *o, const struct pair_point *x,
                     struct pair_value *y)
{
    double z = o->beta * (x->chosen - x->rejected), tau = o->discopop_tau;
    double k = logistic_sigmoid(z / tau), rest = logistic_sigmoid(-z / tau);
    double logistic = -logistic_log(z), blended = exp(logistic_log(z / tau) - z);
    double slope =
        -k * rest / tau * logistic - rest * logistic_sigmoid(-z) + blended * (rest / tau - 1);
    of_difference(o->beta, rest * logistic + blended, slope, y);
}

/* Meng et al. 2024, eq. 6 */
static void simpo(const struct preference_options *o, const struct pair_point *x,
                  struct pair_value *y)
{
    double z = o->beta * (x->chosen - x->rejected) - o->simpo_gamma;
    double slope, loss = smooth(o->label_smoothing, z, &slope);
    of_difference(o->beta, loss, slope, y);
}

/* Hong et al. 2024, eq. 7. A mean log-probability of 0 has infinite odds: it is kept off 0. */
static void orpo(const struct preference_options *o, const struct pair_point *x,
                 struct pair_value *y)
{
    double w = x->chosen > -DBL_EPSILON ? -DBL_EPSILON : x->chosen; /* not fmin: NaN must stay */
    double l = x->rejected > -DBL_EPSILON ? -DBL_EPSILON : x->rejected;
    double not_w = -expm1(w), not_l = -expm1(l); /* 1 - p */
    y->log_odds = w - l - (log(not_w) - log(not_l));
    y->loss = -o->beta * logistic_log(y->log_odds);
    y->d_chosen = -o->beta * logistic_sigmoid(-y->log_odds) / not_w;
    y->d_rejected = o->beta * logistic_sigmoid(-y->log_odds) / not_l;
}

/* Ethayarajh et al. 2024, eq. 7 */
static void kto(const struct preference_options *o, const struct pair_point *x,
                struct pair_value *y)
{
    double c = o->beta * (x->chosen - x->kl), r = o->beta * (x->rejected - x->kl);
    double w = x->chosen_tokens > 0 ? o->desirable_weight : 0;
    double l = x->rejected_tokens > 0 ? o->undesirable_weight : 0;
    y->loss = w * logistic_sigmoid(-c) + l * logistic_sigmoid(r);
    y->d_chosen = -w * o->beta * sigmoid_slope(c);
    y->d_rejected = l * o->beta * sigmoid_slope(r);
}

#define DPO (LOSS_REFERENCE | LOSS_LD_ALPHA | LOSS_WEIGHTING)
#define DIV LOSS_DIVERGENCE
#define SMO LOSS_SMOOTHING
#define CPO (LOSS_CPO_ALPHA | LOSS_ALONE)
#define KTO (LOSS_REFERENCE | LOSS_UNPAIRED | LOSS_LABEL_WEIGHTS | LOSS_ALONE)
#define MEAN LOSS_MEAN_LOGP

/* clang-format off */
static const struct preference_loss table[] = {
    {"sigmoid", DPO | DIV | SMO, MATCH_PAIR, NLL_NONE, -1, 1, sigmoid,
     "DPO: -(1-e) log sigmoid(beta (c-r)) - e log sigmoid(-beta (c-r)), e = label_smoothing"},
    {"hinge", DPO | DIV, MATCH_PAIR, NLL_NONE, -1, 1, hinge,
     "SLiC: max(0, 1 - beta (c-r))"},
    {"ipo", DPO | DIV, MATCH_PAIR, NLL_NONE, -1, 1, ipo,
     "IPO: (c/|w| - r/|l| - 1/(2 beta))^2"},
    {"robust", DPO | DIV | SMO, MATCH_PAIR, NLL_NONE, -1, 0.5, robust,
     "robust DPO: labels are wrong with probability label_smoothing, below 0.5"},
    {"exo_pair", DPO | DIV | SMO, MATCH_PAIR, NLL_NONE, 0, 1, exo_pair,
     "EXO: reverse KL from (1-e, e); label_smoothing above 0, 1e-3 in the paper"},
    {"nca_pair", DPO, MATCH_PAIR, NLL_NONE, -1, 1, nca_pair,
     "NCA: -log sigmoid(beta c) - 1/2 log sigmoid(-beta c) - 1/2 log sigmoid(-beta r)"},
    {"bco_pair", DPO, MATCH_PAIR, NLL_NONE, -1, 1, bco_pair,
     "BCO on pairs: -log sigmoid(beta c) - log sigmoid(-beta r)"},
    {"sppo_hard", DPO, MATCH_PAIR, NLL_NONE, -1, 1, sppo_hard,
     "SPPO: (c - 1/(2 beta))^2 + (r + 1/(2 beta))^2"},
    {"aot", (DPO & ~LOSS_WEIGHTING) | SMO, MATCH_SORTED_GAPS, NLL_NONE, -1, 1, sigmoid,
     "AOT: sigmoid, the policy's and the reference's gaps matched by rank in a micro-batch"},
    {"aot_unpaired", (DPO & ~LOSS_WEIGHTING) | SMO, MATCH_SORTED_REPLIES, NLL_NONE, -1, 1, sigmoid,
     "AOT: sigmoid, c and r matched by rank in a micro-batch"},
    {"apo_zero", DPO, MATCH_PAIR, NLL_NONE, -1, 1, apo_zero,
     "APO for replies better than the model's: 1 - sigmoid(beta c) + sigmoid(beta r)"},
    {"apo_down", DPO, MATCH_PAIR, NLL_NONE, -1, 1, apo_down,
     "APO for replies worse than the model's: sigmoid(beta c) + 1 - sigmoid(beta (c-r))"},
    {"discopop", DPO | DIV | LOSS_TAU, MATCH_PAIR, NLL_NONE, -1, 1, discopop,
     "DiscoPOP: logistic and exponential loss, blended by sigmoid(beta (c-r) / discopop_tau)"},
    {"sft", DPO | DIV, MATCH_PAIR, NLL_CHOSEN, -1, 1, NULL,
     "cross-entropy of the chosen replies, to be added to another (RPO)"},
    {"sigmoid_norm", DPO | DIV, MATCH_PAIR, NLL_NONE, -1, 1, sigmoid_norm,
     "-log sigmoid(beta (c/|w| - r/|l|))"},
    {"simpo", CPO | SMO | MEAN | LOSS_GAMMA, MATCH_PAIR, NLL_CHOSEN, -1, 1, simpo,
     "SimPO, no reference: sigmoid on beta * mean log-probabilities' gap - simpo_gamma"
     " (+ cpo_alpha cross-entropy; 0: SimPO as published)"},
    {"cpo", CPO | SMO, MATCH_PAIR, NLL_CHOSEN, -1, 1, sigmoid,
     "CPO, no reference: sigmoid on the log-probabilities' gap + cpo_alpha cross-entropy"},
    {"cpo_hinge", CPO, MATCH_PAIR, NLL_CHOSEN, -1, 1, hinge,
     "CPO with the hinge loss"},
    {"cpo_ipo", CPO | MEAN, MATCH_PAIR, NLL_CHOSEN, -1, 1, squared,
     "CPO with IPO's square, on mean log-probabilities"},
    {"orpo", LOSS_ALONE | MEAN | LOSS_LOG_ODDS, MATCH_PAIR, NLL_PROMPT_AND_CHOSEN, -1, 1, orpo,
     "ORPO, no reference: cross-entropy of prompt and chosen reply"
     " - beta log sigmoid(log odds ratio)"},
    {"kto", KTO | LOSS_KL, MATCH_PAIR, NLL_NONE, -1, 1, kto,
     "KTO: 1 - sigmoid(beta (c-K)), 1 - sigmoid(beta (K-r)), K from mismatched replies"},
    {"apo_zero_unpaired", KTO, MATCH_PAIR, NLL_NONE, -1, 1, kto,
     "apo_zero on unpaired replies: KTO without its K"},
};
/* clang-format on */

#define ROWS ((int)(sizeof table / sizeof *table))

const struct preference_loss *preference_loss_find(const char *name)
{
    for (int i = 0; i < ROWS; i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    return NULL;
}

const struct preference_loss *preference_loss_at(int i)
{
    return i >= 0 && i < ROWS ? &table[i] : NULL;
}

double preference_nll_scale(const struct preference_loss *l, const struct preference_options *o)
{
    if (l->nll == NLL_NONE) return 0;
    return l->flags & LOSS_CPO_ALPHA ? o->cpo_alpha : 1;
}
