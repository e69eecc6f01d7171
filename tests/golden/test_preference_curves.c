/* Preference runs step by step against TRL and PEFT: DPO with LoRA and full, with a shared prefix
 * and plain, KTO, ORPO, SimPO (tests/golden/preference/curves, made by
 * tools/golden/preference_curves.py from cria's own start weights and ids). The first steps of
 * each; with CRIA_CURVES_ALL set all of them, and every form: some 6 minutes of two cores. */
#include "support/check.h"

#include <dirent.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "run/new_model.h"
#include "run/trainer.h"

#define CURVES "tests/golden/preference/curves"
#define STEPS_MAX 50
#define STEPS_FIRST 6
#define METRICS (NUM_PREFERENCE_METRICS + 1) /* the loss behind them */
#define LOSS NUM_PREFERENCE_METRICS

static const char *shared;
static char work[] = "/tmp/cria-preference-curves-XXXXXX";

struct curve {
    json_t *golden;
    char name[64], model[512];
    int done, steps; /* steps: to be done */
    atomic_int stop;
    double values[STEPS_MAX][METRICS]; /* NaN: not logged */
};

static void on_log(void *context, const struct train_log *log)
{
    struct curve *c = context;
    assert_true(c->done < STEPS_MAX);
    double *values = c->values[c->done++];
    values[LOSS] = log->value[METRIC_loss];
    for (int m = 0; m < NUM_PREFERENCE_METRICS; m++)
        values[m] = metric_of_preferences(log->preferences, (enum preference_metric)m);
    c->stop = c->done == c->steps;
}

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* A new model with one of the shared data's tokenizers. */
static void make_start(struct curve *c)
{
    struct err e = {0};
    char path[600], from[600], hash[HASH_HEX_SIZE];
    const json_t *start = json_object_get(c->golden, "start");
    snprintf(c->model, sizeof c->model, "%s/%s", work, c->name);
    snprintf(path, sizeof path, "%s.json", c->model);
    CHECK_OK(json_write_file(json_object_get(start, "init_config"), path, &e), &e);
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(start, "init_seed"));
    CHECK_OK(new_model_init(path, c->model, seed, &e), &e);
    snprintf(from, sizeof from, "%s/%s/tokenizer.json", shared, text_of(start, "tokenizer"));
    snprintf(path, sizeof path, "%s/tokenizer.json", c->model);
    CHECK_OK(io_copy_file(from, path, &e), &e);
    snprintf(path, sizeof path, "%s/model.safetensors", c->model);
    CHECK_OK(hash_file(path, hash, &e), &e);
    if (strcmp(hash, text_of(start, "model_hash")))
        print_error("%s: other start weights than the golden's: run "
                    "tools/golden/preference_curves.py\n",
                    c->name);
    assert_string_equal(hash, text_of(start, "model_hash"));
}

static void check_report(const struct curve *c, const struct session *s)
{
    const struct loader_report *r = loader_report(s->train_loader);
    assert_int_equal(r->documents, json_integer_value(json_object_get(c->golden, "records_kept")));
    assert_int_equal(r->documents + r->dropped_documents,
                     json_integer_value(json_object_get(c->golden, "records")));
}

static void train(struct curve *c, int sharing)
{
    static struct session session;
    struct config config = {0};
    struct err e = {0};
    char items[64][768];
    const char *overrides[64], *key;
    json_t *value;
    size_t n = 0;
    struct train_observer o = {.context = c, .logged = on_log, .stop = &c->stop};
    json_object_foreach(json_object_get(c->golden, "config"), key, value)
    {
        if (json_is_string(value))
            snprintf(items[n++], sizeof *items, "%s=%s", key, json_string_value(value));
        else
            snprintf(items[n++], sizeof *items, "%s=%.17g", key, json_number_value(value));
    }
    snprintf(items[n++], sizeof *items, "model_name_or_path=%s", c->model);
    snprintf(items[n++], sizeof *items, "output_dir=%s_out_%d", c->model, sharing);
    snprintf(items[n++], sizeof *items, "datasets=%s/%s", shared, text_of(c->golden, "data"));
    snprintf(items[n++], sizeof *items, "prefix_sharing=%s", sharing ? "true" : "false");
    for (size_t i = 0; i < n; i++) overrides[i] = items[i];
    CHECK_OK(config_load(&config, NULL, overrides, n, &e), &e);
    CHECK_OK(session_open(&session, &config, NULL, &e), &e);
    check_report(c, &session);
    c->done = c->stop = 0;
    enum status status = trainer_run(&session, &o, &e);
    if (status != ERR_STOPPED) CHECK_OK(status, &e);
    session_close(&session);
    config_free(&config);
}

