/* The preference losses by themselves: derivatives against differences, ends of the range, how
 * micro-batches add up, and what does not go together. TRL's numbers: golden/test_preference_losses
 */
#include "support/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "objective/preference.h"

#define RECORDS 5
#define ROWS_MAX 128

/* --- a table of everything there is to differentiate --- */

struct option_case {
    const char *losses; /* with commas */
    double weights[3], beta, label_smoothing, ld_alpha;
    enum divergence divergence;
    double alpha;
    int use_weighting;
    double cpo_alpha;
};

static const struct option_case option_cases[] = {
    {"sigmoid,sft", {0.7, 0.3}, 0.3, 0, 1, DIVERGENCE_REVERSE_KL, 0.5, 0, 1},
    {"sigmoid,sft", {0.7, 0.3}, 0.3, 0.2, 0.5, DIVERGENCE_REVERSE_KL, 0.5, 1, 1},
    {"sigmoid,ipo,hinge", {1, 0.5, 0.2}, 0.3, 0, 1, DIVERGENCE_FORWARD_KL, 0.5, 0, 1},
    {"robust", {1}, 0.3, 0.1, 1, DIVERGENCE_JS, 0.5, 0, 1},
    {"exo_pair", {1}, 0.3, 0.1, 1, DIVERGENCE_ALPHA, 0.5, 1, 1},
    {"discopop", {1}, 0.3, 0, 0, DIVERGENCE_ALPHA, 1.5, 0, 1},
    {"sigmoid_norm", {1}, 2, 0, 0.3, DIVERGENCE_ALPHA, 1, 0, 1},
    {"aot", {1}, 0.3, 0.1, 0.7, DIVERGENCE_REVERSE_KL, 0.5, 0, 1},
    {"aot,aot_unpaired,sft", {1, 1, 1}, 0.3, 0.1, 1, DIVERGENCE_REVERSE_KL, 0.5, 0, 1},
    {"simpo", {1}, 2, 0.1, 1, DIVERGENCE_REVERSE_KL, 0.5, 0, 0},
    {"cpo", {0.5}, 0.3, 0.1, 1, DIVERGENCE_REVERSE_KL, 0.5, 0, 0.4},
};

static struct preference_options options_of(const struct option_case *c)
{
    struct preference_options o = preference_defaults();
    char names[128], *rest = names;
    snprintf(names, sizeof names, "%s", c->losses);
    o.num_losses = 0;
    for (char *name; (name = strsep(&rest, ","));) {
        o.losses[o.num_losses] = preference_loss_find(name);
        assert_non_null(o.losses[o.num_losses]);
        o.loss_weights[o.num_losses] = c->weights[o.num_losses];
        o.num_losses++;
    }
    o.beta = c->beta;
    o.label_smoothing = c->label_smoothing;
    o.ld_alpha = c->ld_alpha;
    o.divergence = c->divergence;
    o.f_alpha_divergence_coef = c->alpha;
    o.use_weighting = c->use_weighting;
    o.cpo_alpha = c->cpo_alpha;
    return o;
}

/* A row by itself, with the options it cannot do without. */
static struct preference_options plain_options(const struct preference_loss *l)
{
    struct preference_options o = preference_defaults();
    o.losses[0] = l;
    if (l->smoothing_above >= 0) o.label_smoothing = 0.05;
    return o;
}

/* --- rows of the table --- */

static double uniform(uint64_t *counter)
{
    uint32_t words[4], at[4] = {(uint32_t)(*counter)++};
    rng_words(rng_key(7, RNG_SAMPLE, 0), at, words);
    return words[0] * 0x1p-32;
}

static double loss_at(const struct preference_loss *l, const struct preference_options *o,
                      struct pair_point x, double dc, double dr)
{
    struct pair_value y = {0};
    x.chosen += dc;
    x.rejected += dr;
    l->pair(o, &x, &y);
    return y.loss;
}

