/* The recipes of configs/: every key is one, the first line is the command, `plan` takes each of
 * them without weights or data, and the README lists them all. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "config/config.h"
#include "model/hf_config.h"
#include "support/check.h"
#include "support/run_line.h"

#define COMMAND "# cria train "
#define SECONDS 120

static void for_each(const char *pattern, size_t least, void (*look)(const char *path))
{
    glob_t found;
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= least);
    for (size_t i = 0; i < found.gl_pathc; i++) look(found.gl_pathv[i]);
    globfree(&found);
}

static void read_text(const char *path, struct buf *out)
{
    struct err e = {0};
    buf_init(out, 1 << 20);
    CHECK_OK(io_read_file(path, out, &e), &e);
}

/* --- the files themselves --- */

static void check_file(const char *path)
{
    struct err e = {0};
    struct config c;
    struct buf text;
    size_t n = strlen(COMMAND), m = strlen(path);
    CHECK_OK(config_load(&c, path, NULL, 0, &e), &e);
    config_free(&c);
    read_text(path, &text);
    if (strncmp(text.data, COMMAND, n) || strncmp(text.data + n, path, m) ||
        !strchr(" \n", text.data[n + m]))
        fail_msg("%s does not open with its command", path);
    buf_free(&text);
}

static void test_files(void **state)
{
    (void)state;
    for_each("configs/*.yaml", 13, check_file);
    for_each("configs/smoke/*.yaml", 11, check_file);
}

static void check_listed(const char *path)
{
    struct buf text;
    char row[256];
    read_text("configs/README.md", &text);
    snprintf(row, sizeof row, "\n| %s |", strrchr(path, '/') + 1);
    if (!strstr(text.data, row)) fail_msg("configs/README.md lacks %s", path);
    buf_free(&text);
}

static void test_readme(void **state)
{
    (void)state;
    for_each("configs/*.yaml", 10, check_listed);
}

/* --- planning --- */

/* 0: it would fit here, 3: it would not; both are answers. */
static void plan(const char *arguments)
{
    static struct run_result r;
    char line[1024];
    struct err e = {0};
    json_t *plan = NULL;
    int64_t total = 0, run = 0;
    snprintf(line, sizeof line, "plan %s --json", arguments);
    run_line(&r, NULL, line, SECONDS);
    if (r.exit_code != 0 && r.exit_code != 3)
        fail_msg("cria %s: exit %d\n%s", line, r.exit_code, r.err);
    CHECK_OK(json_parse_text(r.out, strlen(r.out), "the plan", &plan, &e), &e);
    CHECK_OK(json_get_int(plan, "total_bytes", &total, "the plan", &e), &e);
    CHECK_OK(json_get_int(json_object_get(plan, "arenas"), "run", &run, "the plan", &e), &e);
    assert_true(run > 0 && total > run);
    json_decref(plan);
}

static int names_model(const char *path)
{
    struct err e = {0};
    struct config c;
    CHECK_OK(config_load(&c, path, NULL, 0, &e), &e);
    int names = c.model_config != NULL;
    config_free(&c);
    return names;
}

/* Every command that the recipe's comments give. One that brings its model, quickstart, has a test
 * of its own. */
static void plan_commands(const char *path)
{
    struct buf text;
    int commands = 0;
    if (!names_model(path)) return;
    read_text(path, &text);
    for (char *rest = text.data, *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, COMMAND, strlen(COMMAND))) continue;
        char *remark = strstr(line, "  ");
        if (remark) *remark = 0;
        plan(line + strlen(COMMAND));
        commands++;
    }
    assert_true(commands >= 1);
    buf_free(&text);
}

static void test_plans(void **state)
{
    (void)state;
    for_each("configs/*.yaml", 10, plan_commands);
}

/* --- models --- */

/* As published. */
static const struct {
    const char *name;
    int64_t parameters;
} models[] = {{"llama-7b", 6738415616},       {"llama-13b", 13015864320},
              {"llama-65b", 65285660672},     {"llama-2-70b", 68976648192},
              {"llama-3-8b", 8030261248},     {"solar-10.7b", 10731524096},
              {"mistral-7b-v0.1", 7241732096}};

static void test_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[256];
        struct err e = {0};
        struct model_config c;
        snprintf(path, sizeof path, "configs/models/%s.json", models[i].name);
        CHECK_OK(model_config_read(&c, path, &e), &e);
        assert_int_equal(model_config_parameters(&c), models[i].parameters);
        model_config_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_readme),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_plans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
