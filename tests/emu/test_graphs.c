/* Runs with and without CUDA graphs, in emulation: they end in the same bits, whatever is trained,
 * and replay what recurs. */
#include "support/tiny_run.h"

#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "kernels/emu/runtime.h"
#include "run/plan.h"

static struct tiny tiny;

static int open_runs(void **state)
{
    (void)state;
    tiny_init(&tiny);
    return 0;
}

static int close_runs(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static void same_files(const char *out)
{
    static const char *const names[] = {"adapter_model.safetensors", "model.safetensors"};
    int found = 0;
    for (int i = 0; i < 2; i++) {
        char a[256], b[256], path[256];
        snprintf(a, sizeof a, "%s_graphs/%s", out, names[i]);
        snprintf(b, sizeof b, "%s_plain/%s", out, names[i]);
        tiny_path(&tiny, a, path);
        if (!io_exists(path)) continue;
        assert_true(tiny_same(&tiny, a, b));
        found++;
    }
    assert_int_equal(found, 1);
}

static const struct kind {
    const char *name, *config;
    int least; /* launches */
} kinds[] = {
    {"lora", "finetuning=lora lora_r=4 lora_dropout=0.1 max_samples=6", 3},
    {"full", "finetuning=full max_samples=6 gradient_accumulation_steps=2", 6},
    {"evaluated",
     "finetuning=lora lora_r=4 val_size=4 max_samples=8 eval_steps=3 "
     "per_device_eval_batch_size=1",
     4},
    {"selective", "finetuning=lora lora_r=4 gradient_checkpointing=selective max_samples=3", 3},
    {"recomputed", "finetuning=full gradient_checkpointing=full max_samples=3", 3},
    {"offload",
     "finetuning=lora lora_r=4 lora_dropout=0.1 gradient_checkpointing=offload "
     "max_samples=3",
     3},
    {"dpo",
     "finetuning=lora lora_r=4 lora_dropout=0.1 disable_dropout=false stage=dpo "
     "max_samples=3",
     9},
    {"dpo_full", "finetuning=full stage=dpo max_samples=3 gradient_checkpointing=offload", 9},
};

/* Data that changes from step to step in shapes that recur. */
static void test_same_bits(void **state)
{
    const struct kind *k = *state;
    long recorded = 0, replayed = 0, before = 0, launched = 0;
    for (int graphs = 0; graphs < 2; graphs++) {
        char text[512], out[64], data[300] = "";
        emu_set_seed(11 + (uint64_t)graphs);
        if (strstr(k->config, "stage=dpo"))
            snprintf(data, sizeof data, " datasets=%s/pairs.jsonl", tiny.dir);
        snprintf(out, sizeof out, "%s_%s", k->name, graphs ? "graphs" : "plain");
        snprintf(text, sizeof text,
                 "device=cuda max_steps=5 per_device_train_batch_size=1 "
                 "gradient_accumulation_steps=1 sample_prompts=none cuda_graphs=%s %s%s",
                 graphs ? "auto" : "false", k->config, data);
        emu_graph_counts(&before, &launched);
        tiny_train(&tiny, out, text, 0);
        CHECK_OK(tiny.status, &tiny.err);
        emu_graph_counts(&recorded, &replayed);
        if (graphs) continue;
        assert_true(recorded == before && replayed == launched);
    }
    print_message("%s: %ld graphs, %ld launches\n", k->name, recorded - before,
                  replayed - launched);
    assert_true(recorded > before && replayed - launched >= k->least);
    same_files(k->name);
}

/* A run goes on without them, with the same bits. */
static void test_falls_back(void **state)
{
    long before, recorded, replayed;
    const char *config = "device=cuda max_steps=3 gradient_accumulation_steps=1 "
                         "per_device_train_batch_size=1 finetuning=lora "
                         "lora_r=4 max_samples=1 sample_prompts=none cuda_graphs=";
    char text[256];
    (void)state;
    snprintf(text, sizeof text, "%sfalse", config);
    tiny_train(&tiny, "fallen_plain", text, 0);
    CHECK_OK(tiny.status, &tiny.err);
    emu_graph_counts(&before, &replayed);
    emu_set_capture_error(cudaErrorNotSupported);
    snprintf(text, sizeof text, "%strue", config);
    tiny_train(&tiny, "fallen_graphs", text, 0);
    emu_set_capture_error(cudaSuccess);
    CHECK_OK(tiny.status, &tiny.err);
    emu_graph_counts(&recorded, &replayed);
    assert_int_equal(recorded, before);
    same_files("fallen");
}

/* A plan's largest micro-batches, and what it keeps for graphs. */
static struct loader_limits plan_limits(const char *more, size_t *graphs, size_t *total)
{
    static struct session session;
    static struct plan p;
    struct config config = {0};
    struct err e = {0};
    char data[300], text[512];
    const char *items[10] = {"model_name_or_path=" TINY_MODEL, data, "template=orca",
                             "max_length=256", "output_dir=/tmp/none"};
    size_t n = 5;
    snprintf(data, sizeof data, "datasets=%s/data.jsonl", tiny.dir);
    snprintf(text, sizeof text, "%s", more);
    for (char *rest, *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest))
        items[n++] = at;
    CHECK_OK(config_load(&config, NULL, items, n, &e), &e);
    CHECK_OK(session_prepare(&session, &config, SESSION_PLAN, NULL, &e), &e);
    plan_make(&p, &session);
    struct loader_limits limits = session.engine.options.train_limits;
    *graphs = p.named[MEMORY_graphs];
    *total = p.total - p.named[MEMORY_graphs] - p.named[MEMORY_context];
    session_close(&session);
    config_free(&config);
    return limits;
}

