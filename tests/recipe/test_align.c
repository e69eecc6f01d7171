/* Alignment from the outside: training on pairs with the reference computed first, a kill, going
 * on, a second run that finds the reference's numbers there, evaluation, the logs and the report.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "run/metrics.h"
#include "support/run_binary.h"
#include "support/tiny_run.h"

static struct tiny tiny;
static char data[320], out[320];

#define MODEL_KEY "model_name_or_path=" TINY_MODEL
#define SIZES                                                                                  \
    "template=orca", "max_length=256", "per_device_train_batch_size=4", "learning_rate=5e-3",  \
        "logging_steps=1", "val_size=4", "num_train_epochs=4", "eval_steps=5", "save_steps=2", \
        "finetuning=lora", "lora_r=4", "threads=1"
#define KNOWN "precompute_ref_log_probs=true"

static const char *output(const char *name)
{
    snprintf(out, sizeof out, "output_dir=%s/%s", tiny.dir, name);
    return out;
}

static json_t *history_of(const char *name)
{
    char file[64], path[256];
    json_t *history;
    struct err e = {0};
    snprintf(file, sizeof file, "%s/metrics.jsonl", name);
    tiny_path(&tiny, file, path);
    CHECK_OK(metrics_history(path, &history, &e), &e);
    return history;
}

static double last(const json_t *history, const char *key)
{
    for (size_t i = json_array_size(history); i-- > 0;) {
        json_t *v = json_object_get(json_array_get(history, i), key);
        if (v) return json_number_value(v);
    }
    fail_msg("no line has %s", key);
    return 0;
}

static void test_train(void **state)
{
    (void)state;
    static const char *const names[] = {
        "rewards/chosen", "rewards/rejected", "rewards/accuracies",  "rewards/margins",
        "logps/chosen",   "logps/rejected",   "logits/chosen",       "logits/rejected",
        "entropy",        "eval_loss",        "eval_rewards/margins"};
    struct ran r =
        run_cria(NULL, "train", "stage=dpo", MODEL_KEY, data, output("whole"), KNOWN, SIZES, NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.err, "reference: the base, without the adapter");
    CHECK_HAS(r.err, "20 records are computed and kept in");
    CHECK_HAS(r.err, "  margin ");
    ran_free(&r);
    json_t *history = history_of("whole");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) last(history, names[i]);
    assert_true(last(history, "loss") < 0.5);
    assert_true(last(history, "rewards/accuracies") > 0.9);
    assert_true(last(history, "eval_rewards/accuracies") > 0.9);
    json_decref(history);
}

/* The second run, with another loss and rate, computes no reference. */
static void test_reuse(void **state)
{
    (void)state;
    struct ran r = run_cria(NULL, "train", "stage=ipo", MODEL_KEY, data, output("again"), KNOWN,
                            SIZES, "beta=0.2", NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.err, "the reference's log-probabilities are taken from");
    assert_null(strstr(r.err, "are computed"));
    ran_free(&r);
}

/* Killed somewhere after its first checkpoint; then it ends as the one that never was. */
static void test_kill(void **state)
{
    (void)state;
    char path[256];
    struct running p = run_start_cria(NULL, "train", "stage=dpo", MODEL_KEY, data, output("cut"),
                                      KNOWN, SIZES, NULL);
    tiny_path(&tiny, "cut/checkpoint-2", path);
    for (int waited = 0; !io_exists(path) && waited < 30000; waited += 5) usleep(5000);
    kill(p.pid, SIGKILL);
    struct ran r = run_wait(&p);
    assert_true(r.signal == SIGKILL || r.code == 0);
    ran_free(&r);
    r = run_cria(NULL, "train", "stage=dpo", MODEL_KEY, data, output("cut"), KNOWN, SIZES,
                 "resume_from_checkpoint=auto", NULL);
    CHECK_EXIT(&r, 0);
    ran_free(&r);
    assert_true(
        tiny_same(&tiny, "whole/adapter_model.safetensors", "cut/adapter_model.safetensors"));
}

static json_t *evaluate(const char *model, const char *adapter)
{
    char pairs[256], dir[256];
    struct err e = {0};
    json_t *o;
    tiny_path(&tiny, "pairs.jsonl", pairs);
    tiny_path(&tiny, adapter ? adapter : ".", dir);
    struct ran r = adapter ? run_cria(NULL, "eval", "--model", model, "--adapter", dir, "--data",
                                      pairs, "--template", "orca", "--json", NULL)
                           : run_cria(NULL, "eval", "--model", model, "--data", pairs, "--template",
                                      "orca", "--json", NULL);
    CHECK_EXIT(&r, 0);
    CHECK_OK(json_parse_text(r.out, r.out_len, "stdout", &o, &e), &e);
    ran_free(&r);
    return o;
}

static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) fail_msg("no %s", key);
    return json_number_value(v);
}

static void test_eval(void **state)
{
    (void)state;
    json_t *tuned = evaluate(TINY_MODEL, "whole"), *base = evaluate(TINY_MODEL, NULL);
    assert_true(number(tuned, "rewards/accuracies") > 0.9);
    assert_true(number(tuned, "rewards/margins") > 0.1);
    assert_int_equal(number(tuned, "documents"), TINY_RECORDS);
    assert_string_equal(json_string_value(json_object_get(tuned, "reference")),
                        "the model without the adapter");
    assert_non_null(strstr(json_string_value(json_object_get(base, "reference")), "none"));
    assert_true(json_array_size(json_object_get(tuned, "sources")) == 1);
    json_decref(tuned);
    json_decref(base);
    struct ran r = run_cria(NULL, "eval", "stage=dpo", MODEL_KEY, data, output("whole"), SIZES,
                            NULL); /* the held-out pairs, with the run's own reference */
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.err, "reference: the model without the adapter");
    CHECK_HAS(r.out, "margin");
    ran_free(&r);
}

static void test_report(void **state)
{
    (void)state;
    char path[256];
    struct buf page;
    struct err e = {0};
    buf_init(&page, 1 << 24);
    tiny_path(&tiny, "whole/report.html", path);
    CHECK_OK(io_read_file(path, &page, &e), &e);
    CHECK_HAS(page.data, "pairs whose chosen reply has more reward");
    CHECK_HAS(page.data, "rewards of the evaluation");
    CHECK_HAS(page.data, "chosen ahead");
    buf_free(&page);
}

static int setup(void **state)
{
    (void)state;
    tiny_init(&tiny);
    snprintf(data, sizeof data, "datasets=%s/pairs.jsonl", tiny.dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_train), cmocka_unit_test(test_reuse),  cmocka_unit_test(test_kill),
        cmocka_unit_test(test_eval),  cmocka_unit_test(test_report),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
