/* What must not change a run, as DESIGN 5 states it. Bit for bit: running again, one thread or two,
 * stopping and resuming, checkpointing activations. To 1e-5: packing, micro-batches, merging. */
#include "support/tiny_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "ckpt/safetensors.h"
#include "run/inference.h"
#include "run/new_model.h"

#define FULL "finetuning=full "
#define LORA "finetuning=lora lora_dropout=0.1 lora_r=4 "
#define CODES "lora_r=120 optim=adamw_8bit " /* of this rank some have 4096 elements */
#define ADAPTER "adapter_model.safetensors"
#define MODEL "model.safetensors"

static struct tiny tiny;

static int setup(void **state)
{
    (void)state;
    tiny_init(&tiny);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static void train(const char *out, const char *overrides)
{
    tiny_train(&tiny, out, overrides, 0);
    CHECK_OK(tiny.status, &tiny.err);
}

static void assert_same(const char *a, const char *b, const char *file)
{
    char x[64], y[64];
    snprintf(x, sizeof x, "%s/%s", a, file);
    snprintf(y, sizeof y, "%s/%s", b, file);
    assert_true(tiny_same(&tiny, x, y));
}

static void test_rerun(void **state)
{
    (void)state;
    train("rerun1", LORA "threads=2");
    train("rerun2", LORA "threads=2");
    train("rerun3", LORA "threads=1");
    assert_same("rerun1", "rerun2", ADAPTER);
    assert_same("rerun1", "rerun3", ADAPTER);
    train("full1", FULL "threads=2");
    train("full2", FULL "threads=1");
    assert_same("full1", "full2", MODEL);
}

static void test_checkpointing(void **state)
{
    static const char *const kinds[] = {LORA, FULL}, *const files[] = {ADAPTER, MODEL};
    static const char *const words[] = {"none", "selective", "full", "offload", "auto"};
    (void)state;
    for (int kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            char out[2][32], overrides[256];
            snprintf(out[0], sizeof *out, "%s_%d", words[0], kind);
            snprintf(out[1], sizeof *out, "%s_%d", words[i], kind);
            snprintf(overrides, sizeof overrides, "%sgradient_checkpointing=%s", kinds[kind],
                     words[i]);
            train(out[1], overrides);
            assert_same(out[0], out[1], files[kind]);
        }
}

/* Stopped after the third update, then resumed: the uninterrupted run's bytes, metrics included. */
static void resume_case(const char *name, const char *kind, const char *file)
{
    char whole[32], cut[32], overrides[1024];
    snprintf(whole, sizeof whole, "%s_whole", name);
    snprintf(cut, sizeof cut, "%s_cut", name);
    train(whole, kind);
    tiny_train(&tiny, cut, kind, 3);
    assert_int_equal(tiny.status, ERR_STOPPED);
    assert_int_equal(status_exit_code(tiny.status), 75);
    snprintf(overrides, sizeof overrides, "%s resume_from_checkpoint=auto", kind);
    train(cut, overrides);
    assert_int_equal(tiny.first_step, 4);
    assert_int_equal(tiny.num_steps, 5);
    assert_same(whole, cut, file);
}

static void test_resume(void **state)
{
    (void)state;
    resume_case("lora", LORA, ADAPTER);
    resume_case("full", FULL, MODEL);
    resume_case("packed", LORA "packing=true", ADAPTER);
    resume_case("codes", LORA CODES, ADAPTER);
    resume_case("codes_beside", LORA CODES "async_save=true", ADAPTER);
}

/* What a checkpoint holds of moments in 8 bits, and what is said of one that is not this run's. */
static void test_codes(void **state)
{
    struct err e = {0};
    struct tensor_files *f;
    const char *a = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight";
    char path[256], name[2][128];
    (void)state;
    tiny_train(&tiny, "kept_codes", LORA CODES, 3);
    assert_int_equal(tiny.status, ERR_STOPPED);
    tiny_path(&tiny, "kept_codes/checkpoint-3/state.safetensors", path);
    CHECK_OK(tensor_files_open(&f, path, &e), &e);
    snprintf(name[0], sizeof *name, "%s.adam_v", a);
    snprintf(name[1], sizeof *name, "%s.adam_v_max", a);
    const struct tensor_info *codes = tensor_files_find(f, name[0]);
    const struct tensor_info *max = tensor_files_find(f, name[1]);
    const struct tensor_info *small = tensor_files_find(
        f, "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight.adam_v");
    assert_true(codes && max && small);
    assert_int_equal(codes->type, FILE_U8);
    assert_int_equal(max->type, FILE_F32);
    assert_int_equal(max->count, (codes->count + 255) / 256);
    assert_int_equal(small->type, FILE_F32); /* below 4096 elements */
    tensor_files_close(f);
    tiny_train(&tiny, "kept_codes", LORA "lora_r=120 resume_from_checkpoint=auto", 0);
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "8bit"));
    train("codes1", LORA CODES "threads=1");
    train("codes2", LORA CODES "threads=2");
    assert_same("codes1", "codes2", ADAPTER);
    train("no_codes", LORA "lora_r=120 threads=1");
    assert_false(tiny_same(&tiny, "codes1/" ADAPTER, "no_codes/" ADAPTER));
}

