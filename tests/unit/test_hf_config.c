/* model/hf_config: config.json read, refused, written back. */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/hf_config.h"

#define GOLDEN "tests/golden/models/"
#define BASE                                                                                  \
    "\"model_type\":\"llama\",\"vocab_size\":100,\"hidden_size\":32,\"num_hidden_layers\":3," \
    "\"intermediate_size\":48,\"num_attention_heads\":4"

/* Reads BASE with the keys of `changes` put over it ({"key": null} removes nothing: it is null). */
static enum status read_changed(struct model_config *c, const char *changes, struct err *e)
{
    json_t *base = json_loads("{" BASE "}", 0, NULL), *over = json_loads(changes, 0, NULL);
    assert_non_null(base);
    if (!over) print_error("%s\n", changes);
    assert_non_null(over);
    json_object_update(base, over);
    enum status s = model_config_parse(c, base, "test.json", e);
    json_decref(base);
    json_decref(over);
    return s;
}

static struct model_config changed(const char *changes)
{
    struct err e = {0};
    struct model_config c;
    CHECK_OK(read_changed(&c, changes, &e), &e);
    return c;
}

static const struct {
    const char *changes;
    enum status want;
    const char *says; /* in message or hint */
} refused[] = {
    {"{\"model_type\":null}", ERR_FORMAT, "no \"model_type\""},
    {"{\"model_type\":7}", ERR_FORMAT, "\"model_type\" should be a string"},
    {"{\"model_type\":\"gpt_neox\"}", ERR_UNSUPPORTED,
     "cria trains llama, mistral, qwen2 and qwen3"},
    {"{\"model_type\":\"mixtral\"}", ERR_UNSUPPORTED, "\"mixtral\" is not supported"},
    {"{\"architectures\":[\"LlamaForSequenceClassification\"]}", ERR_UNSUPPORTED,
     "LlamaForCausalLM"},
    {"{\"architectures\":\"LlamaForCausalLM\"}", ERR_FORMAT, "list of one name"},
    {"{\"vocab_size\":null}", ERR_FORMAT, "no \"vocab_size\""},
    {"{\"vocab_size\":0}", ERR_FORMAT, "\"vocab_size\" is 0; it should be 1 to"},
    {"{\"vocab_size\":-5}", ERR_FORMAT, "\"vocab_size\" is -5"},
    {"{\"vocab_size\":4294967297}", ERR_FORMAT, "\"vocab_size\" is 4294967297"},
    {"{\"vocab_size\":\"100\"}", ERR_FORMAT, "\"vocab_size\" should be an integer"},
    {"{\"vocab_size\":100.5}", ERR_FORMAT, "\"vocab_size\" should be an integer"},
    {"{\"hidden_size\":0}", ERR_FORMAT, "\"hidden_size\" is 0"},
    {"{\"hidden_size\":33}", ERR_FORMAT, "\"hidden_size\" (33) is not a multiple"},
    {"{\"hidden_size\":33,\"head_dim\":8}", ERR_FORMAT, "\"hidden_size\" (33) is not a multiple"},
    {"{\"hidden_size\":20}", ERR_FORMAT, "even \"head_dim\""},
    {"{\"intermediate_size\":-1}", ERR_FORMAT, "\"intermediate_size\" is -1"},
    {"{\"num_hidden_layers\":0}", ERR_FORMAT, "\"num_hidden_layers\" is 0"},
    {"{\"num_hidden_layers\":1000000}", ERR_FORMAT, "\"num_hidden_layers\""},
    {"{\"num_attention_heads\":0}", ERR_FORMAT, "\"num_attention_heads\" is 0"},
    {"{\"num_key_value_heads\":0}", ERR_FORMAT, "\"num_key_value_heads\" is 0"},
    {"{\"num_key_value_heads\":3}", ERR_FORMAT,
     "(4) is not a multiple of \"num_key_value_heads\" (3)"},
    {"{\"num_key_value_heads\":8}", ERR_FORMAT, "not a multiple of \"num_key_value_heads\""},
    {"{\"head_dim\":7}", ERR_FORMAT, "even \"head_dim\""},
    {"{\"head_dim\":0}", ERR_FORMAT, "\"head_dim\" is 0"},
    {"{\"head_dim\":100000}", ERR_FORMAT, "\"head_dim\" is 100000"},
    {"{\"num_attention_heads\":65536,\"hidden_size\":65536,\"head_dim\":4096}", ERR_FORMAT,
     "more than"},
    {"{\"max_position_embeddings\":0}", ERR_FORMAT, "\"max_position_embeddings\" is 0"},
    {"{\"rms_norm_eps\":0}", ERR_FORMAT, "\"rms_norm_eps\" is 0"},
    {"{\"rms_norm_eps\":\"small\"}", ERR_FORMAT, "\"rms_norm_eps\" should be a number"},
    {"{\"initializer_range\":-1}", ERR_FORMAT, "\"initializer_range\" is -1"},
    {"{\"hidden_act\":\"gelu\"}", ERR_UNSUPPORTED, "\"gelu\"; cria knows silu"},
    {"{\"quantization_config\":{\"bits\":4}}", ERR_UNSUPPORTED, "quantised"},
    {"{\"attention_dropout\":0.1}", ERR_UNSUPPORTED, "set it to 0"},
    {"{\"torch_dtype\":\"int8\"}", ERR_UNSUPPORTED, "\"int8\""},
    {"{\"dtype\":16}", ERR_FORMAT, "\"dtype\" should be a string"},
    {"{\"bos_token_id\":100}", ERR_FORMAT, "\"bos_token_id\" is 100; it should be 0 to 99"},
    {"{\"eos_token_id\":100}", ERR_FORMAT, "\"eos_token_id\" is 100"},
    {"{\"eos_token_id\":[1,100]}", ERR_FORMAT, "\"eos_token_id\" should list ids"},
    {"{\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", ERR_FORMAT, "more than 8"},
    {"{\"tie_word_embeddings\":1}", ERR_FORMAT, "should be true or false"},
    {"{\"rope_theta\":0}", ERR_FORMAT, "\"rope_theta\" is 0"},
    {"{\"rope_scaling\":\"linear\"}", ERR_FORMAT, "\"rope_scaling\" should be an object"},
    {"{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}", ERR_UNSUPPORTED,
     "cria knows default, linear"},
    {"{\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2}}", ERR_UNSUPPORTED,
     "rope type \"yarn\""},
    {"{\"rope_scaling\":{\"type\":\"linear\"}}", ERR_FORMAT, "linear has no \"factor\""},
    {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":-1}}", ERR_FORMAT, "\"factor\" is -1"},
    {"{\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8}}", ERR_FORMAT, "no \"low_freq_factor\""},
    {"{\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_"
     "factor\":4}}",
     ERR_FORMAT, "\"high_freq_factor\" is 4; it should be above 4"},
    {"{\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1}}}", ERR_UNSUPPORTED,
     "\"full_attention\""},
    {"{\"partial_rotary_factor\":0.5}", ERR_UNSUPPORTED, "partial_rotary_factor 0.5"},
    {"{\"rope_parameters\":{\"partial_rotary_factor\":0.25}}", ERR_UNSUPPORTED,
     "partial_rotary_factor"},
    {"{\"model_type\":\"mistral\",\"num_key_value_heads\":2,\"mlp_bias\":true}", ERR_UNSUPPORTED,
     "mistral has no \"mlp_bias\""},
    {"{\"model_type\":\"mistral\",\"num_key_value_heads\":2,\"attention_bias\":true}",
     ERR_UNSUPPORTED, "mistral has no \"attention_bias\""},
    {"{\"model_type\":\"mistral\",\"num_key_value_heads\":2,\"sliding_window\":0}", ERR_FORMAT,
     "\"sliding_window\" is 0"},
    {"{\"model_type\":\"mistral\"}", ERR_FORMAT, "\"num_key_value_heads\" (8)"},
    {"{\"layer_types\":[\"full_attention\"]}", ERR_FORMAT, "should list 3 layers"},
    {"{\"layer_types\":[\"full_attention\",\"sliding_attention\",\"full_attention\"]}",
     ERR_UNSUPPORTED, "layer_types[1]"},
    {"{\"model_type\":\"qwen2\",\"num_key_value_heads\":2,\"use_sliding_window\":true,\"layer_"
     "types\":"
     "[\"sliding_attention\",\"full_attention\",\"full_attention\"]}",
     ERR_UNSUPPORTED, "layer_types[1]"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct err e = {0};
        struct model_config c;
        char text[2048];
        const char *changes = refused[i].changes;
        enum status s = read_changed(&c, changes, &e);
        err_format(&e, text, sizeof text);
        if (s != refused[i].want || !strstr(text, refused[i].says) || !strstr(text, "test.json"))
            print_error("%s: %s %s\n", changes, status_name(s), text);
        assert_int_equal(s, refused[i].want);
        assert_non_null(strstr(text, refused[i].says));
        assert_non_null(strstr(text, "test.json"));
        assert_null(c.source);
    }
}