static void test_rows_have_the_right_slopes(void **state)
{
    (void)state;
    const struct preference_loss *l;
    uint64_t counter = 0;
    for (int row = 0; (l = preference_loss_at(row)); row++) {
        if (!l->pair) continue;
        struct preference_options o = plain_options(l);
        int mean = !!(l->flags & LOSS_MEAN_LOGP);
        for (int i = 0; i < 200; i++) {
            double span = mean ? 3 : 60, h = 1e-5;
            o.beta = 0.05 + uniform(&counter);
            struct pair_point x = {.chosen = mean ? -0.01 - span * uniform(&counter)
                                                  : span * (uniform(&counter) - 0.5),
                                   .rejected = mean ? -0.01 - span * uniform(&counter)
                                                    : span * (uniform(&counter) - 0.5),
                                   .chosen_tokens = 1 + i % 7,
                                   .rejected_tokens = 1 + i % 5,
                                   .kl = l->flags & LOSS_KL ? 0.5 : 0};
            struct pair_value y = {0};
            l->pair(&o, &x, &y);
            double c = (loss_at(l, &o, x, h, 0) - loss_at(l, &o, x, -h, 0)) / (2 * h);
            double r = (loss_at(l, &o, x, 0, h) - loss_at(l, &o, x, 0, -h)) / (2 * h);
            double kink = fabs(1 - o.beta * (x.chosen - x.rejected)); /* hinge's */
            if (kink < 1e-4) continue;
            double scale = 1e-6 * fmax(1, fmax(fabs(c), fabs(y.loss)));
            if (fabs(c - y.d_chosen) > scale || fabs(r - y.d_rejected) > scale)
                fail_msg("%s at %g, %g: slopes %.9g %.9g, differences %.9g %.9g", l->name, x.chosen,
                         x.rejected, y.d_chosen, y.d_rejected, c, r);
        }
    }
}

/* Far out, nothing overflows that need not; a NaN is never hidden. */
static void test_rows_far_out(void **state)
{
    (void)state;
    const struct preference_loss *l;
    for (int row = 0; (l = preference_loss_at(row)); row++) {
        if (!l->pair) continue;
        struct preference_options o = plain_options(l);
        double far = l->flags & LOSS_MEAN_LOGP ? 0 : 1e4;
        struct pair_point points[] = {{.chosen = far, .rejected = -1e4},
                                      {.chosen = -1e4, .rejected = far},
                                      {.chosen = far, .rejected = far}};
        for (size_t i = 0; i < 3; i++) {
            struct pair_value y = {0};
            points[i].chosen_tokens = points[i].rejected_tokens = 3;
            l->pair(&o, &points[i], &y);
            if (!isfinite(y.loss) || !isfinite(y.d_chosen) || !isfinite(y.d_rejected))
                fail_msg("%s, point %zu: %g, %g, %g", l->name, i, y.loss, y.d_chosen, y.d_rejected);
            struct pair_value n = {0};
            points[i].chosen = NAN;
            l->pair(&o, &points[i], &n);
            if (!isnan(n.loss)) fail_msg("%s hides a NaN", l->name);
        }
    }
}

static void test_divergences(void **state)
{
    (void)state;
    uint64_t counter = 1000;
    for (int d = 0; d < NUM_DIVERGENCES; d++) {
        assert_int_equal(divergence_find(divergence_name((enum divergence)d)), d);
        for (int i = 0; i < 100; i++) {
            double x = 6 * (uniform(&counter) - 0.5), a = 3 * uniform(&counter), slope, ignored;
            double h = 1e-5;
            divergence_score((enum divergence)d, a, x, &slope);
            double difference = (divergence_score((enum divergence)d, a, x + h, &ignored) -
                                 divergence_score((enum divergence)d, a, x - h, &ignored)) /
                                (2 * h);
            assert_true(fabs(slope - difference) <= 1e-6 * fmax(1, fabs(slope)));
        }
    }
    double slope;
    assert_int_equal(divergence_find("kl"), -1);
    /* where the exponent ends, the score is flat; next to 1 it is the log-ratio */
    assert_true(fabs(divergence_score(DIVERGENCE_ALPHA, 3, 50, &slope) / (exp(80) / 2) - 1) < 1e-9);
    assert_true(slope == 0);
    assert_true(divergence_score(DIVERGENCE_ALPHA, 1 + 1e-7, 5, &slope) == 5);
    assert_true(slope == 1);
}

