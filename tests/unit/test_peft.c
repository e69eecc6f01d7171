/* ckpt/peft: adapters read and written. */
#include "support/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "ckpt/peft.h"
#include "ckpt/safetensors_write.h"

#define GOLDEN "tests/golden/models/"

static char folder[] = "/tmp/cria-peft-XXXXXX";
static char said[512];

static void listen(enum log_level level, const char *line)
{
    (void)level;
    snprintf(said, sizeof said, "%s", line);
}

static const char *in_folder(const char *name)
{
    static char out[IO_PATH_MAX];
    snprintf(out, sizeof out, "%s/%s", folder, name);
    return out;
}

static void put_config(const char *text)
{
    FILE *f = fopen(in_folder(PEFT_CONFIG_FILE), "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* A good config with these keys put over it. */
static void put_changed(const char *changes)
{
    json_t *base =
        json_loads("{\"peft_type\":\"LORA\",\"r\":2,\"target_modules\":[\"q_proj\"]}", 0, NULL);
    json_t *over = json_loads(changes, 0, NULL);
    assert_true(base && over);
    json_object_update(base, over);
    assert_int_equal(json_dump_file(base, in_folder(PEFT_CONFIG_FILE), 0), 0);
    json_decref(base);
    json_decref(over);
}

static const struct {
    const char *changes;
    enum status want;
    const char *says;
} refused[] = {
    {"{\"peft_type\":\"IA3\"}", ERR_UNSUPPORTED, "\"peft_type\" of IA3"},
    {"{\"peft_type\":null}", ERR_UNSUPPORTED, "\"peft_type\""},
    {"{\"task_type\":\"SEQ_CLS\"}", ERR_UNSUPPORTED, "\"task_type\" of SEQ_CLS"},
    {"{\"bias\":\"all\"}", ERR_UNSUPPORTED, "\"bias\" of all"},
    {"{\"use_dora\":true}", ERR_UNSUPPORTED, "\"use_dora\""},
    {"{\"lora_bias\":true}", ERR_UNSUPPORTED, "\"lora_bias\""},
    {"{\"fan_in_fan_out\":true}", ERR_UNSUPPORTED, "\"fan_in_fan_out\""},
    {"{\"use_qalora\":true}", ERR_UNSUPPORTED, "\"use_qalora\""},
    {"{\"rank_pattern\":{\"q_proj\":4}}", ERR_UNSUPPORTED, "\"rank_pattern\""},
    {"{\"alpha_pattern\":{\"q_proj\":4}}", ERR_UNSUPPORTED, "\"alpha_pattern\""},
    {"{\"modules_to_save\":\"lm_head\"}", ERR_FORMAT, "\"modules_to_save\""},
    {"{\"modules_to_save\":[1]}", ERR_FORMAT, "\"modules_to_save\""},
    {"{\"trainable_token_indices\":[-1]}", ERR_UNSUPPORTED, "\"trainable_token_indices\""},
    {"{\"trainable_token_indices\":{\"embed_tokens\":[1],\"lm_head\":[2]}}", ERR_UNSUPPORTED,
     "\"trainable_token_indices\""},
    {"{\"trainable_token_indices\":{\"lm_head\":[2]}}", ERR_UNSUPPORTED,
     "\"trainable_token_indices\""},
    {"{\"layer_replication\":[[0,4]]}", ERR_UNSUPPORTED, "\"layer_replication\""},
    {"{\"target_parameters\":[\"x\"]}", ERR_UNSUPPORTED, "\"target_parameters\""},
    {"{\"init_lora_weights\":\"pissa\"}", ERR_UNSUPPORTED, "\"init_lora_weights\" of pissa"},
    {"{\"r\":0}", ERR_FORMAT, "\"r\" is 0"},
    {"{\"r\":-1}", ERR_FORMAT, "\"r\" is -1"},
    {"{\"r\":1000000}", ERR_FORMAT, "\"r\" is 1000000"},
    {"{\"r\":\"2\"}", ERR_FORMAT, "\"r\" should be an integer"},
    {"{\"lora_alpha\":\"2\"}", ERR_FORMAT, "\"lora_alpha\" should be a number"},
    {"{\"lora_dropout\":1}", ERR_FORMAT, "\"lora_dropout\" is 1"},
    {"{\"lora_dropout\":-0.1}", ERR_FORMAT, "\"lora_dropout\" is -0.1"},
    {"{\"use_rslora\":1}", ERR_FORMAT, "\"use_rslora\" should be true or false"},
    {"{\"target_modules\":null}", ERR_FORMAT, "\"target_modules\" should be"},
    {"{\"target_modules\":[]}", ERR_FORMAT, "\"target_modules\" should be"},
    {"{\"target_modules\":[1]}", ERR_FORMAT, "\"target_modules\" should be"},
    {"{\"base_model_name_or_path\":1}", ERR_FORMAT, "\"base_model_name_or_path\" should be"},
};

static void test_refused_configs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct err e = {0};
        struct peft_config c;
        put_changed(refused[i].changes);
        enum status s = peft_config_read(&c, in_folder(PEFT_CONFIG_FILE), &e);
        if (s != refused[i].want || !strstr(e.message, refused[i].says))
            print_error("%s: %s %s\n", refused[i].changes, status_name(s), e.message);
        assert_int_equal(s, refused[i].want);
        assert_non_null(strstr(e.message, refused[i].says));
        assert_non_null(strstr(e.file, PEFT_CONFIG_FILE));
        assert_null(c.source);
    }
    struct err e = {0};
    struct peft_config c;
    put_config("[]");
    assert_int_equal(peft_config_read(&c, in_folder(PEFT_CONFIG_FILE), &e), ERR_FORMAT);
    put_config("{\"r\":1,");
    assert_int_equal(peft_config_read(&c, in_folder(PEFT_CONFIG_FILE), &e), ERR_FORMAT);
    assert_int_equal(peft_config_read(&c, "/no/such", &e), ERR_IO);
}

