/* `cria train --profile N`: a table of ops whose parts come to the step, a file with the products,
 * and a run that is the same as without. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "run/step_profile.h"
#include "run/trace_file.h"
#include "support/check.h"
#include "support/check_trace.h"
#include "support/run_binary.h"
#include "support/tiny_run.h"

static char dir[] = "/tmp/cria-profile-XXXXXX", config[64];

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
    char data[64], text[1024];
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(config, sizeof config, "%s/c.yaml", dir);
    snprintf(data, sizeof data, "%s/d.jsonl", dir);
    write_text(data, "{\"instruction\": \"a\", \"input\": \"\", \"output\": \"b c d\"}\n"
                     "{\"instruction\": \"e\", \"input\": \"\", \"output\": \"f g h\"}\n");
    snprintf(text, sizeof text,
             "model_name_or_path: " TINY_MODEL "\noutput_dir: %s/out\ndatasets: %s\n"
             "template: alpaca\nreport_to: none\nsample_prompts: none\nsave_steps: none\n"
             "overwrite_output_dir: true\nper_device_train_batch_size: 1\nmax_steps: 5\n",
             dir, data);
    write_text(config, text);
    return 0;
}

static int teardown(void **state)
{
    struct err e = {0};
    (void)state;
    return io_remove_tree(dir, &e) ? -1 : 0;
}

static void read_weights(struct buf *out)
{
    char path[128];
    struct err e = {0};
    snprintf(path, sizeof path, "%s/out/model.safetensors", dir);
    buf_init(out, 1 << 20);
    CHECK_OK(io_read_file(path, out, &e), &e);
}

static void train(const char *option, const char *value, int code, struct ran *r)
{
    *r = run_cria(NULL, "train", config, option, value, NULL);
    CHECK_EXIT(r, code);
}

/* Shares, and what no op accounts for, come to the steps' time. */
static void check_file(int64_t *products)
{
    char path[128];
    struct err e = {0};
    json_t *o;
    double steps = 0, sum = 0;
    int64_t count;
    snprintf(path, sizeof path, "%s/out/" STEP_PROFILE_FILE, dir);
    CHECK_OK(json_parse_file(path, &o, &e), &e);
    const json_t *seconds = json_object_get(o, "seconds"), *ops = json_object_get(o, "ops");
    CHECK_OK(json_get_int(o, "steps", &count, path, &e), &e);
    assert_int_equal(count, 3);
    assert_int_equal(json_array_size(seconds), 3);
    for (size_t i = 0; i < 3; i++) steps += json_real_value(json_array_get(seconds, i));
    for (size_t i = 0; i < json_array_size(ops); i++)
        sum += json_real_value(json_object_get(json_array_get(ops, i), "seconds"));
    sum += json_real_value(json_object_get(o, "unaccounted_seconds"));
    assert_true(steps > 0 && sum > 0.999 * steps && sum < 1.001 * steps);
    *products = (int64_t)json_array_size(json_object_get(o, "products"));
    json_decref(o);
}

/* What happened when, in one track; an evaluation and a checkpoint between the steps are in it and
 * in no sum. */
static void check_when(int recomputed)
{
    char path[128];
    snprintf(path, sizeof path, "%s/out/" TRACE_FILE, dir);
    json_t *t = check_trace(path);
    for (int step = 2; step <= 4; step++) {
        char name[16];
        snprintf(name, sizeof name, "step %d", step);
        assert_int_equal(trace_count(t, "host", name, NULL), 1);
    }
    assert_int_equal(trace_count(t, "host", "forward", NULL), 3);
    assert_true(trace_count(t, "host", "block 0", "forward") >= 3);
    assert_true(trace_count(t, "host", "attention backward", "block 1") >= 3);
    assert_true(trace_count(t, "host", "AdamW", "optimiser") >= 3);
    assert_int_equal(trace_count(t, "host", "data: documents to a micro-batch", "data"), 3);
    assert_int_equal(trace_count(t, "host", "recompute", "backward") > 0, recomputed);
    assert_true(trace_count(t, "host", "metrics", "step 2") > 0);
    assert_int_equal(trace_count(t, "compute stream", "forward", NULL), 0);
    json_decref(t);
}

static void test_profile(void **state)
{
    struct ran r;
    struct buf plain, profiled;
    int64_t full, lora;
    (void)state;
    train("logging_steps=1", "seed=1", 0, &r);
    assert_string_equal(r.out, "");
    ran_free(&r);
    read_weights(&plain);
    r = run_cria(NULL, "train", config, "logging_steps=1", "seed=1", "gradient_checkpointing=full",
                 "--profile", "3", NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.out, "profile of 3 steps");
    CHECK_HAS(r.out, "linear backward, by weight");
    CHECK_HAS(r.out, "not accounted for");
    ran_free(&r);
    read_weights(&profiled);
    assert_int_equal(plain.len, profiled.len);
    assert_memory_equal(plain.data, profiled.data, plain.len);
    buf_free(&plain);
    buf_free(&profiled);
    check_file(&full);
    check_when(1);
    r = run_cria(NULL, "train", config, "finetuning=lora", "gradient_checkpointing=none",
                 "--profile=3", NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.out, "LoRA backward");
    ran_free(&r);
    check_file(&lora);
    assert_true(lora > 0 && full > lora);
    check_when(0);
    r = run_cria(NULL, "train", config, "gradient_checkpointing=full", "save_steps=2", "val_size=1",
                 "eval_steps=2", "--profile=3", NULL);
    CHECK_EXIT(&r, 0);
    ran_free(&r);
    check_file(&full);
}

static void test_errors(void **state)
{
    struct ran r;
    (void)state;
    train("--profile", "5", 2, &r);
    CHECK_HAS(r.err, "--profile 5 needs 6 steps, 1 of them to warm up, and 5 are left");
    CHECK_HAS(r.err, "profile fewer steps");
    ran_free(&r);
    train("--profile", "-1", 2, &r);
    CHECK_HAS(r.err, "--profile wants 1 to 1000 steps, not -1");
    ran_free(&r);
    train("--profile", "x", 2, &r);
    CHECK_HAS(r.err, "--profile wants a whole number");
    ran_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
