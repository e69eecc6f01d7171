/* What a run shows of itself, and what inspect shows of a dataset, a model and an adapter. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/prepare/prepare.h"
#include "run/inspect.h"
#include "support/markup.h"
#include "support/tiny_run.h"

/* Replaces the tiny data by records with hostile texts among them. */
static void write_hostile(const struct tiny *t)
{
    char path[256];
    tiny_path(t, "data.jsonl", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < TINY_RECORDS; i++)
        fprintf(f,
                "{\"instruction\": \"%d </script><b> \\u202e \\u001b[31m \\u05d0\\u05d1\", "
                "\"output\": \"<mark>%d\\n\\n\\ud83e\\udd99 &amp; \\\"'\"}\n",
                i, i);
    fprintf(f, "{\"instruction\": \"unanswered\", \"output\": \"\"}\n");
    fclose(f);
}

static struct buf load(const struct tiny *t, const char *name)
{
    char path[256];
    struct buf b;
    struct err e = {0};
    buf_init(&b, 1 << 26);
    tiny_path(t, name, path);
    CHECK_OK(io_read_file(path, &b, &e), &e);
    return b;
}

static struct buf read_page(const struct tiny *t, const char *name)
{
    struct buf b = load(t, name);
    const char *trouble = markup_trouble(b.data, b.len);
    if (trouble) fail_msg("%s: %s", name, trouble);
    assert_null(strstr(b.data, "http://"));
    assert_null(strstr(b.data, "https://"));
    return b;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (; (text = strstr(text, what)); text++) n++;
    return n;
}

static int count_events(const struct tiny *t, const char *out)
{
    char path[256], dir[256];
    int n = 0;
    struct dirent *d;
    snprintf(dir, sizeof dir, "%s/runs", out);
    tiny_path(t, dir, path);
    DIR *handle = opendir(path);
    while (handle && (d = readdir(handle))) n += strstr(d->d_name, ".tfevents.") != NULL;
    if (handle) closedir(handle);
    return n;
}

static void test_report(void **state)
{
    struct tiny t;
    (void)state;
    tiny_init(&t);
    write_hostile(&t);
    tiny_train(&t, "out", "val_size=4 eval_steps=4 learning_rate=1e-2", 0);
    CHECK_OK(t.status, &t.err);
    struct buf page = read_page(&t, "out/report.html");
    static const char *const wanted[] = {
        "<b>finished</b>",  "8 / 8",
        "evaluation loss",  "Answers before and after",
        "Prompts of held-", "the output or a",
        "max_length",       "command line",
        "Machine",          "&lt;/script&gt;&lt;b&gt; <span class=c>U+202E</span>",
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(page.data, wanted[i])) fail_msg("no %s", wanted[i]);
    assert_int_equal(count(page.data, "<svg"), 6);
    assert_int_equal(count(page.data, "<script"), 1); /* ours */
    assert_int_equal(count(page.data, "(not asked)"), 0);
    buf_free(&page);
    assert_int_equal(count_events(&t, "out"), 1);
    tiny_train(&t, "out", "overwrite_output_dir=true report_to=none", 0);
    CHECK_OK(t.status, &t.err);
    char path[256];
    static const char *const gone[] = {"out/report.html", "out/samples.json", "out/runs"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        tiny_path(&t, gone[i], path);
        assert_false(io_exists(path));
    }
    tiny_free(&t);
}

/* Answers change no training; a resumed run remembers the first answers. */
static void test_answers(void **state)
{
    struct tiny t;
    (void)state;
    tiny_init(&t);
    tiny_train(&t, "quiet", "report_to=none", 0);
    CHECK_OK(t.status, &t.err);
    tiny_train(&t, "whole", "", 0);
    CHECK_OK(t.status, &t.err);
    assert_true(tiny_same(&t, "quiet/model.safetensors", "whole/model.safetensors"));
    tiny_train(&t, "parts", "sample_prompts=Hello,you", 3);
    assert_int_equal(t.status, ERR_STOPPED);
    struct buf stopped = read_page(&t, "parts/report.html");
    assert_non_null(strstr(stopped.data, "stopped, to be resumed"));
    assert_non_null(strstr(stopped.data, "(not asked)"));
    struct buf first = load(&t, "parts/samples.json");
    tiny_train(&t, "parts", "sample_prompts=Hello,you resume_from_checkpoint=auto", 0);
    CHECK_OK(t.status, &t.err);
    assert_true(tiny_same(&t, "parts/model.safetensors", "whole/model.safetensors"));
    struct buf second = load(&t, "parts/samples.json");
    struct err e = {0};
    json_t *a, *b;
    CHECK_OK(json_parse_text(first.data, first.len, "first", &a, &e), &e);
    CHECK_OK(json_parse_text(second.data, second.len, "second", &b, &e), &e);
    assert_int_equal(json_array_size(a), 1); /* one text, comma and all */
    assert_true(json_equal(json_object_get(json_array_get(a, 0), "before"),
                           json_object_get(json_array_get(b, 0), "before")));
    assert_true(json_is_null(json_object_get(json_array_get(a, 0), "after")));
    assert_true(json_is_string(json_object_get(json_array_get(b, 0), "after")));
    assert_int_equal(count_events(&t, "parts"), 2);
    json_decref(a);
    json_decref(b);
    buf_free(&stopped);
    buf_free(&first);
    buf_free(&second);
    tiny_free(&t);
}