static void test_not_an_object(void **state)
{
    (void)state;
    struct err e = {0};
    struct model_config c;
    json_t *list = json_array();
    assert_int_equal(model_config_parse(&c, list, "x", &e), ERR_FORMAT);
    json_decref(list);
    assert_int_equal(model_config_read(&c, "/no/such/config.json", &e), ERR_IO);
}

static void test_defaults(void **state)
{
    (void)state;
    struct model_config c = changed("{}");
    assert_string_equal(c.family->name, "llama");
    assert_int_equal(c.num_kv_heads, 4);
    assert_int_equal(c.head_dim, 8);
    assert_int_equal(c.max_positions, 2048);
    assert_true(c.norm_eps == 1e-6 && c.rope.theta == 10000 && c.rope.kind == ROPE_DEFAULT);
    assert_int_equal(c.window + c.qkv_bias + c.o_bias + c.mlp_bias + c.qk_norm + c.tied, 0);
    assert_true(c.bos == 1 && c.num_eos == 1 && c.eos[0] == 2);
    assert_true(c.dtype == DTYPE_F32 && !c.has_dtype);
    assert_int_equal(model_config_parameters(&c),
                     3 * (4 * 32 * 32 + 3 * 32 * 48 + 2 * 32) + 32 + 2 * 100 * 32);
    model_config_free(&c);
    c = changed("{\"model_type\":\"mistral\",\"num_key_value_heads\":null,\"hidden_size\":28,"
                "\"head_dim\":12}");
    assert_int_equal(c.num_kv_heads, 4);
    assert_int_equal(model_config_window(&c, 0), 4096);
    model_config_free(&c);
    c = changed("{\"model_type\":\"mistral\",\"num_key_value_heads\":1,\"sliding_window\":null}");
    assert_int_equal(model_config_window(&c, 2), 0);
    model_config_free(&c);
    c = changed("{\"model_type\":\"qwen3\",\"num_key_value_heads\":1,\"hidden_size\":30}");
    assert_int_equal(c.head_dim, 128);
    assert_true(c.qk_norm && !c.qkv_bias && c.bos == -1 && c.num_eos == 0);
    model_config_free(&c);
    c = changed("{\"bos_token_id\":null,\"eos_token_id\":[5,6],\"dtype\":\"bfloat16\",\"tie_word_"
                "embeddings\":true}");
    assert_true(c.bos == -1 && c.num_eos == 2 && c.eos[1] == 6 && c.dtype == DTYPE_BF16 && c.tied);
    model_config_free(&c);
}

