/* precision: bf16 where the CPU computes in fp32: it runs, and every verb that plans says why not.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run/precision.h"
#include "support/run_binary.h"
#include "support/scene.h"

static struct scene scene;

static int setup(void **state)
{
    (void)state;
    scene_init(&scene, "append c.yaml max_steps: 1\\nprecision: bf16\\noverwrite_output_dir: true");
    return chdir(scene.dir);
}

static int teardown(void **state)
{
    (void)state;
    scene_free(&scene);
    return 0;
}

static void check_said(const char *text)
{
    const char *unit = precision_bf16_unit();
    CHECK_HAS(text, "precision: bf16 was asked for");
    CHECK_HAS(text, unit ? unit : "neither AMX nor AVX512-BF16");
    CHECK_HAS(text, "fp32 is used");
}

static void test_said(void **state)
{
    static const char *const verbs[][3] = {
        {"train", "c.yaml", NULL}, {"plan", "c.yaml", NULL}, {"train", "c.yaml", "--explain"}};
    (void)state;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        struct ran r = run_cria(NULL, verbs[i][0], verbs[i][1], verbs[i][2], NULL);
        CHECK_EXIT(&r, 0);
        check_said(r.err);
        if (verbs[i][2]) check_said(r.out);
        ran_free(&r);
    }
    struct ran r = run_cria(NULL, "plan", "c.yaml", "--json", "precision=bfloat16", NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.out, "\"precision\":\"fp32\"");
    check_said(r.out);
    ran_free(&r);
    r = run_cria(NULL, "doctor", NULL);
    CHECK_HAS(r.out, "computes in fp32");
    ran_free(&r);
}

static void test_not_said(void **state)
{
    (void)state;
    struct ran r = run_cria(NULL, "plan", "c.yaml", "precision=auto", NULL);
    CHECK_EXIT(&r, 0);
    assert_null(strstr(r.err, "bf16"));
    ran_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_said),
        cmocka_unit_test(test_not_said),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