static void write_text(const struct tiny *t, const char *name, const char *text, char path[256])
{
    tiny_path(t, name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_prompt_files(void **state)
{
    struct tiny t;
    char path[256], overrides[512];
    struct err e = {0};
    json_t *o;
    (void)state;
    tiny_init(&t);
    write_text(&t, "prompts.txt", "One\r\n\n  \nTwo", path);
    snprintf(overrides, sizeof overrides, "max_steps=1 sample_prompts=%s", path);
    tiny_train(&t, "lines", overrides, 0);
    CHECK_OK(t.status, &t.err);
    struct buf lines = load(&t, "lines/samples.json");
    CHECK_OK(json_parse_text(lines.data, lines.len, "lines", &o, &e), &e);
    assert_int_equal(json_array_size(o), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(o, 0), "prompt")), "One");
    json_decref(o);
    buf_free(&lines);
    tiny_path(&t, "data.jsonl", path);
    snprintf(overrides, sizeof overrides, "max_steps=1 sample_prompts=%s", path);
    tiny_train(&t, "records", overrides, 0);
    CHECK_OK(t.status, &t.err);
    struct buf records = load(&t, "records/samples.json");
    CHECK_OK(json_parse_text(records.data, records.len, "records", &o, &e), &e);
    assert_int_equal(json_array_size(o), ANSWERS_MAX);
    assert_true(json_is_string(json_object_get(json_array_get(o, 3), "reference")));
    json_decref(o);
    buf_free(&records);
    char *text = calloc(1, 1 << 16); /* longer than the model's positions */
    memset(text, 'x', (1 << 16) - 1);
    write_text(&t, "long.txt", text, path);
    snprintf(overrides, sizeof overrides, "max_steps=1 sample_prompts=%s", path);
    tiny_train(&t, "long", overrides, 0);
    assert_int_equal(t.status, ERR_CONFIG);
    assert_non_null(strstr(t.err.message, "prompt 1 has"));
    free(text);
    tiny_free(&t);
}

/* --- inspect --- */

/* The prepared file of the run that was just trained. */
static void cached(const struct tiny *t, char out[600])
{
    char dir[256];
    struct dirent *d;
    tiny_path(t, ".cria-cache", dir);
    DIR *handle = opendir(dir);
    out[0] = 0;
    while (handle && (d = readdir(handle)))
        if (strstr(d->d_name, ".h5")) snprintf(out, 600, "%s/%s", dir, d->d_name);
    if (handle) closedir(handle);
    assert_true(out[0]);
}

static struct buf show_text(const struct inspect_options *o, struct inspect_look look)
{
    struct inspection in;
    struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 26);
    CHECK_OK(inspect_open(&in, o, &e), &e);
    CHECK_OK(inspect_text(&in, &look, &text, &e), &e);
    inspect_close(&in);
    return text;
}

static json_t *show_json(const struct inspect_options *o)
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

static struct buf show_page(const struct tiny *t, const struct inspect_options *o)
{
    struct inspection in;
    char path[256];
    struct err e = {0};
    tiny_path(t, "page.html", path);
    CHECK_OK(inspect_open(&in, o, &e), &e);
    CHECK_OK(inspect_html(&in, path, &e), &e);
    inspect_close(&in);
    return read_page(t, "page.html");
}

