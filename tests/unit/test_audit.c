/* The audit of a dataset: planted copies, cuts and overlaps are found, each as often as planted. */
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/prepare/prepare.h"
#include "run/inspect.h"
#include "support/markup.h"
#include "support/tiny_run.h"

#define RECORD(q, a) "{\"instruction\": \"" q "\", \"output\": \"" a "\"}\n"
#define LONG "one two three four five six seven eight nine ten eleven twelve thirteen fourteen "

/* Documents 0 ... 3: the third is the first again. */
static const char ours[] =
    RECORD("A", "the answer") RECORD("B", "another") RECORD("A", "the answer") RECORD("C", LONG);
/* Documents 4 ... 6: the first text once more, a prompt known already, hostile ones. */
static const char theirs[] = RECORD("A", "the answer") RECORD("B", "not the same")
    RECORD("</script><script>", "\\u202e<b>\\\"'</article>");

static void put(const struct tiny *t, const char *name, const char *text, char path[256])
{
    struct err e = {0};
    tiny_path(t, name, path);
    CHECK_OK(io_write_file(path, text, strlen(text), &e), &e);
}

static void prepare(const struct tiny *t, char path[256])
{
    char a[256], b[256];
    struct err e = {0};
    struct prepare_report report = {0};
    struct tokenizer *tok = NULL;
    put(t, "a.jsonl", ours, a);
    put(t, "b<i>.jsonl", theirs, b);
    tiny_path(t, "both.h5", path);
    CHECK_OK(tokenizer_open(&tok, TINY_MODEL, &e), &e);
    struct prepare_source sources[] = {{.path = a}, {.path = b}};
    struct prepare_options p = {.sources = sources,
                                .num_sources = 2,
                                .tokenizer = tok,
                                .template = template_find("alpaca"),
                                .kind = KIND_SFT};
    CHECK_OK(prepare_dataset(&p, path, &report, NULL, NULL, &e), &e);
    prepare_report_free(&report);
    tokenizer_close(tok);
}

static json_t *facts_of(const struct inspect_options *o)
{
    struct inspection in;
    struct buf text;
    struct err e = {0};
    json_t *out;
    buf_init(&text, 1 << 26);
    CHECK_OK(inspect_open(&in, o, &e), &e);
    CHECK_OK(inspect_json(&in, &text, &e), &e);
    CHECK_OK(json_parse_text(text.data, text.len, "inspect", &out, &e), &e);
    inspect_close(&in);
    buf_free(&text);
    return out;
}

static json_int_t number(const json_t *o, const char *key)
{
    if (!json_is_integer(json_object_get(o, key))) fail_msg("no number %s", key);
    return json_integer_value(json_object_get(o, key));
}

static json_int_t sum(const json_t *rows)
{
    json_int_t n = 0;
    for (size_t i = 0; i < json_array_size(rows); i++)
        n += number(json_array_get(rows, i), "documents");
    return n;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (; (text = strstr(text, what)); text++) n++;
    return n;
}

