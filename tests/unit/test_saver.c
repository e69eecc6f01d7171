/* run/saver: checkpoints written beside training are those of a run that waits for them. Runs under
 * TSan too (test_saver_tsan), with all of run, ckpt and base instrumented; kernels are not, so that
 * the writer reads its copy of the weights and not the weights is told by the bytes alone. */
#include "support/tiny_run.h"

#include <stdio.h>

static struct tiny tiny;

/* Both ways into directories of this name; their last checkpoints are the same. */
static void compare(const char *name, const char *keys)
{
    char out[2][64], overrides[256], path[2][128];
    for (int beside = 0; beside < 2; beside++) {
        snprintf(out[beside], sizeof *out, "%s_%s", name, beside ? "beside" : "between");
        snprintf(overrides, sizeof overrides, "%s save_steps=1 threads=1 async_save=%s", keys,
                 beside ? "true" : "false");
        tiny_train(&tiny, out[beside], overrides, 0);
        CHECK_OK(tiny.status, &tiny.err);
    }
    for (int k = 0; k < 2; k++)
        snprintf(path[k], sizeof *path, "%s/checkpoint-%d/state.safetensors", out[k],
                 tiny.num_steps);
    assert_true(tiny_same(&tiny, path[0], path[1]));
}

static void test_full(void **state)
{
    (void)state;
    compare("full", "finetuning=full val_size=4 eval_steps=2 load_best_model_at_end=true "
                    "save_total_limit=2");
}

static void test_adapter(void **state)
{
    (void)state;
    compare("adapter", "finetuning=lora lora_r=4 optim=adamw_8bit");
}

/* Stopped while one may be under way, and gone on with from the newest. */
static void test_stopped(void **state)
{
    static const char keys[] = "finetuning=lora lora_r=4 save_steps=1 threads=1 async_save=true";
    char more[160];
    (void)state;
    tiny_train(&tiny, "stopped", keys, 3);
    assert_int_equal(tiny.status, ERR_STOPPED);
    snprintf(more, sizeof more, "%s resume_from_checkpoint=auto", keys);
    tiny_train(&tiny, "stopped", more, 0);
    CHECK_OK(tiny.status, &tiny.err);
    assert_int_equal(tiny.first_step, 4);
}

static int open_world(void **state)
{
    (void)state;
    tiny_init(&tiny);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_adapter),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