static void test_accepted_configs(void **state)
{
    (void)state;
    struct err e = {0};
    struct peft_config c;
    put_changed(
        "{\"r\":4,\"lora_alpha\":16,\"use_rslora\":true,\"lora_dropout\":0.05,\"bias\":\"none\","
        "\"target_modules\":\".*q_proj\",\"init_lora_weights\":\"gaussian\",\"peft_version\":\"9\","
        "\"inference_mode\":false,\"enable_lora\":null,\"exclude_modules\":[\"lm_head\"]}");
    said[0] = 0;
    CHECK_OK(peft_config_read(&c, in_folder(PEFT_CONFIG_FILE), &e), &e);
    assert_string_equal(said, "");
    assert_true(peft_scale(&c) == 8 && c.lora_dropout == 0.05 && !c.base_model);
    assert_string_equal(json_string_value(c.target_modules), ".*q_proj");
    peft_config_free(&c);
    put_changed("{\"new_thing\":3}");
    CHECK_OK(peft_config_read(&c, in_folder(PEFT_CONFIG_FILE), &e), &e);
    assert_non_null(strstr(said, "\"new_thing\" is unknown"));
    assert_true(peft_scale(&c) == 4); /* alpha 8 by default */
    peft_config_free(&c);
}

/* The keys and values of a file that PEFT itself wrote. */
static void test_written_config(void **state)
{
    (void)state;
    struct err e = {0};
    struct peft_config c;
    json_t *mine, *theirs;
    const char *path = GOLDEN "llama/adapter_default/" PEFT_CONFIG_FILE;
    CHECK_OK(peft_config_read(&c, path, &e), &e);
    CHECK_OK(peft_config_write(&c, in_folder(PEFT_CONFIG_FILE), &e), &e);
    CHECK_OK(json_parse_file(in_folder(PEFT_CONFIG_FILE), &mine, &e), &e);
    CHECK_OK(json_parse_file(path, &theirs, &e), &e);
    assert_int_equal(json_object_size(mine), 41);
    assert_true(json_equal(mine, theirs));
    void *a = json_object_iter(mine), *b = json_object_iter(theirs);
    for (; a; a = json_object_iter_next(mine, a), b = json_object_iter_next(theirs, b))
        assert_string_equal(json_object_iter_key(a), json_object_iter_key(b)); /* and their order */
    json_decref(mine);
    json_decref(theirs);
    peft_config_free(&c);
}

static const struct {
    const char *dir;
    size_t modules;
} adapters[] = {
    {"llama/adapter_default", 4},
    {"llama_gqa_tied/adapter_all_linear", 14},
    {"qwen3/adapter_rslora", 0},
    {"mistral/adapter_mlp", 0},
};

static void test_goldens(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        struct err e = {0};
        struct peft_adapter a;
        char dir[200], key[300];
        snprintf(dir, sizeof dir, GOLDEN "%s", adapters[i].dir);
        CHECK_OK(peft_open(&a, dir, &e), &e);
        assert_true(a.num_modules && 2 * a.num_modules == tensor_files_count(a.files));
        if (adapters[i].modules) assert_int_equal(a.num_modules, adapters[i].modules);
        for (size_t m = 0; m < a.num_modules; m++) {
            assert_ptr_equal(peft_find(&a, a.modules[m].path), &a.modules[m]);
            CHECK_OK(peft_key(key, sizeof key, a.modules[m].path, PEFT_B, &e), &e);
            assert_string_equal(key, a.modules[m].b->name);
        }
        assert_null(peft_find(&a, "model.layers.0.self_attn"));
        peft_close(&a);
    }
}

/* --- weights that are not right --- */