static void write_file(const char *name, int records, const char *form)
{
    char path[256];
    tiny_path(&tiny, name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < records; i++) fprintf(f, form, i, i * i);
    fclose(f);
}

/* Several files, mixed anew each epoch: shares, passes and places in them go on where they were. */
static void test_resume_mixture(void **state)
{
    (void)state;
    static const struct {
        const char *name, *kind;
    } orders[] = {{"over", "mix_strategy=interleave_over"},
                  {"under", "mix_strategy=interleave_under val_size=0.2"},
                  {"parts", "order=progressive"}};
    write_file("more.jsonl", 9, "{\"instruction\": \"Square %d.\", \"output\": \"%d\"}\n");
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        char kind[768];
        const char *mixed = i < 2 ? ",\"weight\":3" : ",\"repeat\":2";
        snprintf(kind, sizeof kind,
                 LORA "%s datasets=[{\"path\":\"%s/data.jsonl\"%s},"
                      "{\"path\":\"%s/more.jsonl\"%s,\"template\":\"alpaca\"}]",
                 orders[i].kind, tiny.dir, i < 2 ? ",\"weight\":1" : "", tiny.dir, mixed);
        resume_case(orders[i].name, kind, ADAPTER);
    }
}

/* Plain texts: long ones are pieces, whose places go on too. */
static void test_resume_texts(void **state)
{
    (void)state;
    char kind[768];
    write_file("long.txt", 40, "Line %d of a text that is cut into pieces, %d of them. ");
    write_file("lines.txt", 12, "A line, number %d, that is a text by itself: %d.\n");
    snprintf(kind, sizeof kind,
             FULL "stage=pt template=null max_length=48 datasets=[{\"path\":\"%s/long.txt\","
                  "\"sample_by\":\"document\"},{\"path\":\"%s/lines.txt\",\"repeat\":2}]",
             tiny.dir, tiny.dir);
    resume_case("texts", kind, MODEL);
}

/* The metrics file of a run that went on from an earlier checkpoint holds each step once. */
static void test_metrics_cut(void **state)
{
    (void)state;
    char path[256];
    struct err e = {0};
    json_t *history;
    train("metrics", LORA "save_steps=3");
    tiny_path(&tiny, "metrics/checkpoint-6", path);
    CHECK_OK(io_remove_tree(path, &e), &e);
    train("metrics", LORA "save_steps=3 resume_from_checkpoint=auto");
    assert_int_equal(tiny.first_step, 4);
    tiny_path(&tiny, "metrics/metrics.jsonl", path);
    CHECK_OK(metrics_history(path, &history, &e), &e);
    assert_int_equal(json_array_size(history), 8);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(json_integer_value(json_object_get(json_array_get(history, i), "step")),
                         i + 1);
    json_decref(history);
}

static void compare_runs(const char *a, const char *b, const char *name)
{
    double losses[TINY_STEPS_MAX], norms[TINY_STEPS_MAX], worst_loss = 0, worst_norm = 0;
    char out[64];
    snprintf(out, sizeof out, "%s_a", name);
    train(out, a);
    memcpy(losses, tiny.losses, sizeof losses);
    memcpy(norms, tiny.norms, sizeof norms);
    snprintf(out, sizeof out, "%s_b", name);
    train(out, b);
    assert_int_equal(tiny.num_steps, 8);
    for (int i = 0; i < 8; i++) {
        worst_loss = fmax(worst_loss, fabs(losses[i] - tiny.losses[i]) / losses[i]);
        worst_norm = fmax(worst_norm, fabs(norms[i] - tiny.norms[i]) / norms[i]);
    }
    print_message("%-14s losses within %.1e, gradient norms within %.1e\n", name, worst_loss,
                  worst_norm);
    assert_true(worst_loss <= 1e-5 && worst_norm <= 1e-5);
}

