/* data/template: each row writes what transformers writes with the row's Jinja text
 * (tests/golden/templates.json), and trains exactly what it says it trains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "data/template/template.h"
#include "template_cases.h"

static json_t *golden;

/* The Jinja text says whether a BOS stands before what the row writes itself. */
static const char *bos_before(const struct template *t, const json_t *row, struct buf *jinja)
{
    int adds = strcmp(t->name, "chatml") != 0 && strncmp(t->name, "qwen", 4) != 0;
    buf_clear(jinja);
    assert_int_equal(template_jinja(t, adds, jinja), OK);
    assert_string_equal(jinja->data, json_string_value(json_object_get(row, "jinja")));
    buf_clear(jinja);
    assert_int_equal(template_jinja(t, 0, jinja), OK);
    return strstr(jinja->data, "bos_token") || !adds
               ? ""
               : json_string_value(json_object_get(row, "bos"));
}

static void check_pieces(const struct rendered *r)
{
    size_t at = 0;
    for (size_t i = 0; i < r->num_pieces; i++) {
        assert_int_equal(r->pieces[i].start, at);
        at += r->pieces[i].n;
        assert_true((size_t)r->pieces[i].turn < r->num_turns);
    }
    assert_int_equal(at, r->text.len);
}

static void test_golden_text(void **state)
{
    (void)state;
    struct err e = {0};
    struct rendered r;
    struct conversation c = {0};
    struct buf jinja, want;
    const struct template *t;
    size_t seen = 0;
    rendered_init(&r);
    buf_init(&jinja, 1 << 20);
    buf_init(&want, 1 << 20);
    for (size_t i = 0; (t = template_at(i)); i++) {
        const json_t *row = json_object_get(json_object_get(golden, "templates"), t->name);
        assert_non_null(row);
        const char *bos = bos_before(t, row, &jinja);
        const json_t *cases = json_object_get(row, "cases");
        struct render_options o = {json_string_value(json_object_get(row, "bos")),
                                   json_string_value(json_object_get(row, "eos")), TRAIN_ASSISTANT,
                                   0, 0};
        for (size_t k = 0; k < json_array_size(cases); k++) {
            const json_t *messages = json_array_get(json_object_get(golden, "conversations"), k);
            for (int prompt = 0; prompt < 2; prompt++, seen++) {
                o.generation_prompt = prompt;
                read_case(messages, prompt, &c);
                assert_int_equal(template_render(t, &c, &o, &r, &e), OK);
                check_pieces(&r);
                buf_clear(&want);
                assert_int_equal(buf_puts(&want, bos), OK);
                assert_int_equal(buf_append(&want, r.text.data, r.text.len), OK);
                assert_string_equal(
                    want.data, text_of(json_array_get(cases, k), prompt ? "prompt" : "text").data);
            }
        }
    }
    assert_int_equal(seen, 18 * 2 * 15);
    conversation_free(&c);
    rendered_free(&r);
    buf_free(&jinja);
    buf_free(&want);
}

/* The text with trained stretches in [ ], special tokens in < >. */
static void mark(const struct rendered *r, char *out, size_t size)
{
    size_t at = 0;
    float weight = 0;
    for (size_t i = 0; i <= r->num_pieces; i++) {
        float w = i < r->num_pieces ? r->pieces[i].weight : 0;
        if ((w != 0) != (weight != 0))
            at += (size_t)snprintf(out + at, size - at, w != 0 ? "[" : "]");
        weight = w;
        if (i < r->num_pieces)
            at += (size_t)snprintf(out + at, size - at, "%.*s", (int)r->pieces[i].n,
                                   r->text.data + r->pieces[i].start);
    }
}

static struct text T(const char *s) {
    return (struct text){s, strlen(s)};
}

static void
chat(struct conversation *c)
{
    conversation_clear(c);
    assert_int_equal(conversation_add(c, ROLE_SYSTEM, T("S")), OK);
    assert_int_equal(conversation_add(c, ROLE_USER, T("q")), OK);
    assert_int_equal(conversation_add(c, ROLE_ASSISTANT, T("a")), OK);
    assert_int_equal(conversation_add(c, ROLE_USER, T("r")), OK);
    assert_int_equal(conversation_add(c, ROLE_ASSISTANT, T("b")), OK);
}

