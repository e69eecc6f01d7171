/* ckpt/trainer_state and ckpt/fingerprint. */
#include "support/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "ckpt/fingerprint.h"
#include "ckpt/trainer_state.h"

static char folder[] = "/tmp/cria-resume-XXXXXX", path[64];

static void put(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* The fields of transformers' TrainerState, which takes these and no others. */
static const char *const fields[] = {
    "best_global_step",
    "best_metric",
    "best_model_checkpoint",
    "epoch",
    "eval_steps",
    "global_step",
    "is_hyper_param_search",
    "is_local_process_zero",
    "is_world_process_zero",
    "log_history",
    "logging_steps",
    "max_steps",
    "num_input_tokens_seen",
    "num_train_epochs",
    "save_steps",
    "stateful_callbacks",
    "total_flos",
    "train_batch_size",
    "trial_name",
    "trial_params",
};

static void test_state(void **state)
{
    (void)state;
    struct err e = {0};
    struct trainer_state s, back;
    json_t *root;
    CHECK_OK(trainer_state_init(&s, &e), &e);
    s.epoch = 1.0 / 3, s.global_step = 7, s.max_steps = 20, s.save_steps = 5;
    CHECK_OK(trainer_state_log(&s, (struct log_value[]){{"loss", 2.5}, {"grad_norm", NAN}}, 2, &e),
             &e);
    CHECK_OK(trainer_state_write(&s, path, &e), &e);
    CHECK_OK(json_parse_file(path, &root, &e), &e);
    assert_int_equal(json_object_size(root), sizeof fields / sizeof *fields);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        assert_non_null(json_object_get(root, fields[i]));
    assert_true(json_is_null(json_object_get(root, "best_metric")));
    assert_true(json_is_null(json_object_get(root, "eval_steps")));
    json_t *log = json_array_get(json_object_get(root, "log_history"), 0);
    assert_true(json_real_value(json_object_get(log, "loss")) == 2.5);
    assert_true(json_is_null(json_object_get(log, "grad_norm")));
    assert_int_equal(json_integer_value(json_object_get(log, "step")), 7);
    json_decref(root);
    s.best_step = 5, s.best_metric = 0.25;
    snprintf(s.best_model_checkpoint, sizeof s.best_model_checkpoint, "out/checkpoint-5");
    CHECK_OK(trainer_state_write(&s, path, &e), &e);
    CHECK_OK(trainer_state_read(&back, path, &e), &e);
    assert_true(back.epoch == s.epoch && back.global_step == 7 && back.max_steps == 20);
    assert_true(back.best_step == 5 && back.best_metric == 0.25 && back.save_steps == 5);
    assert_string_equal(back.best_model_checkpoint, "out/checkpoint-5");
    assert_true(json_equal(back.log_history, s.log_history));
    trainer_state_free(&back);
    trainer_state_free(&s);
}

static void test_bad_states(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"global_step\":1.5}",
                                      "{\"epoch\":\"1\"}",
                                      "{\"log_history\":{}}",
                                      "{\"best_model_checkpoint\":1}"};
    struct trainer_state s;
    struct err e = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(bad[i]);
        assert_int_equal(trainer_state_read(&s, path, &e), ERR_FORMAT);
        assert_null(s.log_history);
    }
    assert_int_equal(trainer_state_read(&s, "/no/such", &e), ERR_IO);
    put("{}");
    CHECK_OK(trainer_state_read(&s, path, &e), &e);
    assert_int_equal(s.best_step, -1);
    assert_int_equal(json_array_size(s.log_history), 0);
    trainer_state_free(&s);
}

static void test_fingerprint(void **state)
{
    (void)state;
    struct err e = {0};
    struct fingerprint f = {0}, none = {0};
    CHECK_OK(fingerprint_set(&f, &e, "seed", "%d", 41), &e);
    CHECK_OK(fingerprint_set(&f, &e, "seed", "%d", 42), &e);
    CHECK_OK(fingerprint_set(&f, &e, "blas", "OpenBLAS %s", "0.3"), &e);
    CHECK_OK(fingerprint_write(&f, path, &e), &e);
    CHECK_OK(fingerprint_check(&f, path, &e), &e);
    CHECK_OK(fingerprint_set(&f, &e, "seed", "43"), &e);
    assert_int_equal(fingerprint_check(&f, path, &e), ERR_CONFIG);
    assert_string_equal(e.message, "cannot resume: seed was \"42\", now it is \"43\"");
    assert_non_null(strstr(e.hint, "output_dir"));
    CHECK_OK(fingerprint_set(&f, &e, "seed", "42"), &e);
    CHECK_OK(fingerprint_set(&f, &e, "more", "x"), &e);
    assert_int_equal(fingerprint_check(&f, path, &e), ERR_CONFIG);
    assert_string_equal(e.message, "cannot resume: more was not recorded, now it is \"x\"");
    assert_int_equal(fingerprint_check(&none, path, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "now it is not given"));
    CHECK_OK(fingerprint_write(&none, path, &e), &e);
    CHECK_OK(fingerprint_check(&none, path, &e), &e);
    fingerprint_free(&none);
    fingerprint_free(&f);
}

static void test_bad_fingerprints(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"format\":1}",
                                      "{\"format\":2,\"fingerprint\":{}}",
                                      "{\"format\":1,\"fingerprint\":[]}",
                                      "{\"format\":\"1\",\"fingerprint\":{}}"};
    struct err e = {0};
    struct fingerprint none = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(bad[i]);
        assert_int_equal(fingerprint_check(&none, path, &e), ERR_FORMAT);
    }
    put("{\"format\":1,\"fingerprint\":{\"a\":7}}");
    assert_int_equal(fingerprint_check(&none, path, &e), ERR_CONFIG);
    assert_int_equal(fingerprint_check(&none, "/no/such", &e), ERR_IO);
}

static enum status all(struct trainer_state *s, struct fingerprint *f, struct err *e)
{
    TRY(trainer_state_init(s, e));
    TRY(trainer_state_log(s, (struct log_value[]){{"loss", 2.5}}, 1, e));
    TRY(trainer_state_write(s, path, e));
    trainer_state_free(s);
    TRY(trainer_state_read(s, path, e));
    TRY(fingerprint_set(f, e, "seed", "%d", 42));
    TRY(fingerprint_write(f, path, e));
    return fingerprint_check(f, path, e);
}

static void test_no_memory(void **state)
{
    (void)state;
    enum status status;
    long n = 0;
    do {
        struct err e = {0};
        struct trainer_state s = {0};
        struct fingerprint f = {0};
        mem_fail_after(++n);
        status = all(&s, &f, &e);
        mem_fail_after(0);
        assert_true(status == OK || status == ERR_MEMORY);
        trainer_state_free(&s);
        fingerprint_free(&f);
    } while (status && n < 10000);
    assert_int_equal(status, OK);
    assert_true(n > 50);
}

static int set_up(void **state)
{
    (void)state;
    json_set_alloc_funcs(mem_alloc, mem_free);
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/x.json", folder);
    return 0;
}

static int tear_down(void **state)
{
    struct err e = {0};
    (void)state;
    return io_remove_tree(folder, &e) ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state),       cmocka_unit_test(test_bad_states),
        cmocka_unit_test(test_fingerprint), cmocka_unit_test(test_bad_fingerprints),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