/* Limits hold the dead tail on a GPU, and no tail on a CPU; graphs have their place in the plan. */
static void test_plan(void **state)
{
    size_t graphs, total, none, same;
    (void)state;
    struct loader_limits cpu = plan_limits("device=cpu", &graphs, &total);
    assert_int_equal(graphs, 0);
    struct loader_limits gpu = plan_limits("device=cuda", &graphs, &total);
    assert_int_equal(graphs, 64 << 20);
    struct loader_limits off = plan_limits("device=cuda cuda_graphs=false", &none, &same);
    assert_true(none == 0 && same == total);
    assert_memory_equal(&gpu, &off, sizeof gpu);
    assert_true(gpu.max_rows % 128 == 0 && gpu.max_rows >= cpu.max_rows &&
                gpu.max_rows <= cpu.max_rows + 128);
    struct batch_tail tail = loader_tail(128, cpu.max_rows, cpu.max_supervised, cpu.max_segments);
    assert_int_equal(gpu.max_rows, cpu.max_rows + tail.rows);
    assert_int_equal(gpu.max_supervised, cpu.max_supervised + tail.supervised);
    assert_int_equal(gpu.max_segments, cpu.max_segments + tail.segments);
}

static void test_refused_on_cpu(void **state)
{
    (void)state;
    tiny_train(&tiny, "on_cpu", "device=cpu cuda_graphs=true", 0);
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "device cpu has no CUDA graphs"));
}

int main(void)
{
    enum { KINDS = sizeof kinds / sizeof *kinds };
    enum { OTHERS = 3 };
    struct CMUnitTest runs[OTHERS + KINDS] = {cmocka_unit_test(test_falls_back),
                                              cmocka_unit_test(test_refused_on_cpu),
                                              cmocka_unit_test(test_plan)};
    for (int i = 0; i < KINDS; i++)
        runs[OTHERS + i] = (struct CMUnitTest){kinds[i].name, test_same_bits, NULL, NULL,
                                               (void *)(uintptr_t)&kinds[i]};
    return cmocka_run_group_tests(runs, open_runs, close_runs);
}