/* --- micro-batches --- */

struct scene {
    struct preference_input in;
    struct preference_record records[RECORDS];
    float logp[ROWS_MAX], reference[ROWS_MAX], sum_p2[ROWS_MAX];
};

static struct preference_span take(int32_t *rows, int32_t count)
{
    struct preference_span s = {*rows, count};
    *rows += count;
    return s;
}

/* Multiples of 2^-10, so that small steps on them are exact in fp32. */
static float coarse(double x) { return (float)(round(x * 1024) / 1024); }

static void make_scene(struct scene *s, int unpaired)
{
    static const int32_t lengths[RECORDS][4] = {
        {3, 5, 5, 2}, {2, 4, 5, 3}, {4, 7, 7, 1}, {1, 3, 2, 4}, {2, 6, 7, 2}};
    int32_t rows = 0;
    uint64_t counter = 5000;
    *s = (struct scene){0};
    for (int i = 0; i < RECORDS; i++) {
        struct preference_record *r = &s->records[i];
        r->prompt = take(&rows, lengths[i][0]);
        if (!unpaired || i % 2 == 0) r->chosen = take(&rows, lengths[i][1]);
        if (!unpaired || i % 2) r->rejected = take(&rows, lengths[i][2]);
        if (unpaired) r->mismatch = take(&rows, lengths[i][3]);
    }
    rows++; /* one of no span */
    assert_true(rows <= ROWS_MAX);
    for (int32_t i = 0; i < rows; i++) {
        s->logp[i] = coarse(-0.05 - 3 * uniform(&counter));
        s->reference[i] = coarse(-0.05 - 2.6 * uniform(&counter));
        s->sum_p2[i] = coarse(-2 * uniform(&counter));
    }
    s->in = (struct preference_input){.S = rows,
                                      .logp = s->logp,
                                      .sum_p2 = s->sum_p2,
                                      .records = s->records,
                                      .num_records = RECORDS};
    preference_reference(s->reference, s->records, RECORDS);
}

static struct preference_step step_of(const struct preference *p, const struct scene *s)
{
    struct preference_step step = {.records = s->in.num_records};
    for (int32_t i = 0; i < s->in.num_records; i++) {
        const struct preference_record *r = &s->records[i];
        if (p->needs.nll != NLL_NONE) step.nll_tokens += r->chosen.count;
        if (p->needs.nll == NLL_PROMPT_AND_CHOSEN) step.nll_tokens += r->prompt.count;
    }
    return step;
}

static double loss_of(struct preference *p, const struct scene *s)
{
    struct preference_sums sums = {0};
    preference_run(p, NULL, &s->in, NULL, &sums);
    return preference_loss_mean(&sums);
}

/* (f(h) - f(-h)) / 2h twice, extrapolated to h = 0. What is detached is held still: the weights of
 * use_weighting stay when sum_p2 moves along. */
static double slope_by_token(struct preference *p, struct scene *s, int32_t row)
{
    float at = s->logp[row], p2 = s->sum_p2[row];
    double slopes[2];
    for (int k = 0; k < 2; k++) {
        float h = k ? 0x1p-7f : 0x1p-6f;
        s->logp[row] = at + h, s->sum_p2[row] = p2 + h;
        double above = loss_of(p, s);
        s->logp[row] = at - h, s->sum_p2[row] = p2 - h;
        slopes[k] = (above - loss_of(p, s)) / (2 * (double)h);
    }
    s->logp[row] = at, s->sum_p2[row] = p2;
    return (4 * slopes[1] - slopes[0]) / 3;
}

static int is_mismatch(const struct scene *s, int32_t row)
{
    for (int i = 0; i < RECORDS; i++) {
        struct preference_span m = s->records[i].mismatch;
        if (row >= m.first && row < m.first + m.count) return 1;
    }
    return 0;
}