static void test_biases(void **state)
{
    (void)state;
    struct model_config c = changed("{\"attention_bias\":true,\"mlp_bias\":true}");
    assert_true(c.qkv_bias && c.o_bias && c.mlp_bias);
    model_config_free(&c);
    c = changed("{\"model_type\":\"qwen2\",\"num_key_value_heads\":2}");
    assert_true(c.qkv_bias && !c.o_bias);
    model_config_free(&c);
    c = changed("{\"model_type\":\"qwen3\",\"num_key_value_heads\":2,\"attention_bias\":true}");
    assert_true(c.qkv_bias && c.o_bias);
    model_config_free(&c);
}

static void test_windows(void **state)
{
    (void)state;
    const char *qwen = "{\"model_type\":\"qwen2\",\"num_key_value_heads\":2,\"sliding_window\":7,"
                       "\"use_sliding_window\":%s,\"max_window_layers\":%d%s}";
    const struct {
        const char *use;
        int from;
        const char *types;
        int32_t windows[3];
    } cases[] = {
        {"false", 0, "", {0, 0, 0}},
        {"true", 0, "", {7, 7, 7}},
        {"true", 2, "", {0, 0, 7}},
        {"true", 9, "", {0, 0, 0}},
        {"true",
         9,
         ",\"layer_types\":[\"full_attention\",\"sliding_attention\",\"sliding_attention\"]",
         {0, 7, 7}},
        {"true",
         0,
         ",\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\"]",
         {0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        snprintf(text, sizeof text, qwen, cases[i].use, cases[i].from, cases[i].types);
        struct model_config c = changed(text);
        for (int32_t l = 0; l < 3; l++)
            assert_int_equal(model_config_window(&c, l), cases[i].windows[l]);
        model_config_free(&c);
    }
}

static void test_rope(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        struct rope_config want;
    } cases[] = {
        {"{\"rope_theta\":5}", {.theta = 5}},
        {"{\"rope_theta\":5,\"rope_parameters\":{\"rope_theta\":7}}", {.theta = 7}},
        {"{\"rope_theta\":5,\"rope_scaling\":null}", {.theta = 5}},
        {"{\"rope_scaling\":{}}", {.theta = 10000}},
        {"{\"rope_scaling\":{\"type\":\"default\"}}", {.theta = 10000}},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5}}",
         {ROPE_LINEAR, 10000, 2.5, 0, 0, 0}},
        {"{\"rope_scaling\":{\"type\":\"dynamic\",\"rope_type\":\"linear\",\"factor\":2}}",
         {ROPE_LINEAR, 10000, 2, 0, 0, 0}},
        {"{\"rope_theta\":5,\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2},\"rope_"
         "parameters\":"
         "{\"rope_theta\":7}}",
         {ROPE_LINEAR, 5, 2, 0, 0, 0}},
        {"{\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":5e5,\"factor\":8,\"low_"
         "freq_factor\""
         ":1,\"high_freq_factor\":4}}",
         {ROPE_LLAMA3, 5e5, 8, 1, 4, 2048}},
        {"{\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1,"
         "\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}",
         {ROPE_LLAMA3, 10000, 8, 1, 4, 64}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config c = changed(cases[i].changes);
        const struct rope_config *w = &cases[i].want;
        assert_true(c.rope.kind == w->kind && c.rope.theta == w->theta &&
                    c.rope.factor == w->factor && c.rope.low_freq == w->low_freq &&
                    c.rope.high_freq == w->high_freq &&
                    c.rope.original_positions == w->original_positions);
        model_config_free(&c);
    }
}