static void test_dataset(void **state)
{
    struct tiny t;
    char path[600];
    (void)state;
    tiny_init(&t);
    write_hostile(&t);
    tiny_train(&t, "out", "max_steps=1 template=alpaca report_to=none", 0);
    CHECK_OK(t.status, &t.err);
    cached(&t, path);
    struct inspect_options o = {.path = path, .tokenizer = TINY_MODEL, .from = 2, .limit = 2};
    struct buf text = show_text(&o, (struct inspect_look){0, 0});
    assert_non_null(strstr(text.data, "document 2: data.jsonl, line 3; "));
    assert_non_null(strstr(text.data, "{+<mark>2\xE2\x86\xB5\n")); /* the line end is trained */
    assert_non_null(strstr(text.data, "\xF0\x9F\xA6\x99 &amp; \"'</s>+}"));
    assert_non_null(strstr(text.data, "\\u202e \\u001b[31m"));
    assert_null(strchr(text.data, 0x1B));
    assert_int_equal(count(text.data, "{+"), 1 + 2); /* the legend, two documents */
    buf_free(&text);
    text = show_text(&o, (struct inspect_look){1, 1});
    assert_non_null(strstr(text.data, "\033[1;32m<"));
    buf_free(&text);
    struct buf page = show_page(&t, &o);
    assert_non_null(strstr(page.data, "&lt;/script&gt;") || strstr(page.data, "&lt;</span>")
                        ? page.data
                        : NULL);
    assert_int_equal(count(page.data, "<script"), 1); /* ours */
    assert_non_null(strstr(page.data, "<mark class=sp title=\"2\">&lt;/s&gt;</mark>"));
    buf_free(&page);
    json_t *all = show_json(&o), *shown = json_object_get(all, "shown");
    assert_int_equal(json_integer_value(json_object_get(all, "documents")), TINY_RECORDS);
    assert_int_equal(json_array_size(shown), 2);
    json_t *one = json_array_get(shown, 0);
    assert_int_equal(json_integer_value(json_object_get(one, "line")), 3);
    assert_int_equal(json_array_size(json_object_get(one, "ids")),
                     json_array_size(json_object_get(one, "weights")));
    assert_non_null(strstr(json_string_value(json_object_get(one, "text")), "### Response:"));
    json_decref(all);
    o.tokenizer = NULL; /* ids alone, and said so */
    text = show_text(&o, (struct inspect_look){0, 0});
    assert_non_null(strstr(text.data, "name the tokenizer with --tokenizer DIR"));
    assert_non_null(strstr(text.data, " 2 +}\n"));
    buf_free(&text);
    tiny_free(&t);
}

static const char pairs[] =
    "{\"system\":\"\",\"question\":\"q\",\"chosen\":\"good\",\"rejected\":\"bad one\"}\n"
    "{\"system\":\"\",\"question\":\"q\",\"chosen\":\"<b>\",\"rejected\":\"no\"}\n";

/* Prompt, chosen and rejected are told apart in every form. */
static void test_pairs(void **state)
{
    struct tiny t;
    char data[256], path[256];
    (void)state;
    tiny_init(&t);
    struct err e = {0};
    struct prepare_report report = {0};
    struct tokenizer *tok = NULL;
    tiny_path(&t, "pairs.jsonl", data);
    tiny_path(&t, "pairs.h5", path);
    CHECK_OK(io_write_file(data, pairs, sizeof pairs - 1, &e), &e);
    CHECK_OK(tokenizer_open(&tok, TINY_MODEL, &e), &e);
    struct prepare_source source = {.path = data};
    struct prepare_options p = {.sources = &source,
                                .num_sources = 1,
                                .tokenizer = tok,
                                .template = template_find("alpaca"),
                                .kind = KIND_PAIR};
    CHECK_OK(prepare_dataset(&p, path, &report, NULL, NULL, &e), &e);
    prepare_report_free(&report);
    tokenizer_close(tok);
    struct inspect_options o = {.path = path, .tokenizer = TINY_MODEL, .limit = 2};
    struct buf text = show_text(&o, (struct inspect_look){0, 0});
    assert_non_null(strstr(text.data, "pairs of a chosen and a rejected reply"));
    assert_non_null(strstr(text.data, "pairs.jsonl, line 1; "));
    assert_non_null(strstr(text.data, "trained: prompt "));
    assert_non_null(strstr(text.data, "chosen     {+good</s>+}"));
    assert_non_null(strstr(text.data, "rejected   {+bad one</s>+}"));
    buf_free(&text);
    struct buf page = show_page(&t, &o);
    assert_int_equal(count(page.data, "<b>chosen</b>"), 2);
    assert_int_equal(count(page.data, "<b>rejected</b>"), 2);
    assert_int_equal(count(page.data, "<b>user</b>"), 2);
    buf_free(&page);
    json_t *all = show_json(&o), *one = json_array_get(json_object_get(all, "shown"), 0);
    json_int_t chosen = json_integer_value(json_object_get(one, "chosen"));
    json_int_t rejected = json_integer_value(json_object_get(one, "rejected"));
    assert_true(chosen > 0 && chosen < rejected);
    assert_true((size_t)rejected < json_array_size(json_object_get(one, "ids")));
    json_decref(all);
    tiny_free(&t);
}

