/* 50 steps of training, full and LoRA, step by step against transformers and PEFT
 * (tests/golden/curves, made by tools/golden/curves.py from cria's own start weights and ids). */
#include "support/check.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "run/new_model.h"
#include "run/trainer.h"

#define CURVES "tests/golden/curves"
#define STEPS 50

static const char *shared;
static char work[] = "/tmp/cria-curves-XXXXXX";

struct curve {
    json_t *golden;
    char model[512], out[512];
    int done;
    double losses[STEPS], norms[STEPS];
};

static void on_log(void *context, const struct train_log *log)
{
    struct curve *c = context;
    assert_true(c->done < STEPS);
    c->losses[c->done] = log->value[METRIC_loss];
    c->norms[c->done++] = log->value[METRIC_grad_norm];
}

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* A folder of the shared data, or a new model with one of its tokenizers. */
static void make_start(struct curve *c, const char *name)
{
    struct err e = {0};
    char path[600], from[600];
    const json_t *start = json_object_get(c->golden, "start");
    const char *folder = text_of(start, "folder");
    snprintf(c->model, sizeof c->model, "%s/%s", folder ? shared : work, folder ? folder : name);
    if (!folder) {
        snprintf(path, sizeof path, "%s/%s.json", work, name);
        CHECK_OK(json_write_file(json_object_get(start, "init_config"), path, &e), &e);
        uint64_t seed = (uint64_t)json_integer_value(json_object_get(start, "init_seed"));
        CHECK_OK(new_model_init(path, c->model, seed, &e), &e);
        snprintf(from, sizeof from, "%s/%s/tokenizer.json", shared, text_of(start, "tokenizer"));
        snprintf(path, sizeof path, "%s/tokenizer.json", c->model);
        CHECK_OK(io_copy_file(from, path, &e), &e);
    }
    char hash[HASH_HEX_SIZE];
    snprintf(path, sizeof path, "%s/model.safetensors", c->model);
    CHECK_OK(hash_file(path, hash, &e), &e);
    if (strcmp(hash, text_of(start, "model_hash")))
        print_error("%s: other start weights than the golden's: run tools/golden/curves.py\n",
                    name);
    assert_string_equal(hash, text_of(start, "model_hash"));
}

static void train(struct curve *c, const char *name)
{
    static struct session session;
    struct config config = {0};
    struct err e = {0};
    char items[64][768];
    const char *overrides[64], *key;
    json_t *value;
    size_t n = 0;
    struct train_observer o = {.context = c, .logged = on_log};
    json_object_foreach(json_object_get(c->golden, "config"), key, value)
    {
        if (json_is_string(value))
            snprintf(items[n++], sizeof *items, "%s=%s", key, json_string_value(value));
        else
            snprintf(items[n++], sizeof *items, "%s=%.17g", key, json_number_value(value));
    }
    snprintf(items[n++], sizeof *items, "model_name_or_path=%s", c->model);
    snprintf(items[n++], sizeof *items, "output_dir=%s/%s_out", work, name);
    snprintf(items[n++], sizeof *items, "datasets=%s/%s", shared, text_of(c->golden, "data"));
    for (size_t i = 0; i < n; i++) overrides[i] = items[i];
    CHECK_OK(config_load(&config, NULL, overrides, n, &e), &e);
    CHECK_OK(session_open(&session, &config, NULL, &e), &e);
    CHECK_OK(trainer_run(&session, &o, &e), &e);
    session_close(&session);
    config_free(&config);
}

static void check_curve(const char *name)
{
    static struct curve c;
    struct err e = {0};
    char path[512];
    double worst = 0, worst_norm = 0;
    c = (struct curve){0};
    snprintf(path, sizeof path, CURVES "/%s.json", name);
    CHECK_OK(json_parse_file(path, &c.golden, &e), &e);
    make_start(&c, name);
    train(&c, name);
    assert_int_equal(c.done, STEPS);
    for (int i = 0; i < STEPS; i++) {
        double want =
            json_number_value(json_array_get(json_object_get(c.golden, "losses"), (size_t)i));
        double norm =
            json_number_value(json_array_get(json_object_get(c.golden, "grad_norms"), (size_t)i));
        worst = fmax(worst, fabs(c.losses[i] - want) / fmax(1e-4 * want, 1e-5));
        worst_norm = fmax(worst_norm, fabs(c.norms[i] - norm) / norm);
    }
    print_message(
        "%-22s falls by %5.1f %%; worst step at %.4f of the tolerance, norms within %.1e\n", name,
        100 * json_number_value(json_object_get(c.golden, "fall")), worst, worst_norm);
    assert_true(worst <= 1);
    if (!strncmp(strchr(name, '_'), "_full", 5))
        assert_true(json_number_value(json_object_get(c.golden, "fall")) >= 0.15);
    json_decref(c.golden);
}

static void test_curves(void **state)
{
    (void)state;
    int found = 0;
    struct dirent *d;
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
    struct err e = {0};
    CHECK_OK(io_remove_tree(work, &e), &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_curves)};
    shared = check_shared("50-step loss curves");
    return shared ? cmocka_run_group_tests(tests, NULL, NULL) : CHECK_SKIPPED;
}