static void test_facts(void **state)
{
    struct tiny t;
    char path[256];
    (void)state;
    tiny_init(&t);
    prepare(&t, path);
    struct inspect_options o = {.path = path, .tokenizer = TINY_MODEL, .limit = 7};
    json_t *all = facts_of(&o), *d = json_object_get(all, "duplicates");
    assert_int_equal(number(d, "documents"), 2);
    assert_int_equal(number(d, "texts_that_repeat"), 1);
    assert_int_equal(number(d, "of_another_source"), 1);
    assert_int_equal(number(d, "prompts_seen_before"), 3);
    assert_true(json_is_null(json_object_get(json_object_get(all, "truncation"), "max_length")));
    assert_int_equal(sum(json_object_get(all, "lengths")), 7);
    assert_int_equal(sum(json_object_get(all, "supervised_shares")), 7);
    json_t *most = json_array_get(json_object_get(all, "most_copied"), 0);
    assert_int_equal(number(most, "times"), 3);
    assert_string_equal(json_string_value(json_object_get(most, "first")), "a.jsonl, line 1");
    assert_string_equal(json_string_value(json_object_get(most, "again")),
                        "a.jsonl, line 3; b<i>.jsonl, line 1");
    json_t *overlap = json_object_get(all, "overlap");
    assert_int_equal(json_array_size(overlap), 1);
    assert_int_equal(number(json_array_get(overlap, 0), "same_texts"), 1);
    assert_int_equal(number(json_array_get(overlap, 0), "same_prompts"), 2);
    json_t *files = json_object_get(all, "sources");
    assert_int_equal(number(json_array_get(files, 0), "duplicates"), 1);
    assert_int_equal(number(json_array_get(files, 1), "documents"), 3);
    json_t *shown = json_object_get(all, "shown");
    assert_int_equal(number(json_array_get(shown, 4), "same_as"), 0);
    assert_true(json_is_null(json_object_get(json_array_get(shown, 0), "same_as")));
    assert_true(json_is_null(json_object_get(json_array_get(shown, 0), "cut")));
    o.max_length = (int32_t)number(all, "longest") - 1;
    json_decref(all);
    all = facts_of(&o);
    json_t *cut = json_object_get(all, "truncation");
    assert_int_equal(number(cut, "documents"), 1);
    assert_int_equal(number(cut, "tokens"), 1);
    assert_int_equal(number(cut, "left_with_nothing_trained"), 0);
    assert_int_equal(number(json_array_get(json_object_get(all, "sources"), 0), "cut"), 1);
    assert_true(
        json_is_true(json_object_get(json_array_get(json_object_get(all, "shown"), 3), "cut")));
    json_decref(all);
    tiny_free(&t);
}

static void test_text_and_page(void **state)
{
    struct tiny t;
    char path[256], page_path[256];
    struct inspection in;
    struct buf text, page;
    struct err e = {0};
    (void)state;
    tiny_init(&t);
    prepare(&t, path);
    tiny_path(&t, "page.html", page_path);
    buf_init(&text, 1 << 24);
    buf_init(&page, 1 << 24);
    struct inspect_options o = {.path = path, .tokenizer = TINY_MODEL, .limit = 7, .max_length = 3};
    CHECK_OK(inspect_open(&in, &o, &e), &e);
    CHECK_OK(inspect_text(&in, &(struct inspect_look){0, 0}, &text, &e), &e);
    CHECK_OK(inspect_html(&in, page_path, &e), &e);
    inspect_close(&in);
    assert_int_equal(count(text.data, "; cut by max_length 3"), 7);
    assert_int_equal(count(text.data, "; the same as document 0\n"), 2);
    assert_non_null(strstr(text.data, "\nsupervised shares\n"));
    assert_non_null(strstr(text.data, "██████████\n"));
    CHECK_OK(io_read_file(page_path, &page, &e), &e);
    const char *trouble = markup_trouble(page.data, page.len);
    if (trouble) fail_msg("%s", trouble);
    assert_int_equal(count(page.data, "data-flags=\"cut copy\""), 3);
    assert_int_equal(count(page.data, "data-flags=\"cut \""), 4);
    assert_int_equal(count(page.data, "max_length 3: the rest is cut"), 7);
    assert_non_null(strstr(page.data, "<option value=1>b&lt;i&gt;.jsonl</option>"));
    assert_int_equal(count(page.data, "<script"), 1); /* ours */
    assert_int_equal(count(page.data, "</article>"), 7);
    assert_null(strstr(page.data, "://"));
    buf_free(&text);
    buf_free(&page);
    tiny_free(&t);
}