static void put_weights(const char *const *names, const int64_t (*shapes)[2], size_t n)
{
    static float zeros[64];
    struct tensor_source s[4];
    struct err e = {0};
    for (size_t i = 0; i < n; i++)
        s[i] = (struct tensor_source){.name = names[i],
                                      .type = FILE_F32,
                                      .rank = shapes[i][1] ? 2 : 1,
                                      .shape = {shapes[i][0], shapes[i][1]},
                                      .data = zeros};
    CHECK_OK(tensor_file_write(in_folder(PEFT_WEIGHTS_FILE), s, n, &e), &e);
}

static void expect_refusal(enum status want, const char *says)
{
    struct err e = {0};
    struct peft_adapter a;
    enum status s = peft_open(&a, folder, &e);
    if (s != want || !strstr(e.message, says))
        print_error("wanted %s; got %s %s\n", says, status_name(s), e.message);
    assert_int_equal(s, want);
    assert_non_null(strstr(e.message, says));
    assert_null(a.files);
}

#define KEY(part) "base_model.model.m.q_proj." part

static void test_refused_weights(void **state)
{
    (void)state;
    const int64_t good[][2] = {{2, 5}, {7, 2}, {7, 2}};
    put_changed("{}");
    unlink(in_folder(PEFT_WEIGHTS_FILE));
    expect_refusal(ERR_IO, "no such file");
    FILE *f = fopen(in_folder("adapter_model.bin"), "w");
    fclose(f);
    expect_refusal(ERR_UNSUPPORTED, "pickled");
    unlink(in_folder("adapter_model.bin"));
    put_weights((const char *[]){KEY("lora_A.weight")}, good, 1);
    expect_refusal(ERR_FORMAT, "lora_B.weight\" is missing");
    put_weights((const char *[]){KEY("lora_B.weight")}, good + 1, 1);
    expect_refusal(ERR_FORMAT, "0 A matrices and 1 B");
    put_weights((const char *[]){KEY("lora_A.weight")}, good, 0);
    expect_refusal(ERR_FORMAT, "0 A matrices and 0 B");
    put_weights((const char *[]){KEY("lora_A.weight"), KEY("lora_B.weight")},
                (const int64_t[][2]){{3, 5}, {7, 3}}, 2);
    expect_refusal(ERR_SHAPE, "shape [3, 5], config wants [2, 5]");
    put_weights((const char *[]){KEY("lora_A.weight"), KEY("lora_B.weight")},
                (const int64_t[][2]){{2, 5}, {2, 7}}, 2);
    expect_refusal(ERR_SHAPE, "shape [2, 7], config wants [2, 2]");
    put_weights((const char *[]){KEY("lora_A.weight"), KEY("lora_B.weight")},
                (const int64_t[][2]){{10, 0}, {7, 2}}, 2);
    expect_refusal(ERR_SHAPE, "should be matrices");
    put_weights((const char *[]){KEY("lora_A.weight"), KEY("lora_B.weight"), KEY("lora_B.bias")},
                good, 3);
    expect_refusal(ERR_UNSUPPORTED, "lora_B.bias\" is not a LoRA");
    put_weights(
        (const char *[]){KEY("lora_A.weight"), KEY("lora_B.weight"), KEY("lora_magnitude_vector")},
        good, 3);
    expect_refusal(ERR_UNSUPPORTED, "lora_magnitude_vector");
    put_weights(
        (const char *[]){KEY("lora_A.weight"), KEY("lora_B.weight"), "m.q_proj.lora_A.weight"},
        good, 3);
    expect_refusal(ERR_UNSUPPORTED, "\"m.q_proj.lora_A.weight\"");
    put_weights((const char *[]){"base_model.model..lora_A.weight", KEY("lora_B.weight")}, good, 2);
    expect_refusal(ERR_UNSUPPORTED, "base_model.model..lora_A");
}

static void test_no_memory(void **state)
{
    (void)state;
    enum status s;
    long n = 0;
    do {
        struct err e = {0};
        struct peft_adapter a;
        mem_fail_after(++n);
        s = peft_open(&a, GOLDEN "llama/adapter_default", &e);
        if (!s) s = peft_config_write(&a.config, in_folder(PEFT_CONFIG_FILE), &e);
        mem_fail_after(0);
        assert_true(s == OK || s == ERR_MEMORY);
        peft_close(&a);
    } while (s && n < 10000);
    assert_int_equal(s, OK);
    assert_true(n > 50);
}

static int set_up(void **state)
{
    (void)state;
    json_set_alloc_funcs(mem_alloc, mem_free);
    log_set_sink(listen);
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct err e = {0};
    (void)state;
    return io_remove_tree(folder, &e) ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_configs), cmocka_unit_test(test_accepted_configs),
        cmocka_unit_test(test_written_config),  cmocka_unit_test(test_goldens),
        cmocka_unit_test(test_refused_weights), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
