/* Every preference loss and option against TRL: loss, metrics, gradient by each token's
 * log-probability (tests/golden/preference/losses.json, made by tools/golden/preference_losses.py).
 */
#include "support/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "objective/preference.h"

#define GOLDEN "tests/golden/preference/losses.json"
#define TOLERANCE 1e-6
#define ROWS_MAX 256
#define RECORDS_MAX 16

struct micro_batch {
    struct preference_input in;
    struct preference_record records[RECORDS_MAX];
    float logp[ROWS_MAX], reference[ROWS_MAX], sum_p2[ROWS_MAX], mean_logit[ROWS_MAX],
        entropy[ROWS_MAX];
    uint8_t hit[ROWS_MAX];
};

static void read_floats(const json_t *o, const char *key, float *out)
{
    const json_t *a = json_object_get(o, key);
    assert_true(json_array_size(a) <= ROWS_MAX);
    for (size_t i = 0; i < json_array_size(a); i++)
        out[i] = (float)json_number_value(json_array_get(a, i));
}

static struct preference_span read_span(const json_t *record, const char *key)
{
    const json_t *a = json_object_get(record, key);
    return (struct preference_span){(int32_t)json_integer_value(json_array_get(a, 0)),
                                    (int32_t)json_integer_value(json_array_get(a, 1))};
}

static void read_batch(const json_t *o, struct micro_batch *b)
{
    const json_t *records = json_object_get(o, "records"), *hits = json_object_get(o, "hit");
    *b = (struct micro_batch){0};
    read_floats(o, "logp", b->logp);
    read_floats(o, "reference", b->reference);
    read_floats(o, "sum_p2", b->sum_p2);
    read_floats(o, "mean_logit", b->mean_logit);
    read_floats(o, "entropy", b->entropy);
    for (size_t i = 0; i < json_array_size(hits); i++)
        b->hit[i] = (uint8_t)json_integer_value(json_array_get(hits, i));
    assert_true(json_array_size(records) <= RECORDS_MAX);
    for (size_t i = 0; i < json_array_size(records); i++) {
        const json_t *r = json_array_get(records, i);
        b->records[i] = (struct preference_record){.prompt = read_span(r, "prompt"),
                                                   .chosen = read_span(r, "chosen"),
                                                   .rejected = read_span(r, "rejected"),
                                                   .mismatch = read_span(r, "mismatch")};
    }
    b->in = (struct preference_input){.S = (int32_t)json_integer_value(json_object_get(o, "S")),
                                      .logp = b->logp,
                                      .sum_p2 = b->sum_p2,
                                      .mean_logit = b->mean_logit,
                                      .entropy = b->entropy,
                                      .hit = b->hit,
                                      .records = b->records,
                                      .num_records = (int32_t)json_array_size(records)};
    preference_reference(b->reference, b->records, b->in.num_records);
}

static void read_losses(const json_t *o, struct preference_options *p)
{
    const json_t *names = json_object_get(o, "loss_type"),
                 *weights = json_object_get(o, "loss_weights");
    p->num_losses = (int)json_array_size(names);
    for (int i = 0; i < p->num_losses; i++) {
        p->losses[i] = preference_loss_find(json_string_value(json_array_get(names, (size_t)i)));
        assert_non_null(p->losses[i]);
        p->loss_weights[i] = weights ? json_number_value(json_array_get(weights, (size_t)i)) : 1;
    }
}

static struct preference_options read_options(const json_t *o)
{
    struct preference_options p = preference_defaults();
    const struct {
        const char *key;
        double *to;
    } numbers[] = {{"beta", &p.beta},
                   {"label_smoothing", &p.label_smoothing},
                   {"simpo_gamma", &p.simpo_gamma},
                   {"cpo_alpha", &p.cpo_alpha},
                   {"discopop_tau", &p.discopop_tau},
                   {"desirable_weight", &p.desirable_weight},
                   {"undesirable_weight", &p.undesirable_weight},
                   {"f_alpha_divergence_coef", &p.f_alpha_divergence_coef},
                   {"ld_alpha", &p.ld_alpha}};
    size_t understood = 1;
    read_losses(o, &p);
    understood += !!json_object_get(o, "loss_weights");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const json_t *v = json_object_get(o, numbers[i].key);
        if (!v) continue;
        *numbers[i].to = json_number_value(v);
        understood++;
    }
    const char *divergence = json_string_value(json_object_get(o, "f_divergence_type"));
    if (divergence) {
        assert_true(divergence_find(divergence) >= 0);
        p.divergence = (enum divergence)divergence_find(divergence);
        understood++;
    }
    p.use_weighting = json_is_true(json_object_get(o, "use_weighting"));
    understood += (size_t)p.use_weighting;
    assert_int_equal(understood, json_object_size(o));
    return p;
}

static double error_of(double got, double want) { return fabs(got - want) / fmax(1, fabs(want)); }