/* --- writing --- */

static json_t *written(const struct model_config *c)
{
    struct err e = {0};
    json_t *out;
    CHECK_OK(model_config_json(c, &out, &e), &e);
    return out;
}

static const char *const goldens[] = {
    "llama",          "llama31_oldrope",
    "llama3_rope",    "llama_bf16",
    "llama_bias",     "llama_f16_sharded",
    "llama_gqa_tied", "llama_linear_rope",
    "mistral",        "qwen2",
    "qwen3",
};

/* Every family's config is taken, and what is written of it unchanged is what was read. */
static void test_goldens(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        struct err e = {0};
        struct model_config c;
        char path[200];
        snprintf(path, sizeof path, GOLDEN "%s", goldens[i]);
        CHECK_OK(model_config_read(&c, path, &e), &e);
        json_t *again = written(&c);
        assert_true(json_equal(again, c.source));
        json_decref(again);
        model_config_free(&c);
    }
}

static int64_t int_in(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static void test_changes(void **state)
{
    (void)state;
    struct model_config c = changed("{\"x\":[1],\"torch_dtype\":\"float32\",\"rope_theta\":5}");
    c.vocab_size = 107;
    c.dtype = DTYPE_BF16;
    c.num_eos = 2, c.eos[0] = 3, c.eos[1] = 4;
    c.tied = 1;
    json_t *o = written(&c);
    assert_int_equal(int_in(o, "vocab_size"), 107);
    assert_string_equal(json_string_value(json_object_get(o, "torch_dtype")), "bfloat16");
    assert_null(json_object_get(o, "dtype"));
    assert_int_equal(json_array_size(json_object_get(o, "eos_token_id")), 2);
    assert_true(json_is_true(json_object_get(o, "tie_word_embeddings")));
    assert_int_equal(json_array_size(json_object_get(o, "x")), 1);
    assert_int_equal(int_in(o, "rope_theta"), 5); /* not touched */
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "architectures"), 0)),
                        "LlamaForCausalLM");
    json_decref(o);
    model_config_free(&c);
    /* A new spelling stays new; a list of layers that no longer fits goes. */
    c = changed("{\"model_type\":\"qwen3\",\"num_key_value_heads\":2,\"dtype\":\"float16\",\"rope_"
                "parameters\":"
                "{\"rope_theta\":5.0},\"layer_types\":[\"full_attention\",\"full_attention\","
                "\"full_attention\"]}");
    c.num_layers = 4;
    c.rope = (struct rope_config){ROPE_LLAMA3, 6, 8, 1, 4, 64};
    o = written(&c);
    assert_null(json_object_get(o, "layer_types"));
    assert_null(json_object_get(o, "rope_theta"));
    assert_null(json_object_get(o, "torch_dtype"));
    assert_int_equal(
        int_in(json_object_get(o, "rope_parameters"), "original_max_position_embeddings"), 64);
    struct model_config back;
    struct err e = {0};
    CHECK_OK(model_config_parse(&back, o, "back", &e), &e);
    assert_true(back.num_layers == 4 && back.rope.kind == ROPE_LLAMA3 && back.rope.theta == 6);
    model_config_free(&back);
    json_decref(o);
    model_config_free(&c);
}