static void test_trained_spans(void **state)
{
    (void)state;
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"alpaca", "S\n\n### Instruction:\nq\n\n### Response:[aE]\n\n### Instruction:\nr\n\n"
                   "### Response:[bE]"},
        {"vicuna", "S USER: q ASSISTANT:[ aE]USER: r ASSISTANT:[ bE]"},
        {"llama2", "B[INST] <<SYS>>\nS\n<</SYS>>\n\nq [/INST][ a E]B[INST] r [/INST][ b E]"},
        {"llama3", "B<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
                   "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n[a<|eot_id|>]"
                   "<|start_header_id|>user<|end_header_id|>\n\nr<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n[b<|eot_id|>]"},
        {"chatml", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
                   "<|im_start|>assistant\n[a<|im_end|>]\n<|im_start|>user\nr<|im_end|>\n"
                   "<|im_start|>assistant\n[b<|im_end|>]\n"},
        {"zephyr", "<|system|>\nSE\n<|user|>\nqE\n<|assistant|>\n[aE]\n<|user|>\nrE\n"
                   "<|assistant|>\n[bE]\n"},
        {"orca", "### System:\nS\n\n### User:\nq\n\n### Assistant:\n[aE]\n\n### User:\nr\n\n"
                 "### Assistant:\n[bE]"},
        {"solar", "### System:\nS\n\n### User:\nq\n\n### Assistant:\n[aE]### User:\nr\n\n"
                  "### Assistant:\n[bE]"},
        {"orca_card", "### System:\nS\n\n### User: q\n\n### Assistant:\n[aE]\n\n### User: r\n\n"
                      "### Assistant:\n[bE]"},
        {"llama31",
         "B<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December "
         "2023\nToday Date: 26 Jul 2024\n\nS<|eot_id|>"
         "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n[a<|eot_id|>]"
         "<|start_header_id|>user<|end_header_id|>\n\nr<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n[b<|eot_id|>]"},
        {"qwen", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
                 "<|im_start|>assistant\n[a<|im_end|>]\n<|im_start|>user\nr<|im_end|>\n"
                 "<|im_start|>assistant\n[b<|im_end|>]\n"},
        {"qwen3", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
                  "<|im_start|>assistant\n[a<|im_end|>]\n<|im_start|>user\nr<|im_end|>\n"
                  "<|im_start|>assistant\n[<think>\n\n</think>\n\nb<|im_end|>]\n"},
        {"mistral", "B[INST] S\n\nq [/INST][ aE][INST] r [/INST][ bE]"},
        {"mistral_v3", "B[INST] S\n\nq[/INST][ aE][INST] r[/INST][ bE]"},
        {"guanaco", "S ### Human: q### Assistant:[ aE]### Human: r### Assistant:[ bE]"},
        {"tulu", "<|system|>\nS\n<|user|>\nq\n<|assistant|>\n[aE]\n<|user|>\nr\n"
                 "<|assistant|>\n[bE]\n"},
        {"openchat", "BGPT4 Correct System: S<|end_of_turn|>GPT4 Correct User: q<|end_of_turn|>"
                     "GPT4 Correct Assistant:[ a<|end_of_turn|>]GPT4 Correct User: r"
                     "<|end_of_turn|>GPT4 Correct Assistant:[ b<|end_of_turn|>]"},
        {"deepseek", "BS\n\nUser: q\n\nAssistant:[ aE]User: r\n\nAssistant:[ bE]"},
    };
    assert_null(template_at(sizeof cases / sizeof *cases)); /* every row is in the list */
    struct err e = {0};
    struct conversation c = {0};
    struct rendered r;
    char text[1024];
    rendered_init(&r);
    chat(&c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct template *t = template_find(cases[i].name);
        struct render_options o = {"B", "E", TRAIN_ASSISTANT, 0, 0};
        assert_int_equal(template_render(t, &c, &o, &r, &e), OK);
        mark(&r, text, sizeof text);
        assert_string_equal(text, cases[i].want);
        o.train_on = TRAIN_ALL;
        assert_int_equal(template_render(t, &c, &o, &r, &e), OK);
        for (size_t k = 0; k < r.num_pieces; k++) assert_true(r.pieces[k].weight == 1);
    }
    rendered_free(&r);
    conversation_free(&c);
}

static void test_train_last_and_weights(void **state)
{
    (void)state;
    const struct template *t = template_find("vicuna");
    struct err e = {0};
    struct conversation c = {0};
    struct rendered r;
    char text[1024];
    rendered_init(&r);
    chat(&c);
    struct render_options o = {"B", "E", TRAIN_LAST, 0, 0};
    assert_int_equal(template_render(t, &c, &o, &r, &e), OK);
    mark(&r, text, sizeof text);
    assert_string_equal(text, "S USER: q ASSISTANT: aEUSER: r ASSISTANT:[ bE]");
    c.num_turns--;
    o.generation_prompt = 1;
    assert_int_equal(template_render(t, &c, &o, &r, &e), OK);
    mark(&r, text, sizeof text);
    assert_string_equal(text, "S USER: q ASSISTANT: aEUSER: r ASSISTANT:");

    chat(&c); /* a reply that the record gives no weight; a user turn without under "all" */
    o = (struct render_options){"B", "E", TRAIN_ASSISTANT, 0, 0};
    c.turns[2].weight = 0;
    c.turns[4].weight = 0.5f;
    assert_int_equal(template_render(t, &c, &o, &r, &e), OK);
    mark(&r, text, sizeof text);
    assert_string_equal(text, "S USER: q ASSISTANT: aEUSER: r ASSISTANT:[ bE]");
    assert_true(r.pieces[r.num_pieces - 1].weight == 0.5f);
    o.train_on = TRAIN_ALL;
    c.turns[1].weight = 0;
    assert_int_equal(template_render(t, &c, &o, &r, &e), OK);
    mark(&r, text, sizeof text);
    assert_string_equal(text, "[S ]USER: q ASSISTANT: aE[USER: r ASSISTANT: bE]");
    rendered_free(&r);
    conversation_free(&c);
}