/* The worst metric's error. TRL's must all be there, but for a kl of 0 where a loss has none. */
static double check_metrics(const struct preference_sums *sums, const json_t *want,
                            const char *case_name)
{
    double worst = 0;
    size_t found = 0;
    for (int m = 0; m < NUM_PREFERENCE_METRICS; m++) {
        double got;
        const char *name = preference_metric_name((enum preference_metric)m);
        const json_t *v = json_object_get(want, name);
        int there = preference_metric(sums, (enum preference_metric)m, &got);
        if (!v) continue;
        found++;
        if (!there && m == PREFERENCE_KL && json_number_value(v) == 0) continue;
        if (!there) fail_msg("%s: no %s", case_name, name);
        worst = fmax(worst, error_of(got, json_number_value(v)));
    }
    if (found != json_object_size(want)) fail_msg("%s: a metric is unknown", case_name);
    return worst;
}

static double gradient_error(const float *dlogp, double divisor, const json_t *want, int32_t S)
{
    double difference = 0, size = 0;
    assert_int_equal(json_array_size(want), S);
    for (int32_t s = 0; s < S; s++) {
        double w = json_number_value(json_array_get(want, (size_t)s));
        difference += pow(dlogp[s] / divisor - w, 2);
        size += w * w;
    }
    return size > 0 ? sqrt(difference / size) : sqrt(difference);
}

static double nll_tokens(const struct preference *p, const struct micro_batch *b)
{
    double n = 0;
    for (int32_t i = 0; i < b->in.num_records; i++)
        n += b->records[i].chosen.count + (p->needs.prompt_tokens ? b->records[i].prompt.count : 0);
    return n;
}

/* One case under one reduction; a single micro-batch makes both the same. */
static void check_case(const json_t *c, const struct micro_batch *b, enum loss_reduction reduction,
                       double worst[3])
{
    struct err e = {0};
    struct preference p;
    struct preference_sums sums = {0};
    float dlogp[ROWS_MAX];
    const char *key;
    char name[256];
    char *text = json_dumps(json_object_get(c, "options"), JSON_COMPACT);
    struct preference_options o = read_options(json_object_get(c, "options"));
    snprintf(name, sizeof name, "%s", text);
    free(text);
    CHECK_OK(preference_check(&o, &key, &e), &e);
    o.reduction = reduction;
    CHECK_OK(preference_init(&p, &o, b->in.num_records, &e), &e);
    struct preference_step step = {.records = b->in.num_records, .nll_tokens = nll_tokens(&p, b)};
    preference_run(&p, &step, &b->in, dlogp, &sums);
    double want = json_number_value(json_object_get(c, "loss"));
    double errors[3] = {error_of(preference_loss_mean(&sums), want),
                        check_metrics(&sums, json_object_get(c, "metrics"), name),
                        gradient_error(dlogp, preference_divisor(&o, &step, 1),
                                       json_object_get(c, "dlogp"), b->in.S)};
    for (int i = 0; i < 3; i++) {
        if (!(errors[i] <= TOLERANCE))
            fail_msg("%s: %s off by %.2e", name, (const char *[]){"loss", "metrics", "gradient"}[i],
                     errors[i]);
        worst[i] = fmax(worst[i], errors[i]);
    }
    preference_free(&p);
}

static void test_losses(void **state)
{
    (void)state;
    static struct micro_batch b;
    struct err e = {0};
    json_t *golden;
    double worst[3] = {0};
    CHECK_OK(json_parse_file(GOLDEN, &golden, &e), &e);
    const json_t *cases = json_object_get(golden, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(c, "batch"));
        read_batch(json_object_get(json_object_get(golden, "batches"), name), &b);
        check_case(c, &b, LOSS_TOKEN_MEAN, worst);
        check_case(c, &b, LOSS_MICROBATCH_MEAN, worst);
    }
    print_message("%zu cases of TRL: losses within %.1e, metrics %.1e, gradients %.1e\n",
                  json_array_size(cases), worst[0], worst[1], worst[2]);
    assert_true(json_array_size(cases) >= 100);
    json_decref(golden);
}

/* Every row of the table has a case. */
static void test_all_rows_are_there(void **state)
{
    (void)state;
    struct err e = {0};
    json_t *golden;
    const struct preference_loss *l;
    CHECK_OK(json_parse_file(GOLDEN, &golden, &e), &e);
    const json_t *cases = json_object_get(golden, "cases");
    for (int row = 0; (l = preference_loss_at(row)); row++) {
        int found = 0;
        for (size_t i = 0; i < json_array_size(cases); i++) {
            const json_t *names =
                json_object_get(json_object_get(json_array_get(cases, i), "options"), "loss_type");
            found += !strcmp(json_string_value(json_array_get(names, 0)), l->name);
        }
        if (!found) fail_msg("%s has no case", l->name);
    }
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses),
                                       cmocka_unit_test(test_all_rows_are_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
