/* data/template/load: a user's own template. Every row, written as YAML and read again, is the
 * same row; what a file may say, and every way to say it wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/template/template.h"
#include "support/check.h"
#include "template_cases.h"

static json_t *golden;

static const struct template *parse(const char *text)
{
    struct err e = {0};
    const struct template *t;
    CHECK_OK(template_parse(&t, text, strlen(text), "dir/mine.yaml", &e), &e);
    return t;
}

static void same_rendering(const struct template *a, const struct template *b)
{
    struct err e = {0};
    struct conversation c = {0};
    struct rendered x, y;
    json_t *cases = json_object_get(golden, "conversations"), *messages;
    size_t k;
    rendered_init(&x);
    rendered_init(&y);
    json_array_foreach(cases, k, messages) for (int how = 0; how < 8; how++)
    {
        struct render_options o = {"<s>", "</s>", (enum train_on)(how % 3), how >= 6, how % 2};
        read_case(messages, o.generation_prompt, &c);
        CHECK_OK(template_render(a, &c, &o, &x, &e), &e);
        CHECK_OK(template_render(b, &c, &o, &y, &e), &e);
        assert_int_equal(x.text.len, y.text.len);
        assert_memory_equal(x.text.data, y.text.data, x.text.len);
        assert_int_equal(x.num_pieces, y.num_pieces);
        for (size_t i = 0; i < x.num_pieces; i++) {
            const struct piece *p = &x.pieces[i], *q = &y.pieces[i];
            assert_true(p->start == q->start && p->n == q->n && p->weight == q->weight &&
                        p->turn == q->turn && p->special == q->special);
        }
    }
    conversation_free(&c);
    rendered_free(&x);
    rendered_free(&y);
}

/* The same pieces, so the same ids and weights; the same hash, so the same prepared file; the same
 * Jinja, so the same model directory. */
static void test_every_row_is_a_file(void **state)
{
    (void)state;
    struct err e = {0};
    const struct template *row;
    for (size_t i = 0; (row = template_at(i)); i++) {
        struct buf text, jinja[2];
        char hash[2][HASH_HEX_SIZE];
        buf_init(&text, 1 << 20);
        CHECK_OK(template_write(row, &text), &e);
        const struct template *t = parse(text.data);
        same_rendering(row, t);
        CHECK_OK(template_hash(row, hash[0], &e), &e);
        CHECK_OK(template_hash(t, hash[1], &e), &e);
        assert_string_equal(hash[0], hash[1]);
        for (int k = 0; k < 2; k++) {
            buf_init(&jinja[k], 1 << 20);
            CHECK_OK(template_jinja(k ? t : row, 1, &jinja[k]), &e);
        }
        assert_string_equal(jinja[0].data, jinja[1].data);
        template_close(t);
        template_close(row);
        buf_free(&text);
        for (int k = 0; k < 2; k++) buf_free(&jinja[k]);
    }
}

