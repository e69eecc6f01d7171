/* random_weights: a run that starts from weights made where they are wanted starts from those of
 * cria init, and reads none. On the CPU; and in emulation, whose numbers differ by a rounding. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "run/new_model.h"
#include "run/plan.h"
#include "support/tiny_run.h"

/* The tiny model's config and tokenizer in dir/bare, without weights; as fp32, so that what init
 * writes is what was drawn. */
static void make_bare(const struct tiny *t, char bare[256])
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    struct err e = {0};
    tiny_path(t, "bare", bare);
    CHECK_OK(io_make_dirs(bare, &e), &e);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[256], to[512];
        struct buf text;
        snprintf(from, sizeof from, TINY_MODEL "/%s", files[i]);
        snprintf(to, sizeof to, "%s/%s", bare, files[i]);
        if (!io_exists(from)) continue;
        buf_init(&text, 1 << 22);
        CHECK_OK(io_read_file(from, &text, &e), &e);
        CHECK_OK(io_write_file(to, text.data, text.len, &e), &e);
        buf_free(&text);
    }
}

static void train(struct tiny *t, const char *out, const char *model, const char *more)
{
    const char *device = &kernels_cuda ? "device=cuda precision=fp32" : "device=cpu";
    char all[1024];
    snprintf(all, sizeof all, "model_name_or_path=%s seed=7 max_steps=2 learning_rate=1e-4 %s %s",
             model, device, more);
    tiny_train(t, out, all, 0);
}

static void test_as_init(void **state)
{
    struct tiny t;
    struct err e = {0};
    char bare[256], config[512], made[256], link[512];
    (void)state;
    tiny_init(&t);
    make_bare(&t, bare);
    tiny_path(&t, "made", made);
    snprintf(config, sizeof config, "%s/config.json", bare);
    CHECK_OK(new_model_init(config, made, 7, &e), &e);
    snprintf(link, sizeof link, "%s/tokenizer.json", made);
    assert_int_equal(symlink("../bare/tokenizer.json", link), 0);
    snprintf(link, sizeof link, "%s/tokenizer_config.json", made);
    assert_int_equal(symlink("../bare/tokenizer_config.json", link), 0);
    train(&t, "read", made, "");
    CHECK_OK(t.status, &t.err);
    double read = t.losses[0];
    train(&t, "drawn", bare, "random_weights=true");
    CHECK_OK(t.status, &t.err);
    assert_true(fabs(t.losses[0] - read) <= (&kernels_cuda ? 1e-5 * read : 0));
    if (!&kernels_cuda)
        assert_true(tiny_same(&t, "read/model.safetensors", "drawn/model.safetensors"));
    train(&t, "without", bare, "");
    assert_int_not_equal(t.status, OK);
    tiny_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_init)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
