/* A template whose special tokens the tokenizer does not have: they are added, their rows start as
 * the mean of the others and are trained, and what comes out can be used and resumed. */
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

#define EMBEDDING "base_model.model.model.embed_tokens"
#define DELTA ".token_adapter.trainable_tokens_delta"
enum { OLD = 311, HIDDEN = 32, PADDED = 320, MOST = 512 };

static struct tiny tiny;
static char padded[256]; /* a model with more rows than its tokenizer has tokens, not tied */

static int setup(void **state)
{
    (void)state;
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    char config[256];
    struct err e = {0};
    json_t *o;
    tiny_init(&tiny);
    CHECK_OK(json_parse_file(TINY_MODEL "/config.json", &o, &e), &e);
    json_object_set_new(o, "tie_word_embeddings", json_false());
    json_object_set_new(o, "vocab_size", json_integer(PADDED));
    tiny_path(&tiny, "config.json", config);
    CHECK_OK(json_write_file(o, config, &e), &e);
    json_decref(o);
    tiny_path(&tiny, "padded", padded);
    CHECK_OK(new_model_init(config, padded, 1, &e), &e);
    for (int i = 0; i < 2; i++) {
        char from[256], to[512];
        snprintf(from, sizeof from, "%s/%s", TINY_MODEL, files[i]);
        snprintf(to, sizeof to, "%s/%s", padded, files[i]);
        CHECK_OK(io_copy_file(from, to, &e), &e);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static void train(const char *out, const char *model, int stop_after, const char *more)
{
    char overrides[1024];
    snprintf(overrides, sizeof overrides,
             "model_name_or_path=%s template=chatml finetuning=lora lora_r=4 learning_rate=1e-2 %s",
             model, more);
    tiny_train(&tiny, out, overrides, stop_after);
}

/* Elements of a tensor of dir/file into out; their number, 0: absent. */
static size_t read_tensor(const char *path, const char *name, float *out, size_t most)
{
    struct err e = {0};
    struct tensor_files *f;
    CHECK_OK(tensor_files_open(&f, path, &e), &e);
    const struct tensor_info *t = tensor_files_find(f, name);
    size_t n = t ? t->count : 0;
    if (t && out) CHECK_OK(tensor_read_float(f, t, 0, n < most ? n : most, out, &e), &e);
    tensor_files_close(f);
    return n;
}

static json_t *read_json(const char *name)
{
    char path[256];
    json_t *o;
    struct err e = {0};
    tiny_path(&tiny, name, path);
    CHECK_OK(json_parse_file(path, &o, &e), &e);
    return o;
}

static int64_t number_in(const char *file, const char *key)
{
    json_t *o = read_json(file);
    int64_t n = json_integer_value(json_object_get(o, key));
    json_decref(o);
    return n;
}

static void answer_logits(const char *model, const char *adapter, float *logits)
{
    static struct inference f;
    struct err e = {0};
    struct inference_options o = {
        .model = model, .adapter = adapter, .max_new_tokens = 1, .sampling = {.top_p = 1}};
    struct id_list ids = {0};
    struct conversation c = {0};
    CHECK_OK(inference_open(&f, &o, &e), &e);
    assert_int_equal(conversation_add(&c, ROLE_USER, (struct text){"Add 1 and 2", 11}), OK);
    CHECK_OK(inference_prompt(&f, &c, &ids, &e), &e);
    assert_int_equal(ids.ids[1], OLD); /* <|im_start|> behind BOS */
    engine_decode_reset(&f.engine);
    CHECK_OK(engine_decode(&f.engine, ids.ids, (int32_t)ids.len, logits, &e), &e);
    conversation_free(&c);
    id_list_free(&ids);
    inference_close(&f);
}

/* Adapter on its base, and both merged, answer alike. */
static void check_use(const char *base, const char *out, int32_t vocab)
{
    char adapter[256], merged[300];
    float with[MOST], after[MOST];
    struct err e = {0};
    tiny_path(&tiny, out, adapter);
    snprintf(merged, sizeof merged, "%s-merged", adapter);
    CHECK_OK(new_model_merge(base, adapter, merged, FILE_TYPES, &e), &e);
    answer_logits(base, adapter, with);
    answer_logits(merged, NULL, after);
    assert_true(check_distance(after, with, (size_t)vocab) <= 1e-5);
}

static void check_trained_ids(const char *file)
{
    json_t *o = read_json(file), *ids;
    ids = json_object_get(json_object_get(o, "trainable_token_indices"), "embed_tokens");
    assert_int_equal(json_array_size(ids), 2);
    assert_int_equal(json_integer_value(json_array_get(ids, 0)), OLD);
    assert_int_equal(json_integer_value(json_array_get(ids, 1)), OLD + 1);
    json_decref(o);
}

static void test_grown(void **state)
{
    (void)state;
    char base[256], cut_file[256], path[256];
    train("grown", TINY_MODEL, 0, "");
    CHECK_OK(tiny.status, &tiny.err);
    tiny_path(&tiny, "grown/base", base);
    assert_int_equal(number_in("grown/base/config.json", "vocab_size"), OLD + 2);
    json_t *o = read_json("grown/adapter_config.json");
    assert_string_equal(json_string_value(json_object_get(o, "base_model_name_or_path")), base);
    json_decref(o);
    check_trained_ids("grown/adapter_config.json");
    tiny_path(&tiny, "grown/adapter_model.safetensors", path);
    assert_int_equal(read_tensor(path, EMBEDDING DELTA, NULL, 0), 2 * HIDDEN);
    check_use(base, "grown", OLD + 2);
    train("grown_cut", TINY_MODEL, 3, "");
    assert_int_equal(tiny.status, ERR_STOPPED);
    train("grown_cut", TINY_MODEL, 0, "resume_from_checkpoint=auto");
    CHECK_OK(tiny.status, &tiny.err);
    assert_true(
        tiny_same(&tiny, "grown/adapter_model.safetensors", "grown_cut/adapter_model.safetensors"));
    assert_true(
        tiny_same(&tiny, "grown/base/model.safetensors", "grown_cut/base/model.safetensors"));
    tiny_path(&tiny, "grown_cut", cut_file);
    train("grown_cut", TINY_MODEL, 0, "template=orca overwrite_output_dir=true");
    CHECK_OK(tiny.status, &tiny.err);
    tiny_path(&tiny, "grown_cut/base", path);
    assert_false(io_exists(path)); /* it was the run's, and went with it */
}

/* The rows begin as the mean of those before them. */
static void test_first_rows(void **state)
{
    (void)state;
    static float table[OLD * HIDDEN], grown[(OLD + 2) * HIDDEN], delta[2 * HIDDEN];
    char path[256];
    train("first", TINY_MODEL, 0, "learning_rate=0 max_steps=1");
    CHECK_OK(tiny.status, &tiny.err);
    tiny_path(&tiny, "first/adapter_model.safetensors", path);
    read_tensor(path, EMBEDDING DELTA, delta, 2 * HIDDEN);
    read_tensor(TINY_MODEL "/model.safetensors", "model.embed_tokens.weight", table, OLD * HIDDEN);
    tiny_path(&tiny, "first/base/model.safetensors", path);
    assert_int_equal(read_tensor(path, "model.embed_tokens.weight", grown, (OLD + 2) * HIDDEN),
                     (OLD + 2) * HIDDEN);
    assert_memory_equal(grown, table, sizeof table);
    for (int c = 0; c < HIDDEN; c++) {
        double sum = 0;
        for (int r = 0; r < OLD; r++) sum += (double)table[r * HIDDEN + c];
        assert_true(fabs(sum / OLD - (double)delta[c]) < 1e-7);
        assert_true(delta[c] == delta[HIDDEN + c] && delta[c] == grown[OLD * HIDDEN + c]);
    }
}

static void test_free_rows(void **state)
{
    (void)state;
    char path[256];
    train("free", padded, 0, "");
    CHECK_OK(tiny.status, &tiny.err);
    tiny_path(&tiny, "free/base", path);
    assert_false(io_exists(path));
    json_t *o = read_json("free/adapter_config.json");
    assert_string_equal(json_string_value(json_object_get(o, "base_model_name_or_path")), padded);
    json_decref(o);
    check_trained_ids("free/adapter_config.json");
    check_use(padded, "free", PADDED);
}

static void test_whole_tables(void **state)
{
    (void)state;
    char base[256], path[256];
    train("whole", TINY_MODEL, 0, "modules_to_save=embed_tokens,lm_head");
    CHECK_OK(tiny.status, &tiny.err);
    tiny_path(&tiny, "whole/adapter_model.safetensors", path);
    assert_int_equal(read_tensor(path, EMBEDDING DELTA, NULL, 0), 0);
    assert_int_equal(read_tensor(path, EMBEDDING ".weight", NULL, 0), (OLD + 2) * HIDDEN);
    tiny_path(&tiny, "whole/base", base);
    check_use(base, "whole", OLD + 2);
    train("full", TINY_MODEL, 0, "finetuning=full lora_r=");
    CHECK_OK(tiny.status, &tiny.err);
    assert_int_equal(number_in("full/config.json", "vocab_size"), OLD + 2);
    tiny_path(&tiny, "full", path);
    float logits[MOST];
    answer_logits(path, NULL, logits);
}

/* A dataset's own template brings its tokens too, behind those of the run's. */
static void test_own_template(void **state)
{
    (void)state;
    char path[256], more[768];
    struct err e = {0};
    struct tokenizer *t;
    tiny_path(&tiny, "mine.yaml", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("name: mine\nuser: '{<|ask|>}{content}'\nreply: '{<|say|>}{content}{<|im_end|>}'\n"
          "system: '{content}'\n",
          f);
    fclose(f);
    snprintf(more, sizeof more,
             "datasets=[{\"path\":\"%s/data.jsonl\"},{\"path\":\"%s/data.jsonl\",\"template\":"
             "\"%s\"}]",
             tiny.dir, tiny.dir, path);
    train("own", TINY_MODEL, 0, more);
    CHECK_OK(tiny.status, &tiny.err);
    assert_int_equal(number_in("own/base/config.json", "vocab_size"), OLD + 4);
    tiny_path(&tiny, "own", path);
    CHECK_OK(tokenizer_open(&t, path, &e), &e);
    assert_int_equal(tokenizer_find(t, "<|im_end|>"), OLD + 1);
    assert_int_equal(tokenizer_find(t, "<|ask|>"), OLD + 2);
    assert_int_equal(tokenizer_find(t, "<|say|>"), OLD + 3);
    tokenizer_close(t);
    char never[900];
    snprintf(never, sizeof never, "template=vicuna add_special_tokens=never %s", more);
    train("own_never", TINY_MODEL, 0, never);
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "<|ask|>"));
    assert_non_null(strstr(tiny.err.hint, "add_special_tokens"));
}

static void test_refused(void **state)
{
    (void)state;
    train("never", TINY_MODEL, 0, "add_special_tokens=never");
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "<|im_start|>"));
    struct inference_options o = {.model = TINY_MODEL, .max_new_tokens = 1, .sampling.top_p = 1};
    static struct inference f;
    struct err e = {0};
    char adapter[256];
    tiny_path(&tiny, "grown", adapter);
    o.adapter = adapter; /* not the base it was trained on */
    assert_int_equal(inference_open(&f, &o, &e), ERR_CONFIG);
    assert_non_null(strstr(e.hint, "adapter_config.json"));
    inference_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grown),        cmocka_unit_test(test_first_rows),
        cmocka_unit_test(test_free_rows),    cmocka_unit_test(test_whole_tables),
        cmocka_unit_test(test_own_template), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