static void check_gradient(const struct preference_options *o, const char *name)
{
    static struct scene s;
    struct err e = {0};
    struct preference p;
    struct preference_sums sums = {0};
    const char *key;
    float dlogp[ROWS_MAX];
    CHECK_OK(preference_check(o, &key, &e), &e);
    make_scene(&s, preference_needs(o).unpaired);
    CHECK_OK(preference_init(&p, o, RECORDS, &e), &e);
    struct preference_step step = step_of(&p, &s);
    preference_run(&p, &step, &s.in, dlogp, &sums);
    double divisor = preference_divisor(o, &step, 1), difference = 0, size = 0;
    for (int32_t i = 0; i < s.in.S; i++) {
        double slope = is_mismatch(&s, i) ? 0 : slope_by_token(&p, &s, i); /* K is detached */
        if (is_mismatch(&s, i)) assert_true(dlogp[i] == 0);
        difference += pow(dlogp[i] / divisor - slope, 2);
        size += slope * slope;
    }
    assert_true(size > 0);
    assert_true(dlogp[s.in.S - 1] == 0);
    if (!(sqrt(difference / size) <= 2e-6))
        fail_msg("%s: gradient off by %.2e", name, sqrt(difference / size));
    preference_free(&p);
}

static void test_gradients_by_token(void **state)
{
    (void)state;
    const struct preference_loss *l;
    for (int row = 0; (l = preference_loss_at(row)); row++) {
        struct preference_options o = plain_options(l);
        check_gradient(&o, l->name);
        o.reduction = LOSS_MICROBATCH_MEAN;
        check_gradient(&o, l->name);
    }
    for (size_t i = 0; i < sizeof option_cases / sizeof *option_cases; i++) {
        struct preference_options o = options_of(&option_cases[i]);
        check_gradient(&o, option_cases[i].losses);
        o.reduction = LOSS_MICROBATCH_MEAN;
        check_gradient(&o, option_cases[i].losses);
    }
}

/* The scene in two micro-batches, of 2 records and of 3: their sums, and the gradient of each row.
 */
static void run_in_two(struct preference *p, const struct scene *s,
                       const struct preference_step *step, struct preference_sums *sums,
                       double *gradient)
{
    float dlogp[ROWS_MAX];
    for (int part = 0; part < 2; part++) {
        struct preference_input in = s->in;
        struct preference_sums own = {0};
        in.records = s->records + 2 * part;
        in.num_records = part ? RECORDS - 2 : 2;
        preference_run(p, step, &in, dlogp, &own);
        preference_sums_add(sums, &own);
        for (int32_t i = 0; i < s->in.S; i++) gradient[i] += dlogp[i];
    }
}

static void check_metrics_equal(const struct preference_sums *a, const struct preference_sums *b,
                                const char *name)
{
    for (int m = 0; m < NUM_PREFERENCE_METRICS; m++) {
        double x = 0, y = 0;
        int there = preference_metric(a, (enum preference_metric)m, &x);
        assert_int_equal(there, preference_metric(b, (enum preference_metric)m, &y));
        if (fabs(x - y) > 1e-12 * fmax(1, fabs(x)))
            fail_msg("%s: %s is %.9g or %.9g", name,
                     preference_metric_name((enum preference_metric)m), x, y);
    }
}

/* token_mean: two micro-batches are one, unless the loss says that it is coupled. */
static void test_micro_batches_add_up(void **state)
{
    (void)state;
    static struct scene s;
    const struct preference_loss *l;
    for (int row = 0; (l = preference_loss_at(row)); row++) {
        struct preference_options o = plain_options(l);
        struct preference p;
        struct preference_sums one = {0}, two = {0};
        struct err e = {0};
        float dlogp[ROWS_MAX];
        double gradient[ROWS_MAX] = {0};
        make_scene(&s, preference_needs(&o).unpaired);
        CHECK_OK(preference_init(&p, &o, RECORDS, &e), &e);
        struct preference_step step = step_of(&p, &s);
        preference_run(&p, &step, &s.in, dlogp, &one);
        run_in_two(&p, &s, &step, &two, gradient);
        double difference = 0;
        for (int32_t i = 0; i < s.in.S; i++)
            difference = fmax(difference, fabs(gradient[i] - dlogp[i]));
        int same = difference < 1e-6 &&
                   fabs(preference_loss_mean(&one) - preference_loss_mean(&two)) < 1e-9;
        if (same == p.needs.coupled) fail_msg("%s: coupled is %d", l->name, p.needs.coupled);
        if (!p.needs.coupled) check_metrics_equal(&one, &two, l->name);
        assert_true(preference_divisor(&o, &step, 2) == RECORDS);
        preference_free(&p);
    }
}