/* Of a config: what it trains on, and what it evaluates on. */
static void test_held_out(void **state)
{
    struct tiny t;
    char a[256], b[256], held[256], config[256], out[256], text[2048];
    struct err e = {0};
    (void)state;
    tiny_init(&t);
    put(&t, "a.jsonl", ours, a);
    put(&t, "b.jsonl", theirs, b);
    put(&t, "held.jsonl", RECORD("A", "the answer") RECORD("C", "short") RECORD("D", "new"), held);
    tiny_path(&t, "out", out);
    snprintf(text, sizeof text,
             "model_name_or_path: " TINY_MODEL "\noutput_dir: %s\ntemplate: alpaca\n"
             "datasets: [%s, %s]\n",
             out, a, b);
    put(&t, "config.yaml", text, config);
    char eval_dataset[300];
    snprintf(eval_dataset, sizeof eval_dataset, "eval_dataset=%s", held);
    const struct {
        const char *override, *with;
        json_int_t texts, prompts;
    } cases[] = {{eval_dataset, "eval_dataset", 1, 2}, {"val_size=2", "held out (val_size)", 0, 0}};
    for (size_t i = 0; i < 2; i++) {
        struct config c = {0};
        CHECK_OK(config_load(&c, config, &cases[i].override, 1, &e), &e);
        json_t *all = facts_of(&(struct inspect_options){.config = &c, .limit = 1});
        json_t *rows = json_object_get(all, "overlap"), *last = json_array_get(rows, 1);
        assert_int_equal(json_array_size(rows), 2);
        assert_string_equal(json_string_value(json_object_get(last, "and")), cases[i].with);
        assert_int_equal(number(last, "same_texts"), cases[i].texts);
        assert_int_equal(number(last, "same_prompts"), cases[i].prompts);
        json_decref(all);
        config_free(&c);
    }
    tiny_free(&t);
}

static void test_no_memory(void **state)
{
    struct tiny t;
    char path[256];
    (void)state;
    tiny_init(&t);
    prepare(&t, path);
    for (long n = 1;; n++) {
        struct inspection in;
        struct err e = {0};
        mem_fail_after(n);
        enum status s =
            inspect_open(&in, &(struct inspect_options){.path = path, .max_length = 9}, &e);
        inspect_close(&in);
        mem_fail_after(0);
        if (!s) break;
        if (s != ERR_MEMORY) fail_msg("allocation %ld: %s", n, status_name(s));
        assert_in_range(n, 1, 20000);
    }
    tiny_free(&t);
}

/* What stands on a terminal of its own when cria inspect has run there under this PAGER. */
static void on_terminal(const char *pager, const char *path, char *out, size_t size)
{
    int terminal, status;
    size_t n = 0;
    ssize_t got;
    pid_t child = forkpty(&terminal, NULL, NULL, NULL);
    assert_true(child >= 0);
    if (!child) {
        setenv("TERM", "xterm", 1);
        setenv("PAGER", pager, 1);
        unsetenv("NO_COLOR");
        execl(getenv("CRIA_BIN"), "cria", "inspect", path, "--tokenizer", TINY_MODEL, (char *)NULL);
        _exit(127);
    }
    while ((got = read(terminal, out + n, size - 1 - n)) > 0) n += (size_t)got;
    out[n] = 0;
    close(terminal);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fail_msg("PAGER=%s: %s", pager, out);
}

static void test_pager(void **state)
{
    struct tiny t;
    char path[256], out[1 << 16];
    (void)state;
    if (!getenv("CRIA_BIN") || !getenv("CRIA_BIN")[0]) skip();
    tiny_init(&t);
    prepare(&t, path);
    on_terminal("sed 's/^document/PAGED &/'", path, out, sizeof out);
    assert_int_equal(count(out, "PAGED document"), 7); /* more than the 5 without one */
    assert_non_null(strstr(out, "\033[1;32m"));
    on_terminal("", path, out, sizeof out);
    assert_int_equal(count(out, "\ndocument"), 5);
    on_terminal("head -n 1", path, out, sizeof out); /* left early: no error */
    assert_null(strstr(out, "document 0"));
    tiny_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),    cmocka_unit_test(test_text_and_page),
        cmocka_unit_test(test_held_out), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_pager),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