static void test_plain(void **state)
{
    (void)state;
    struct err e = {0};
    struct conversation c = {.plain = 1};
    struct rendered r;
    char text[256];
    rendered_init(&r);
    struct render_options o = {"B", "E", TRAIN_ASSISTANT, 0, 0};
    assert_int_equal(conversation_add(&c, ROLE_TEXT, T("some text")), OK);
    assert_int_equal(template_render(NULL, &c, &o, &r, &e), OK);
    mark(&r, text, sizeof text);
    assert_string_equal(text, "[some textE]");
    c.turns[0].text = T("some textE"); /* has one already */
    assert_int_equal(template_render(NULL, &c, &o, &r, &e), OK);
    mark(&r, text, sizeof text);
    assert_string_equal(text, "[some textE]");
    c.turns[0] = (struct turn){.role = ROLE_USER, .text = T("2+2="), .weight = 1};
    assert_int_equal(conversation_add(&c, ROLE_ASSISTANT, T("4")), OK);
    assert_int_equal(template_render(NULL, &c, &o, &r, &e), OK);
    mark(&r, text, sizeof text);
    assert_string_equal(text, "2+2=[4E]");
    o.eos = NULL;
    assert_int_equal(template_render(NULL, &c, &o, &r, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "plain text needs an EOS token"));
    rendered_free(&r);
    conversation_free(&c);
}

static void test_missing_tokens(void **state)
{
    (void)state;
    struct err e = {0};
    struct conversation c = {0};
    struct rendered r;
    rendered_init(&r);
    chat(&c);
    struct render_options o = {NULL, "E", TRAIN_ASSISTANT, 0, 0};
    assert_int_equal(template_render(template_find("llama2"), &c, &o, &r, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "template llama2 needs a BOS token"));
    assert_int_equal(template_render(template_find("vicuna"), &c, &o, &r, &e), OK);
    rendered_free(&r);
    conversation_free(&c);
}

static enum status list(void *ctx, const char *name, size_t n, struct err *e)
{
    (void)e;
    char *out = ctx;
    if (!strstr(out, name)) snprintf(out + strlen(out), 256 - strlen(out), "%.*s ", (int)n, name);
    return OK;
}

static void test_names(void **state)
{
    (void)state;
    struct err e = {0};
    char out[256] = "", one[HASH_HEX_SIZE], two[HASH_HEX_SIZE];
    enum train_on t;
    assert_null(template_find("nothing"));
    assert_ptr_equal(template_find("Llama-2"), template_find("llama2"));
    assert_int_equal(template_specials(template_find("chatml"), list, out, &e), OK);
    assert_non_null(strstr(out, "<|im_start|>"));
    assert_non_null(strstr(out, "<|im_end|>"));
    assert_null(strstr(out, "eos"));
    assert_int_equal(template_hash(template_find("orca"), one, &e), OK);
    assert_int_equal(template_hash(template_find("solar"), two, &e), OK);
    assert_string_not_equal(one, two);
    assert_true(train_on_find("last", &t) && t == TRAIN_LAST);
    assert_false(train_on_find("first", &t));
    assert_string_equal(train_on_name(TRAIN_ALL), "all");
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct conversation c = {0};
    chat(&c);
    c.turns[1].input = T("in");
    for (long k = 1; k < 20; k++) {
        struct err e = {0};
        struct rendered r;
        struct render_options o = {"B", "E", TRAIN_ASSISTANT, 0, 0};
        rendered_init(&r);
        mem_fail_after(k);
        enum status s = template_render(template_find("zephyr"), &c, &o, &r, &e);
        mem_fail_after(0);
        rendered_free(&r);
        if (!s) break;
        assert_int_equal(s, ERR_MEMORY);
    }
    conversation_free(&c);
}

static int setup(void **state)
{
    (void)state;
    struct err e = {0};
    return json_parse_file("tests/golden/templates.json", &golden, &e);
}

static int teardown(void **state)
{
    (void)state;
    json_decref(golden);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_text),
        cmocka_unit_test(test_trained_spans),
        cmocka_unit_test(test_train_last_and_weights),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_missing_tokens),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