/* microbatch_mean: the mean of the micro-batches' means, in loss, gradient and metrics. */
static void test_mean_of_means(void **state)
{
    (void)state;
    static struct scene s;
    struct option_case c = option_cases[0];
    struct preference_options o = options_of(&c);
    struct preference p;
    struct err e = {0};
    struct preference_sums both = {0}, parts[2];
    memset(parts, 0, sizeof parts);
    double gradient[ROWS_MAX] = {0}, value, first, second;
    float dlogp[ROWS_MAX];
    make_scene(&s, 0);
    o.reduction = LOSS_MICROBATCH_MEAN;
    CHECK_OK(preference_init(&p, &o, RECORDS, &e), &e);
    run_in_two(&p, &s, NULL, &both, gradient);
    for (int part = 0; part < 2; part++) {
        struct preference_input in = s.in;
        in.records = s.records + 2 * part;
        in.num_records = part ? RECORDS - 2 : 2;
        preference_run(&p, NULL, &in, dlogp, &parts[part]);
        for (int32_t i = 0; i < s.in.S; i++) gradient[i] -= dlogp[i];
    }
    double want = (preference_loss_mean(&parts[0]) + preference_loss_mean(&parts[1])) / 2;
    assert_true(fabs(preference_loss_mean(&both) - want) < 1e-12);
    assert_true(preference_divisor(&o, NULL, 2) == 2);
    for (int m = 0; m < NUM_PREFERENCE_METRICS; m++) {
        if (!preference_metric(&both, (enum preference_metric)m, &value)) continue;
        assert_true(preference_metric(&parts[0], (enum preference_metric)m, &first));
        assert_true(preference_metric(&parts[1], (enum preference_metric)m, &second));
        assert_true(fabs(value - (first + second) / 2) < 1e-12);
    }
    for (int32_t i = 0; i < s.in.S; i++) assert_true(gradient[i] == 0);
    preference_free(&p);
}

/* --- what does not go together --- */

struct mistake {
    const char *losses;
    const char *key; /* the one at fault, and set to value unless it is loss_type */
    double value;
    const char *says;
};

static const struct mistake mistakes[] = {
    {"sigmoid", "beta", 0, "above 0"},
    {"sigmoid", "beta", NAN, "above 0"},
    {"sigmoid", "label_smoothing", 1.5, "from 0 to 1"},
    {"robust", "label_smoothing", 0.5, "below 0.5"},
    {"exo_pair", "label_smoothing", 0, "above 0"},
    {"hinge", "label_smoothing", 0.1, "means nothing to loss_type hinge"},
    {"sigmoid", "simpo_gamma", 1, "means nothing to loss_type sigmoid"},
    {"orpo", "cpo_alpha", 0, "means nothing to loss_type orpo"},
    {"sigmoid", "discopop_tau", 0.1, "means nothing"},
    {"discopop", "discopop_tau", 0, "above 0"},
    {"sigmoid", "desirable_weight", 2, "means nothing"},
    {"kto", "undesirable_weight", -1, "from 0"},
    {"simpo", "ld_alpha", 0.5, "means nothing to loss_type simpo"},
    {"sigmoid", "ld_alpha", 1.5, "from 0 to 1"},
    {"sigmoid,nca_pair", "f_divergence_type", DIVERGENCE_JS, "means nothing to loss_type nca_pair"},
    {"sigmoid", "f_alpha_divergence_coef", 0.3, "f_divergence_type reverse_kl"},
    {"kto", "f_alpha_divergence_coef", 0.3, "means nothing to loss_type kto"},
    {"aot", "use_weighting", 1, "means nothing to loss_type aot"},
    {"sigmoid,kto", "loss_type", 0, "kto cannot be added"},
    {"sigmoid,simpo", "loss_type", 0, "simpo cannot be added"},
    {"sigmoid", "loss_weights", NAN, "not a number"},
};