/* By hand, as people would write them, beside the rows they are. */
static void test_written_by_hand(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"chatml",
         "system: {prefix: \"{<|im_start|>}system\\n\", suffix: \"{<|im_end|>}\\n\"}\n"
         "user: {prefix: \"{<|im_start|>}user\\n\", suffix: \"{<|im_end|>}\\n\"}\n"
         "tool: {prefix: \"{<|im_start|>}tool\\n\", suffix: \"{<|im_end|>}\\n\"}\n"
         "assistant: {prefix: \"{<|im_start|>}assistant\\n\", suffix: \"{<|im_end|>}\\n\"}"},
        {"vicuna", "system: '{content} '\n"
                   "default_system: A chat between a curious user and an artificial intelligence\n"
                   "  assistant. The assistant gives helpful, detailed, and polite answers to the\n"
                   "  user's questions.\n"
                   "user: 'USER: {content} '\nprompt: 'ASSISTANT:'\nreply: ' {content}{eos}'\n"
                   "skip_empty_system: yes\n"},
        {"llama2", "system: \"<<SYS>>\\n{content}\\n<</SYS>>\\n\\n\"\nsystem_in_user: true\n"
                   "strip: true\nuser: '{bos}[INST] {content} [/INST]'\n"
                   "reply: ' {content} {eos}'\nend_tokens: ['{eos}']\ntail:\n"},
        {"llama3",
         "{\"start\": \"{bos}\", \"strip\": true, \"end\": [\"{<|eot_id|>}\"],\n"
         "\"system\": "
         "\"{<|start_header_id|>}system{<|end_header_id|>}\\n\\n{content}{<|eot_id|>}\",\n"
         "\"user\": \"{<|start_header_id|>}user{<|end_header_id|>}\\n\\n{content}{<|eot_id|>}\",\n"
         "\"tool\": "
         "\"{<|start_header_id|>}ipython{<|end_header_id|>}\\n\\n{content}{<|eot_id|>}\",\n"
         "\"prompt\": \"{<|start_header_id|>}assistant{<|end_header_id|>}\\n\\n\",\n"
         "\"reply\": \"{content}{<|eot_id|>}\"}"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const struct template *t = parse(texts[i][1]);
        assert_string_equal(t->name, "mine");
        same_rendering(template_find(texts[i][0]), t);
        assert_string_equal(t->end, template_find(texts[i][0])->end);
        template_close(t);
    }
}

/* A default system text in the first question; tools; the last reply; a brace. */
static void test_the_rest(void **state)
{
    (void)state;
    struct err e = {0};
    struct conversation c = {0};
    struct rendered r;
    const struct template *t = parse(
        "name: other\nstart: '{bos}'\nsystem: '{content}|'\nsystem_in_user: true\n"
        "default_system: Be good.\nuser: 'U:{{{content}}'\ntool: 'T:{content}'\nbetween: '/'\n"
        "prompt: '>'\nreply: '{content}{eos}'\nlast_reply: '!{content}{<|stop|>}'\ntail: ';'\n"
        "end: ['{<|stop|>}', '{eos}']\n");
    struct render_options o = {"B", "E", TRAIN_ASSISTANT, 0, 0};
    static const struct {
        enum role role;
        const char *text;
    } turns[] = {
        {ROLE_USER, "q"}, {ROLE_ASSISTANT, "call"}, {ROLE_TOOL, "42"}, {ROLE_ASSISTANT, "a"}};
    for (size_t i = 0; i < 4; i++)
        CHECK_OK(conversation_add(&c, turns[i].role,
                                  (struct text){turns[i].text, strlen(turns[i].text)}),
                 &e);
    rendered_init(&r);
    CHECK_OK(template_render(t, &c, &o, &r, &e), &e);
    assert_string_equal(r.text.data, "BU:{Be good.|q}>callE;/T:42>!a<|stop|>;");
    assert_int_equal(r.turn_roles[2], ROLE_TOOL);
    assert_true(r.pieces[r.num_pieces - 1].weight == 0);
    o.train_tail = 1;
    CHECK_OK(template_render(t, &c, &o, &r, &e), &e);
    assert_true(r.pieces[r.num_pieces - 1].weight == 1);
    template_close(t);
    rendered_free(&r);
    conversation_free(&c);
}