/* Every step sees all documents, so that only the arrangement differs. */
static void test_packing(void **state)
{
    (void)state;
    const char *all = "per_device_train_batch_size=24 gradient_accumulation_steps=1 ";
    char a[256], b[256];
    snprintf(a, sizeof a, "%s" FULL, all);
    snprintf(b, sizeof b, "%s" FULL "packing=true", all);
    compare_runs(a, b, "packing_full");
    snprintf(a, sizeof a, "%s" LORA, all);
    snprintf(b, sizeof b, "%s" LORA "packing=true", all);
    compare_runs(a, b, "packing_lora"); /* dropout does not depend on the arrangement either */
}

static void test_micro_batches(void **state)
{
    (void)state;
    const char *one = "per_device_train_batch_size=6 gradient_accumulation_steps=1 ";
    const char *many = "per_device_train_batch_size=1 gradient_accumulation_steps=6 ";
    char a[256], b[256];
    snprintf(a, sizeof a, "%s" FULL, one);
    snprintf(b, sizeof b, "%s" FULL, many);
    compare_runs(a, b, "micro_full");
    snprintf(a, sizeof a, "%s" LORA, one);
    snprintf(b, sizeof b, "%s" LORA, many);
    compare_runs(a, b, "micro_lora");
}

static void last_logits(const char *model, const char *adapter, float *logits, int32_t vocab)
{
    static struct inference f;
    struct err e = {0};
    struct inference_options o = {.model = model,
                                  .adapter = adapter,
                                  .raw = 1,
                                  .max_new_tokens = 1,
                                  .sampling = {.top_p = 1}};
    struct id_list ids = {0};
    CHECK_OK(inference_open(&f, &o, &e), &e);
    assert_int_equal(f.config.vocab_size, vocab);
    CHECK_OK(inference_raw_prompt(&f, "What is this?", &ids, &e), &e);
    engine_decode_reset(&f.engine);
    CHECK_OK(engine_decode(&f.engine, ids.ids, (int32_t)ids.len, logits, &e), &e);
    id_list_free(&ids);
    inference_close(&f);
}

static void test_merge(void **state)
{
    (void)state;
    enum { VOCAB = 311 };
    char adapter[256], merged[256];
    struct err e = {0};
    float with[VOCAB], after[VOCAB], base[VOCAB];
    train("merge", LORA "learning_rate=1e-2");
    tiny_path(&tiny, "merge", adapter);
    tiny_path(&tiny, "merged", merged);
    CHECK_OK(new_model_merge(TINY_MODEL, adapter, merged, FILE_TYPES, &e), &e);
    last_logits(TINY_MODEL, NULL, base, VOCAB);
    last_logits(TINY_MODEL, adapter, with, VOCAB);
    last_logits(merged, NULL, after, VOCAB);
    print_message("merged against adapter %.1e; against the base %.1e\n",
                  check_distance(after, with, VOCAB), check_distance(after, base, VOCAB));
    assert_true(check_distance(after, with, VOCAB) <= 1e-5);
    assert_true(check_distance(after, base, VOCAB) > 1e-2);
    assert_int_equal(new_model_merge(TINY_MODEL, adapter, merged, FILE_TYPES, &e), ERR_CONFIG);
}

/* A run that would not be the same is refused by name, and nothing of the old one is lost. */
static void test_refusals(void **state)
{
    (void)state;
    tiny_train(&tiny, "refused", LORA, 3);
    assert_int_equal(tiny.status, ERR_STOPPED);
    tiny_train(&tiny, "refused", LORA, 0);
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "is not empty"));
    tiny_train(&tiny, "refused", LORA "resume_from_checkpoint=auto learning_rate=2e-3", 0);
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "learning_rate"));
    tiny_train(&tiny, "refused", LORA "resume_from_checkpoint=auto lora_r=5", 0);
    assert_int_equal(tiny.status, ERR_CONFIG);
    train("refused", LORA "resume_from_checkpoint=auto");
    assert_int_equal(tiny.first_step, 4);
    train("refused", LORA "overwrite_output_dir=true");
    assert_int_equal(tiny.first_step, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rerun),          cmocka_unit_test(test_checkpointing),
        cmocka_unit_test(test_resume),         cmocka_unit_test(test_metrics_cut),
        cmocka_unit_test(test_resume_mixture), cmocka_unit_test(test_resume_texts),
        cmocka_unit_test(test_codes),          cmocka_unit_test(test_packing),
        cmocka_unit_test(test_micro_batches),  cmocka_unit_test(test_merge),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