/* The golden's value, or NaN where TRL logs none. */
static double want(const struct curve *c, const char *metric, int step)
{
    const json_t *all = json_object_get(json_object_get(c->golden, "steps"), metric);
    const json_t *v = json_array_get(all, (size_t)step);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* What a metric may be off by; 0: anything (accuracies where the margin is too small). TRL sums
 * some 450 tokens in fp32, and a mean logit is a sum of 32000 near 0. */
static double tolerance(const struct curve *c, const char *metric, int step)
{
    double beta = json_number_value(json_object_get(json_object_get(c->golden, "config"), "beta"));
    double w = want(c, "logps/chosen", step), l = want(c, "logps/rejected", step);
    double sums = 2e-7 * beta * ((isnan(w) ? 0 : fabs(w)) + (isnan(l) ? 0 : fabs(l)));
    double relative = 1e-4 * fabs(want(c, metric, step));
    if (!strcmp(metric, "rewards/accuracies"))
        return fabs(want(c, "rewards/margins", step)) > sums ? 1e-6 : 0;
    if (!strncmp(metric, "rewards/", 8)) return fmax(relative, sums);
    if (!strcmp(metric, "kl")) return fmax(relative, sums / beta);
    if (!strncmp(metric, "logits/", 7)) return fmax(relative, 1e-6);
    return relative;
}

static double mean(const struct curve *c, const char *metric, int first, int n)
{
    double total = 0;
    int there = 0;
    for (int i = first; i < first + n; i++) {
        double v = want(c, metric, i);
        if (isnan(v)) continue;
        total += v, there++;
    }
    return total / there;
}

/* The worst distance from TRL as a part of the tolerance, over all steps of all metrics. */
static void check_steps(const struct curve *c, int sharing)
{
    double worst = 0;
    char where[64] = "";
    const char *metric;
    json_t *values;
    assert_int_equal(c->done, c->steps);
    json_object_foreach(json_object_get(c->golden, "steps"), metric, values)
    {
        int m = 0;
        while (m < LOSS && strcmp(preference_metric_name((enum preference_metric)m), metric)) m++;
        assert_true(m < LOSS || !strcmp(metric, "loss"));
        for (int i = 0; i < c->steps; i++) {
            double v = want(c, metric, i), most = tolerance(c, metric, i);
            if (isnan(v) || most == 0) continue;
            double part = fabs(c->values[i][m] - v) / most;
            if (part <= worst) continue; /* a NaN of ours is worse */
            worst = isnan(part) ? INFINITY : part;
            snprintf(where, sizeof where, "%s of step %d", metric, i + 1);
        }
    }
    print_message("%-18s %-6s worst is %s at %.3f of the tolerance\n", c->name,
                  sharing ? "shared" : "plain", where, worst);
    assert_true(worst <= 1);
}

/* DPO's loss falls and its margins grow, from the first fifth of the steps to the last. */
static void check_learning(const struct curve *c)
{
    int n = STEPS_MAX / 5, last = STEPS_MAX - n;
    assert_true(mean(c, "loss", last, n) < mean(c, "loss", 0, n));
    assert_true(mean(c, "rewards/margins", last, n) > mean(c, "rewards/margins", 0, n));
}

/* With a shared prefix and plain; sharegpt_dpo in its plain form only with CRIA_CURVES_ALL set. */
static int in_both_forms(const char *name)
{
    if (strncmp(name, "dpo", 3)) return 0;
    return !strncmp(name, "dpo_orca", 8) || getenv("CRIA_CURVES_ALL");
}

static void check_curve(const char *name)
{
    static struct curve c;
    struct err e = {0};
    char path[512];
    memset(&c, 0, sizeof c);
    snprintf(c.name, sizeof c.name, "%s", name);
    snprintf(path, sizeof path, CURVES "/%s.json", name);
    CHECK_OK(json_parse_file(path, &c.golden, &e), &e);
    c.steps =
        (int)json_integer_value(json_object_get(json_object_get(c.golden, "config"), "max_steps"));
    if (!getenv("CRIA_CURVES_ALL")) c.steps = STEPS_FIRST;
    if (!strncmp(name, "dpo", 3)) check_learning(&c);
    make_start(&c);
    for (int sharing = 1; sharing >= !in_both_forms(name); sharing--) {
        train(&c, sharing);
        check_steps(&c, sharing);
    }
    json_decref(c.golden);
}

static void test_curves(void **state)
{
    (void)state;
    int found = 0;
    struct dirent *d;
    struct err e = {0};
    DIR *dir = opendir(CURVES);
    assert_non_null(dir);
    assert_non_null(mkdtemp(work));
    while ((d = readdir(dir))) {
        char name[64];
        size_t n = strlen(d->d_name);
        if (n < 6 || n - 5 >= sizeof name || strcmp(d->d_name + n - 5, ".json")) continue;
        snprintf(name, sizeof name, "%.*s", (int)(n - 5), d->d_name);
        check_curve(name);
        found++;
    }
    closedir(dir);
    assert_int_equal(found, 7);
    CHECK_OK(io_remove_tree(work, &e), &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_curves)};
    shared = check_shared("curves of preference runs");
    return shared ? cmocka_run_group_tests(tests, NULL, NULL) : CHECK_SKIPPED;
}