#define GOOD "system: '{content}'\nuser: '{content}'\n"

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        long line;
        const char *message, *hint;
    } cases[] = {
        {"", 1, "empty", "one a line"},
        {"- a\n", 1, "a mapping", "one a line"},
        {GOOD "reply: '{content}{eos}\n", 4, "not valid YAML", "double quotes"},
        {GOOD, 0, "does not say reply", "assistant"},
        {"user: '{content}'\nreply: '{content}{eos}'\n", 0, "does not say system", "{content}"},
        {GOOD "reply: '{content}{eos}'\nsufix: a\n", 4, "no 'sufix'", "last_reply"},
        {GOOD "reply: '{content}{eos}'\nuser: b\n", 4, "given twice", NULL},
        {GOOD "reply: '{contnet}{eos}'\n", 3, "{contnet} stands for nothing", "{content}"},
        {GOOD "reply: '{eos}'\n", 3, "{content} nowhere", "needed once"},
        {GOOD "reply: '{content}{content}{eos}'\n", 3, "{content} too often", "once"},
        {GOOD "reply: '{content}{eos}'\nprompt: '{content}'\n", 4, "{content} too often", "system"},
        {GOOD "reply: '{content}{eos}'\ntail: '{input}'\n", 4, "{input}", "user_input"},
        {GOOD "reply: '{content}{eos}'\nuser_input: '{content}'\n", 4, "{input}", "user_input"},
        {GOOD "reply: '{content}'\n", 3, "never stop", "{eos}"},
        {GOOD "reply: \"{content}{eos}\\n\"\n", 3, "does not end in an end token", "tail"},
        {GOOD "reply: '{content}{eos}'\nend: '{<|x|>}'\n", 3, "does not end in", "tail"},
        {GOOD "reply: '{content}{eos}'\nend: 'eos'\n", 4, "no token", "{eos}"},
        {GOOD "reply: '{content}{eos}'\nend: [[a]]\n", 4, "wants tokens", NULL},
        {GOOD "reply: '{content}{eos}'\nend: ['{<a>}', '{<b>}', '{<c>}', '{<d>}', '{eos}']\n", 4,
         "one to four", NULL},
        {GOOD "reply: '{content}{eos}'\nlast_reply: '{content}'\n", 4, "last_reply", "end"},
        {GOOD "assistant: {prefix: a, suffix: b}\n", 3, "no end token", "{eos}"},
        {GOOD "assistant: b\n", 3, "prefix", "what is trained"},
        {GOOD "assistant: {prefx: b}\n", 3, "prefix and suffix", "prefix"},
        {GOOD "assistant: {prefix: b, prefix: c}\n", 3, "given twice", NULL},
        {GOOD "assistant: {suffix: '{eos}'}\nreply: '{content}{eos}'\n", 4, "given twice",
         "before"},
        {GOOD "reply: '{content}{eos}'\nassistant: {suffix: '{eos}'}\n", 4, "prompt, reply",
         "keep"},
        {GOOD "reply: '{content}{eos}'\nstrip: maybe\n", 4, "neither true", "true or false"},
        {GOOD "reply: '{content}{eos}'\ntail: [a]\n", 4, "wants text", NULL},
        {GOOD "reply: &x '{content}{eos}'\n", 3, "anchors", "write"},
        {GOOD "reply: '{content}{eos}'\nname: 'a b'\n", 4, "no name", "letters"},
        {GOOD "reply: '{content}{eos}'\n---\na: b\n", 4, "second document", NULL},
        {"system: '{<x>}{content}'\nuser: '{content}'\nreply: '{content}{eos}'\n"
         "system_in_user: true\n",
         1, "cannot stand", "system_in_user"},
        {"system: ' {content}'\nuser: '{content}'\nreply: '{content}{eos}'\n"
         "system_in_user: true\nstrip: true\n",
         1, "white space", "strip"},
        {GOOD "reply: '{content}{eos}'\nsystem_in_user: true\ndefault_system_input: a\n", 5,
         "does not go", "leave"},
        {GOOD "reply: '{content}{eos}'\ntail: \"a\\0b\"\n", 4, "zero byte", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        const struct template *t;
        const char *text = cases[i].text;
        assert_int_equal(template_parse(&t, text, strlen(text), "mine.yaml", &e), ERR_CONFIG);
        assert_null(t);
        if (!strstr(e.message, cases[i].message) || e.line != cases[i].line ||
            (cases[i].hint && !strstr(e.hint, cases[i].hint)))
            fail_msg("%s: line %ld: %s (%s)", text, e.line, e.message, e.hint);
        assert_string_equal(e.file, "mine.yaml");
    }
}

