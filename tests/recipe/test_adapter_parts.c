/* What an adapter may hold beside LoRA: modules trained whole, and rows of single tokens; with
 * embedding and head in one table and in two. */
#include "support/tiny_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "ckpt/safetensors.h"
#include "run/inference.h"
#include "run/new_model.h"

#define ADAPTER "adapter_model.safetensors"
#define EMBEDDING "base_model.model.model.embed_tokens"
#define HEAD "base_model.model.lm_head"
#define DELTA ".token_adapter.trainable_tokens_delta"
enum { VOCAB = 311, HIDDEN = 32 };

static struct tiny tiny;
static char models[2][256]; /* one table, two */

static void make_untied(void)
{
    char config[256];
    struct err e = {0};
    json_t *o;
    CHECK_OK(json_parse_file(TINY_MODEL "/config.json", &o, &e), &e);
    json_object_set_new(o, "tie_word_embeddings", json_false());
    tiny_path(&tiny, "config.json", config);
    CHECK_OK(json_write_file(o, config, &e), &e);
    json_decref(o);
    tiny_path(&tiny, "untied", models[1]);
    CHECK_OK(new_model_init(config, models[1], 1, &e), &e);
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        char from[256], to[512];
        snprintf(from, sizeof from, "%s/%s", TINY_MODEL, files[i]);
        snprintf(to, sizeof to, "%s/%s", models[1], files[i]);
        CHECK_OK(io_copy_file(from, to, &e), &e);
    }
}

static int setup(void **state)
{
    (void)state;
    tiny_init(&tiny);
    snprintf(models[0], sizeof models[0], "%s", TINY_MODEL);
    make_untied();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static void train(const char *out, int untied, int stop_after, const char *more)
{
    char overrides[1024];
    snprintf(
        overrides, sizeof overrides,
        "model_name_or_path=%s finetuning=lora lora_r=4 lora_dropout=0.1 learning_rate=1e-2 %s",
        models[untied], more);
    tiny_train(&tiny, out, overrides, stop_after);
}

static void last_logits(const char *model, const char *adapter, float *logits)
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
    CHECK_OK(inference_raw_prompt(&f, "What is this, hi", &ids, &e), &e);
    engine_decode_reset(&f.engine);
    CHECK_OK(engine_decode(&f.engine, ids.ids, (int32_t)ids.len, logits, &e), &e);
    id_list_free(&ids);
    inference_close(&f);
}

/* A tensor of dir/file; its size in *n, 0: absent. The caller frees it. */
static float *read_tensor(const char *file, const char *name, size_t *n)
{
    char path[256];
    struct err e = {0};
    struct tensor_files *f;
    float *values = NULL;
    tiny_path(&tiny, file, path);
    CHECK_OK(tensor_files_open(&f, path, &e), &e);
    const struct tensor_info *t = tensor_files_find(f, name);
    *n = t ? t->count : 0;
    if (t) {
        values = mem_calloc(t->count, sizeof *values);
        CHECK_OK(tensor_read_float(f, t, 0, t->count, values, &e), &e);
    }
    tensor_files_close(f);
    return values;
}

static size_t size_in(const char *file, const char *name)
{
    size_t n;
    mem_free(read_tensor(file, name, &n));
    return n;
}

/* Trained, cut and resumed to the same bytes; used by the base through adapter and merge alike. */
static void check_kind(const char *name, int untied, const char *more)
{
    char whole[64], cut[64], file[2][80], paths[2][256], again[512];
    float with[VOCAB], merged[VOCAB], base[VOCAB];
    struct err e = {0};
    snprintf(whole, sizeof whole, "%s-%d", name, untied);
    snprintf(cut, sizeof cut, "%s-%d-cut", name, untied);
    train(whole, untied, 0, more);
    CHECK_OK(tiny.status, &tiny.err);
    train(cut, untied, 3, more);
    assert_int_equal(tiny.status, ERR_STOPPED);
    snprintf(again, sizeof again, "%s resume_from_checkpoint=auto", more);
    train(cut, untied, 0, again);
    CHECK_OK(tiny.status, &tiny.err);
    assert_int_equal(tiny.first_step, 4);
    snprintf(file[0], sizeof file[0], "%s/" ADAPTER, whole);
    snprintf(file[1], sizeof file[1], "%s/" ADAPTER, cut);
    assert_true(tiny_same(&tiny, file[0], file[1]));
    tiny_path(&tiny, whole, paths[0]);
    snprintf(paths[1], sizeof paths[1], "%s-merged", paths[0]);
    CHECK_OK(new_model_merge(models[untied], paths[0], paths[1], FILE_TYPES, &e), &e);
    last_logits(models[untied], paths[0], with);
    last_logits(paths[1], NULL, merged);
    last_logits(models[untied], NULL, base);
    assert_true(check_distance(merged, with, VOCAB) <= 1e-5);
    assert_true(check_distance(base, with, VOCAB) > 1e-2);
}

