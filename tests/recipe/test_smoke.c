/* Every smoke recipe runs: two steps over the real file it names, start to final model. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "ckpt/trainer_state.h"
#include "config/config.h"
#include "support/check.h"
#include "support/run_line.h"

#define BESIDE "../shared/data" /* where recipes look, from the repository's root */
#define STEPS 2
#define SECONDS 120

static const char *shared;

/* "key=path", in the folder the tests were told of. */
static void move(const char *key, const char *path, char out[1024])
{
    int there = !strncmp(path, BESIDE, strlen(BESIDE));
    snprintf(out, 1024, "%s=%s%s", key, there ? shared : "", there ? path + strlen(BESIDE) : path);
}

static void check_end(const char *out)
{
    char path[1024];
    struct err e = {0};
    struct trainer_state state;
    snprintf(path, sizeof path, "%s/" TRAINER_STATE_FILE, out);
    CHECK_OK(trainer_state_read(&state, path, &e), &e);
    assert_int_equal(state.global_step, STEPS);
    trainer_state_free(&state);
}

static void run_recipe(const char *recipe, const char *dir)
{
    static struct run_result r;
    char line[8192], model[1024], data[1024], out[256];
    struct err e = {0};
    struct config c;
    CHECK_OK(config_load(&c, recipe, NULL, 0, &e), &e);
    move("model_name_or_path", c.model_name_or_path, model);
    move("datasets", c.datasets.items[0].path, data);
    snprintf(out, sizeof out, "%s/out", dir);
    snprintf(line, sizeof line, "train %s %s %s output_dir=%s max_steps=%d", recipe, model, data,
             out, STEPS);
    config_free(&c);
    run_line(&r, NULL, line, SECONDS);
    if (r.exit_code) fail_msg("cria %s: exit %d\n%s", line, r.exit_code, r.err);
    check_end(out);
    CHECK_OK(io_remove_tree(out, &e), &e);
}

static void test_recipes(void **state)
{
    char dir[] = "/tmp/cria-smoke-XXXXXX";
    struct err e = {0};
    glob_t found;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(glob("configs/smoke/*.yaml", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) run_recipe(found.gl_pathv[i], dir);
    globfree(&found);
    CHECK_OK(io_remove_tree(dir, &e), &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recipes)};
    if (!(shared = check_shared("the smoke recipes"))) return CHECK_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