static void test_opening(void **state)
{
    (void)state;
    struct err e = {0};
    const struct template *t;
    CHECK_OK(template_open(&t, "vicuna", &e), &e);
    assert_ptr_equal(t, template_find("vicuna"));
    assert_int_equal(template_open(&t, "vicunja", &e), ERR_CONFIG);
    assert_int_equal(template_open(&t, "/nowhere/x.yaml", &e), ERR_IO);
    assert_true(template_is_file("a.yml") && template_is_file("b/c.YAML"));
    assert_false(template_is_file(".yaml") || template_is_file("llama3"));
    char *large = malloc(TEMPLATE_FILE_MAX + 2);
    memset(large, '#', TEMPLATE_FILE_MAX + 2);
    assert_int_equal(template_parse(&t, large, TEMPLATE_FILE_MAX + 2, "x.yaml", &e), ERR_CONFIG);
    free(large);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    const char *text = GOOD "assistant: {prefix: '>', suffix: '{eos}'}\nend: ['{eos}']\n";
    for (long k = 1; k < 20; k++) {
        struct err e = {0};
        const struct template *t;
        mem_fail_after(k);
        enum status s = template_parse(&t, text, strlen(text), "x.yaml", &e);
        mem_fail_after(0);
        if (s) assert_int_equal(s, ERR_MEMORY);
        template_close(t);
        if (!s) return;
    }
    fail_msg("never enough memory");
}

/* A chat template of a model directory: ours, however it is laid out; and nobody's. */
static void test_recognition(void **state)
{
    (void)state;
    struct err e = {0};
    const struct template *row, *found;
    for (size_t i = 0; (row = template_at(i)); i++)
        for (int adds = 0; adds < 2; adds++) {
            struct buf jinja;
            buf_init(&jinja, 1 << 20);
            CHECK_OK(template_jinja(row, adds, &jinja), &e);
            CHECK_OK(buf_puts(&jinja, "\r\n"), &e);
            for (char *at = jinja.data; (at = strstr(at, " }}")); at++) *at = '\n';
            CHECK_OK(template_recognise(jinja.data, &found, &e), &e);
            assert_ptr_equal(found, row);
            buf_free(&jinja);
        }
    static const char *const others[] = {
        "{% for m in messages %}{{ m }}{% endfor %}", "", "{{ '", "{{", "{%-", "x -%} }}"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK_OK(template_recognise(others[i], &found, &e), &e);
        assert_null(found);
    }
}

/* The one that Llama-3-8B-Instruct is published with. */
static void test_published(void **state)
{
    (void)state;
    struct err e = {0};
    struct buf text;
    char path[IO_PATH_MAX];
    const struct template *found;
    json_t *config = NULL;
    const char *shared = check_shared("the chat template of a published model");
    if (!shared) return;
    snprintf(path, sizeof path, "%s/tokenizers/llama3/llama3_8b_instruct_tokenizer_config.json",
             shared);
    buf_init(&text, 1 << 24);
    CHECK_OK(io_read_file(path, &text, &e), &e);
    char *big = strstr(text.data, "1000000000000000019884624838656");
    if (big) memset(big, '1', 31), memset(big + 9, ' ', 22); /* more than jansson's integers hold */
    CHECK_OK(json_parse_text(text.data, text.len, path, &config, &e), &e);
    const char *jinja = json_string_value(json_object_get(config, "chat_template"));
    CHECK_OK(template_recognise(jinja, &found, &e), &e);
    assert_ptr_equal(found, template_find("llama3"));
    json_decref(config);
    buf_free(&text);
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
        cmocka_unit_test(test_every_row_is_a_file),
        cmocka_unit_test(test_written_by_hand),
        cmocka_unit_test(test_the_rest),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_opening),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_recognition),
        cmocka_unit_test(test_published),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