static void test_saved_modules(void **state)
{
    (void)state;
    for (int untied = 0; untied < 2; untied++) {
        check_kind("both", untied, "modules_to_save=embed_tokens,lm_head");
        check_kind("head", untied, "modules_to_save=lm_head,norm");
    }
    /* one table is in the adapter twice, as PEFT needs it */
    assert_int_equal(size_in("both-0/" ADAPTER, EMBEDDING ".weight"), VOCAB * HIDDEN);
    assert_int_equal(size_in("head-0/" ADAPTER, EMBEDDING ".weight"), VOCAB * HIDDEN);
    assert_int_equal(size_in("head-0/" ADAPTER, HEAD ".weight"), VOCAB * HIDDEN);
    assert_int_equal(size_in("head-1/" ADAPTER, EMBEDDING ".weight"), 0);
    assert_int_equal(size_in("head-1/" ADAPTER, HEAD ".weight"), VOCAB * HIDDEN);
    assert_int_equal(size_in("head-1/" ADAPTER, "base_model.model.model.norm.weight"), HIDDEN);
}

#define TOKENS "trainable_tokens=hi,A,##,he,<unk>,A "
static const int32_t token_ids[] = {0, 264, 294, 309, 310};

static void test_tokens(void **state)
{
    (void)state;
    for (int untied = 0; untied < 2; untied++) {
        char file[64], path[256];
        struct err e = {0};
        struct tensor_files *f;
        json_t *o, *ids;
        check_kind("tokens", untied, TOKENS);
        snprintf(file, sizeof file, "tokens-%d/" ADAPTER, untied);
        tiny_path(&tiny, file, path);
        CHECK_OK(tensor_files_open(&f, path, &e), &e);
        assert_non_null(tensor_files_find(f, EMBEDDING DELTA));
        assert_int_equal(!tensor_files_find(f, HEAD DELTA), !untied);
        tensor_files_close(f);
        assert_int_equal(size_in(file, EMBEDDING DELTA), 5 * HIDDEN);
        snprintf(file, sizeof file, "tokens-%d/adapter_config.json", untied);
        tiny_path(&tiny, file, path);
        CHECK_OK(json_parse_file(path, &o, &e), &e);
        json_t *trained = json_object_get(o, "trainable_token_indices");
        assert_int_equal(json_object_size(trained), untied ? 2 : 1);
        ids = json_object_get(trained, "embed_tokens");
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(json_integer_value(json_array_get(ids, i)), token_ids[i]);
        json_decref(o);
    }
}

/* After one update a token's row is what it is when the whole table is trained: its gradient is
 * that row of the table's gradient. */
static void test_row_gradients(void **state)
{
    (void)state;
    static const char *const once =
        "max_steps=1 max_grad_norm=0 lr_scheduler_type=constant gradient_accumulation_steps=6 ";
    for (int untied = 0; untied < 2; untied++) {
        char more[512], rows_out[32], table_out[32], rows_file[64], table_file[64];
        snprintf(rows_out, sizeof rows_out, "row-%d", untied);
        snprintf(table_out, sizeof table_out, "table-%d", untied);
        snprintf(more, sizeof more, "%s" TOKENS, once);
        snprintf(rows_file, sizeof rows_file, "%s/" ADAPTER, rows_out);
        snprintf(table_file, sizeof table_file, "%s/" ADAPTER, table_out);
        train(rows_out, untied, 0, more);
        CHECK_OK(tiny.status, &tiny.err);
        snprintf(more, sizeof more, "%s modules_to_save=embed_tokens,lm_head", once);
        train(table_out, untied, 0, more);
        CHECK_OK(tiny.status, &tiny.err);
        for (int head = 0; head <= untied; head++) {
            size_t n, all;
            float *rows = read_tensor(rows_file, head ? HEAD DELTA : EMBEDDING DELTA, &n);
            float *table =
                read_tensor(table_file, head ? HEAD ".weight" : EMBEDDING ".weight", &all);
            assert_int_equal(n, 5 * HIDDEN);
            for (int i = 0; i < 5; i++) {
                const float *want = table + (size_t)token_ids[i] * HIDDEN;
                assert_true(check_distance(rows + (size_t)i * HIDDEN, want, HIDDEN) < 1e-5);
            }
            mem_free(rows);
            mem_free(table);
        }
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *more, *message;
        enum status status;
    } cases[] = {
        {"modules_to_save=q_proj", "is a linear of the blocks", ERR_CONFIG},
        {"modules_to_save=head", "", OK}, /* ends so, as PEFT has it */
        {"modules_to_save=nothing", "no module is named \"nothing\"", ERR_CONFIG},
        {"trainable_tokens=no-such", "no token \"no-such\"", ERR_CONFIG},
        {TOKENS "modules_to_save=lm_head", "both train", ERR_CONFIG},
        {"finetuning=full trainable_tokens=A", "has no effect", ERR_CONFIG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[32];
        snprintf(out, sizeof out, "refused-%zu", i);
        train(out, 0, 0, cases[i].more);
        assert_int_equal(tiny.status, cases[i].status);
        if (cases[i].status) assert_non_null(strstr(tiny.err.message, cases[i].message));
    }
    train("other", 0, 3, TOKENS);
    assert_int_equal(tiny.status, ERR_STOPPED);
    train("other", 0, 0, "trainable_tokens=hi,A,##,he,<s> resume_from_checkpoint=auto");
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "trained_tokens"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saved_modules),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_row_gradients),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
