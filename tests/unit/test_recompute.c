/* What auto takes, against all there is to take; what offloading leaves on the device. */
#include "run/recompute.h"

#include <string.h>

#include "base/size.h"
#include "support/check.h"

enum { LAYERS = 5, ROWS = 96 };

/* The null device with memory of its own, as a GPU has it. */
static struct kernels with_memory;

static void memory(const struct device *d, size_t *free_bytes, size_t *total)
{
    (void)d;
    *free_bytes = *total = 0;
}

struct case_of {
    const char *model;
    int lora, on_gpu;
    int32_t supervised;
};

static struct model_config config;
static struct lora_options lora = {.r = 4, .alpha = 8};

static void open_engine(struct engine *g, const struct case_of *c, int32_t layers)
{
    char path[256];
    struct err e = {0};
    snprintf(path, sizeof path, "tests/golden/models/%s/config.json", c->model);
    CHECK_OK(model_config_read(&config, path, &e), &e);
    config.num_layers = layers;
    struct engine_options o = {.device = "null",
                               .config = &config,
                               .lora = c->lora ? &lora : NULL,
                               .train = 1,
                               .positions = ROWS,
                               .train_limits = {ROWS, c->supervised, 3, 0}};
    CHECK_OK(engine_describe(g, &o, &e), &e);
    if (c->on_gpu) g->device.k = &with_memory;
    CHECK_OK(engine_measure(g, &e), &e);
}

static void close_engine(struct engine *g)
{
    engine_free(g);
    model_config_free(&config);
}

/* --- auto against brute force --- */

struct room {
    const struct engine *g;
    size_t bytes;
    int asked;
};

static int fits(const void *context)
{
    struct room *r = (struct room *)context;
    r->asked++;
    return r->g->memory.step <= r->bytes;
}

struct way {
    struct model_recompute r;
    size_t bytes;
};

/* All ways, by what they compute again: offloaded blocks count most, then full ones, then
 * selective ones. */
static int all_ways(struct engine *g, struct way *out, int with_offload)
{
    int n = 0;
    struct err e = {0};
    for (int32_t o = 0; o <= (with_offload ? LAYERS : 0); o++)
        for (int32_t f = 0; f <= LAYERS - o; f++)
            for (int32_t s = 0; s <= LAYERS - o - f; s++) {
                struct model_recompute r = {o, f, s};
                CHECK_OK(engine_set_recompute(g, &r, &e), &e);
                out[n++] = (struct way){r, g->memory.step};
            }
    return n;
}

static void check_choice(struct engine *g, const struct way *ways, int n, size_t bytes)
{
    struct err e = {0};
    struct room mine = {g, bytes, 0};
    struct recompute_room room = {fits, &mine};
    const struct way *best = NULL;
    CHECK_OK(recompute_choose(g, &room, &e), &e);
    for (int i = 0; i < n && !best; i++)
        if (ways[i].bytes <= bytes) best = &ways[i];
    const struct model_recompute *r = &g->options.recompute;
    if (!best) {
        assert_true(g->memory.step > bytes);
        return;
    }
    if (memcmp(r, &best->r, sizeof *r) || g->memory.step != best->bytes) {
        print_error("in %zu bytes: %d %d %d for %d %d %d\n", bytes, r->offload, r->full,
                    r->selective, best->r.offload, best->r.full, best->r.selective);
        fail();
    }
    assert_true(mine.asked < 20);
}

static void test_auto(void **state)
{
    static const struct case_of cases[] = {
        {"llama", 0, 0, ROWS},       {"llama", 1, 0, 7}, {"llama_gqa_tied", 0, 0, 5},
        {"llama_gqa_tied", 1, 1, 9}, {"qwen3", 0, 1, 8}, {"qwen3", 1, 0, ROWS},
        {"mistral", 0, 1, ROWS},
    };
    static struct way ways[512];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct engine g;
        open_engine(&g, &cases[i], LAYERS);
        int n = all_ways(&g, ways, cases[i].on_gpu);
        for (int w = 0; w < n; w++) {
            check_choice(&g, ways, n, ways[w].bytes);
            check_choice(&g, ways, n, ways[w].bytes - 1);
        }
        check_choice(&g, ways, n, SIZE_MAX); /* what fits recomputes nothing */
        const struct model_recompute *r = &g.options.recompute;
        assert_true(!r->offload && !r->full && !r->selective);
        close_engine(&g);
    }
}

/* --- offload --- */

/* With offload the step arena is the same to the byte for any number of blocks: nothing in it grows
 * with them. With full it grows by a block's input, and the host's memory takes that over, but for
 * the last block's. */
static void test_depth(void **state)
{
    static const struct case_of cases[] = {{"llama", 0, 1, ROWS}, {"qwen3", 1, 1, 11}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t step = 0, input = 0, full = 0;
        for (int32_t layers = 4; layers <= 16; layers *= 2) {
            struct engine g;
            struct err e = {0};
            open_engine(&g, &cases[i], layers);
            input = size_align(ROWS * (size_t)config.hidden_size * sizeof(float), ARENA_ALIGN);
            struct model_recompute all = {.offload = layers};
            CHECK_OK(engine_set_recompute(&g, &all, &e), &e);
            if (!step) step = g.memory.step;
            assert_int_equal(g.memory.step, step);
            assert_int_equal(g.memory.host, (size_t)(layers - 1) * input);
            all = (struct model_recompute){.full = layers};
            CHECK_OK(engine_set_recompute(&g, &all, &e), &e);
            if (full) assert_int_equal(g.memory.step - full, (size_t)(layers / 2) * input);
            full = g.memory.step;
            assert_true(full > step);
            assert_int_equal(g.memory.host, 0);
            close_engine(&g);
        }
    }
}

static void test_words(void **state)
{
    static const struct {
        struct model_recompute r;
        const char *text;
    } cases[] = {{{0, 0, 0}, "0-4 none"},
                 {{0, 5, 0}, "0-4 full"},
                 {{1, 2, 1}, "0 offload, 1-2 full, 3 selective, 4 none"}};
    struct engine g;
    struct buf text;
    (void)state;
    open_engine(&g, &(struct case_of){"llama", 0, 0, 3}, LAYERS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_init(&text, 256);
        g.options.recompute = cases[i].r;
        assert_int_equal(recompute_print(&g, &text), OK);
        assert_string_equal(text.data, cases[i].text);
        buf_free(&text);
    }
    close_engine(&g);
}

int main(void)
{
    with_memory = kernels_null;
    with_memory.memory = memory;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