static void spoil(struct preference_options *o, const struct mistake *m)
{
    const struct {
        const char *key;
        double *at;
    } numbers[] = {{"beta", &o->beta},
                   {"label_smoothing", &o->label_smoothing},
                   {"simpo_gamma", &o->simpo_gamma},
                   {"cpo_alpha", &o->cpo_alpha},
                   {"discopop_tau", &o->discopop_tau},
                   {"desirable_weight", &o->desirable_weight},
                   {"undesirable_weight", &o->undesirable_weight},
                   {"ld_alpha", &o->ld_alpha},
                   {"f_alpha_divergence_coef", &o->f_alpha_divergence_coef},
                   {"loss_weights", &o->loss_weights[0]}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(numbers[i].key, m->key)) *numbers[i].at = m->value;
    if (!strcmp(m->key, "f_divergence_type")) o->divergence = (enum divergence)m->value;
    if (!strcmp(m->key, "use_weighting")) o->use_weighting = 1;
}

static void test_mistakes(void **state)
{
    (void)state;
    const char *key = NULL;
    struct preference_options none = preference_defaults();
    struct err e = {0};
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        const struct mistake *m = &mistakes[i];
        struct option_case c = {.losses = m->losses, .weights = {1, 1, 1}};
        struct preference_options o = options_of(&c), plain = preference_defaults();
        plain.num_losses = o.num_losses;
        memcpy(plain.losses, o.losses, sizeof o.losses);
        memcpy(plain.loss_weights, o.loss_weights, sizeof o.loss_weights);
        spoil(&plain, m);
        e = (struct err){0};
        assert_int_equal(preference_check(&plain, &key, &e), ERR_CONFIG);
        if (!strstr(e.message, m->says) || strcmp(key, m->key))
            fail_msg("mistake %zu: %s says: %s", i, key, e.message);
    }
    none.num_losses = 0;
    assert_int_equal(preference_check(&none, &key, &e), ERR_CONFIG);
    assert_string_equal(key, "loss_type");
    assert_null(preference_loss_find("dpo"));
    assert_null(preference_loss_at(-1));
}

static void test_needs(void **state)
{
    (void)state;
    struct preference_options o = plain_options(preference_loss_find("orpo"));
    struct preference_needs n = preference_needs(&o);
    assert_true(!n.reference && !n.unpaired && n.prompt_tokens && !n.coupled);
    o = plain_options(preference_loss_find("kto"));
    n = preference_needs(&o);
    assert_true(n.reference && n.unpaired && n.mismatch && n.coupled && n.nll == NLL_NONE);
    o = plain_options(preference_loss_find("simpo"));
    assert_int_equal(preference_needs(&o).nll, NLL_CHOSEN);
    o.cpo_alpha = 0;
    assert_int_equal(preference_needs(&o).nll, NLL_NONE);
    o = plain_options(preference_loss_find("sigmoid"));
    o.use_weighting = 1;
    n = preference_needs(&o);
    assert_true(n.reference && n.sum_p2 && !n.coupled);
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    struct preference_options o = preference_defaults();
    for (long n = 1; n <= 3; n++) {
        struct preference p;
        struct err e = {0};
        mem_fail_after(n);
        enum status s = preference_init(&p, &o, 8, &e);
        mem_fail_after(0);
        assert_int_equal(s, ERR_MEMORY);
        preference_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_have_the_right_slopes),
        cmocka_unit_test(test_rows_far_out),
        cmocka_unit_test(test_divergences),
        cmocka_unit_test(test_gradients_by_token),
        cmocka_unit_test(test_micro_batches_add_up),
        cmocka_unit_test(test_mean_of_means),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_needs),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