/* Without a source everything is said: what is read back is the struct. */
static void test_from_nothing(void **state)
{
    (void)state;
    static const char *const configs[] = {
        "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"attention_bias\":true,\"bos_token_"
        "id\":0}",
        "{\"model_type\":\"mistral\",\"num_key_value_heads\":2,\"sliding_window\":null,\"eos_token_"
        "id\":null}",
        "{\"model_type\":\"qwen2\",\"num_key_value_heads\":2,\"sliding_window\":9,\"use_sliding_"
        "window\":"
        "true,\"max_window_layers\":1,\"dtype\":\"float16\"}",
        "{\"model_type\":\"qwen3\",\"num_key_value_heads\":2,\"initializer_range\":0.1}",
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct err e = {0};
        struct model_config c = changed(configs[i]), back;
        json_decref(c.source);
        c.source = NULL;
        json_t *o = written(&c);
        CHECK_OK(model_config_parse(&back, o, "back", &e), &e);
        json_decref(back.source);
        back.source = NULL;
        json_t *again = written(&back);
        assert_true(json_equal(o, again));
        assert_true(back.has_dtype && back.dtype == c.dtype && back.window_layer == c.window_layer);
        json_decref(again);
        json_decref(o);
    }
}

static void test_file(void **state)
{
    (void)state;
    struct err e = {0};
    char dir[] = "/tmp/cria-config-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    struct model_config c = changed("{}"), back;
    CHECK_OK(model_config_write(&c, path, &e), &e);
    CHECK_OK(model_config_read(&back, dir, &e), &e);
    assert_int_equal(back.hidden_size, 32);
    assert_true(back.has_dtype);
    model_config_free(&back);
    model_config_free(&c);
    CHECK_OK(io_remove_tree(dir, &e), &e);
}

/* Read and written with each allocation failing in turn, jansson's included. */
static void test_no_memory(void **state)
{
    (void)state;
    enum status s;
    long n = 0;
    do {
        struct err e = {0};
        struct model_config c = {0};
        json_t *o = NULL;
        mem_fail_after(++n);
        s = model_config_read(&c, GOLDEN "qwen3", &e);
        if (!s) c.vocab_size++, c.window = 3, c.rope.theta = 5, c.num_eos = 2;
        if (!s) s = model_config_json(&c, &o, &e);
        mem_fail_after(0);
        assert_true(s == OK || s == ERR_MEMORY);
        json_decref(o);
        model_config_free(&c);
    } while (s && n < 10000);
    assert_int_equal(s, OK);
    assert_true(n > 50);
}

int main(void)
{
    json_set_alloc_funcs(mem_alloc, mem_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_not_an_object),
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_biases),
        cmocka_unit_test(test_windows),      cmocka_unit_test(test_rope),
        cmocka_unit_test(test_goldens),      cmocka_unit_test(test_changes),
        cmocka_unit_test(test_from_nothing), cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