static void test_model_and_adapter(void **state)
{
    struct tiny t;
    char path[256];
    (void)state;
    tiny_init(&t);
    struct inspect_options o = {.path = TINY_MODEL};
    json_t *all = show_json(&o);
    json_t *config = json_object_get(all, "config");
    assert_string_equal(json_string_value(json_object_get(config, "family")), "llama");
    assert_true(json_is_true(json_object_get(config, "tied_head")));
    assert_int_equal(json_integer_value(json_object_get(all, "parameters")), 22528);
    assert_null(json_object_get(all, "mismatch"));
    json_decref(all);
    tiny_train(&t, "lora", "finetuning=lora lora_r=4 lora_alpha=8 learning_rate=1e-2", 0);
    CHECK_OK(t.status, &t.err);
    tiny_path(&t, "lora", path);
    o.path = path;
    struct buf text = show_text(&o, (struct inspect_look){0, 0});
    assert_non_null(strstr(text.data, "orca, says cria.json"));
    buf_free(&text);
    struct buf page = show_page(&t, &o);
    assert_non_null(strstr(page.data, "q_proj"));
    buf_free(&page);
    all = show_json(&o);
    assert_true(json_real_value(json_object_get(json_object_get(all, "adapter"), "scale")) == 2);
    json_t *norms = json_object_get(all, "norm_of_scaled_BA");
    assert_int_equal(json_array_size(norms), 2);
    assert_true(json_real_value(json_object_get(json_array_get(norms, 1), "down_proj")) > 0);
    json_decref(all);
    tiny_free(&t);
}

static void test_refusals(void **state)
{
    struct tiny t;
    char dir[256], raw[256], path[600];
    (void)state;
    tiny_init(&t);
    tiny_path(&t, ".", dir);
    tiny_path(&t, "data.jsonl", raw);
    tiny_train(&t, "out", "max_steps=1 report_to=none", 0);
    CHECK_OK(t.status, &t.err);
    cached(&t, path);
    const struct {
        struct inspect_options o;
        enum status status;
        const char *says;
    } cases[] = {
        {{.path = dir}, ERR_CONFIG, "holds neither config.json nor adapter_config.json"},
        {{.path = raw}, ERR_CONFIG, "raw data file"},
        {{.path = "/nowhere"}, ERR_IO, "No such file"},
        {{.path = TINY_MODEL, .tokenizer = TINY_MODEL}, ERR_CONFIG, "is a directory"},
        {{.path = path, .from = 24}, ERR_CONFIG, "no document 24"},
        {{.path = path, .from = -1}, ERR_CONFIG, "no document -1"},
        {{.path = path, .tokenizer = "tests/golden/models/qwen2"}, ERR_DATA, "tokenizer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct inspection in;
        struct err e = {0};
        enum status s = inspect_open(&in, &cases[i].o, &e);
        inspect_close(&in);
        if (i == 6 && s == ERR_IO) continue; /* that model has no tokenizer of its own */
        assert_int_equal(s, cases[i].status);
        if (!strstr(e.message, cases[i].says)) fail_msg("%zu: %s", i, e.message);
    }
    tiny_free(&t);
}

static enum status inspect_all(const char *path, const char *tokenizer)
{
    struct inspect_options o = {.path = path, .tokenizer = tokenizer, .limit = 1};
    struct inspection in;
    struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 24);
    enum status s = inspect_open(&in, &o, &e);
    if (!s) s = inspect_text(&in, &(struct inspect_look){0, 0}, &text, &e);
    if (!s) s = inspect_json(&in, &text, &e);
    inspect_close(&in);
    buf_free(&text);
    return s;
}

/* Every allocation but for the tokenizer's thousands, which its own test goes through. */
static void test_no_memory(void **state)
{
    struct tiny t;
    char path[600];
    (void)state;
    tiny_init(&t);
    tiny_train(&t, "out", "max_steps=1 report_to=none", 0);
    CHECK_OK(t.status, &t.err);
    cached(&t, path);
    for (long n = 1;; n++) {
        mem_fail_after(n);
        enum status s = inspect_all(path, NULL);
        mem_fail_after(0);
        if (!s) break;
        if (s != ERR_MEMORY) fail_msg("allocation %ld: %s", n, status_name(s));
        assert_in_range(n, 1, 20000);
    }
    tiny_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report),       cmocka_unit_test(test_answers),
        cmocka_unit_test(test_prompt_files), cmocka_unit_test(test_dataset),
        cmocka_unit_test(test_pairs),        cmocka_unit_test(test_model_and_adapter),
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
