/* data/prepare with the tiny tokenizer of tests/golden: every record accounted for, the file it
 * writes, its report, its cache key, its errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/prepare/prepare.h"
#include "data/store/store.h"

static char folder[] = "/tmp/cria_prepare_XXXXXX";
static struct tokenizer *tok;

static const char *path_of(const char *name)
{
    static char paths[8][128];
    static int next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

static const char *put(const char *name, const char *text)
{
    struct err e = {0};
    const char *path = path_of(name);
    assert_int_equal(io_write_file(path, text, strlen(text), &e), OK);
    return path;
}

static const char *const alpaca =
    "{\"instruction\":\"Name one animal.\",\"input\":\"\",\"output\":\"The alpaca.\"}\n"
    "{\"instruction\":\"Name one.\",\"input\":\"\",\"output\":\"\"}\n"
    "\n"
    "{\"instruction\":\"\",\"input\":\"\",\"output\":\"x\"}\n"
    "{\"instruction\":\"Repeat.\",\"input\":\"hay\",\"output\":\"hay\"}\n"
    "{\"instruction\":\"Name two.\",\"input\":\"\",\"output\":\" \"}\n"
    "{\"instruction\":\"a\",\"output\":\"\"}\n"
    "{\"instruction\":\"b\",\"output\":\"\"}\n";

static const char *const chats =
    "[{\"conversations\":[{\"from\":\"gpt\",\"value\":\"?\"},{\"from\":\"human\",\"value\":\"Hi\"},"
    "{\"from\":\"gpt\",\"value\":\"Hello\"},{\"from\":\"human\",\"value\":\"Bye\"}]},\n"
    " {\"conversations\":[{\"from\":\"human\",\"value\":\"Hi\"},{\"from\":\"king\",\"value\":\"x\"}"
    "]},"
    " {\"conversations\":[]},\n"
    " {\"conversations\":[{\"from\":\"human\",\"value\":\"A\"},{\"from\":\"gpt\",\"value\":\"B\","
    "\"weight\":0}]}]";

static struct prepare_options options_of(const struct prepare_source *sources, size_t n)
{
    return (struct prepare_options){.sources = sources,
                                    .num_sources = n,
                                    .tokenizer = tok,
                                    .template = template_find("alpaca")};
}

static int64_t watched;

static void watch(void *ctx, const struct prepare_progress *p)
{
    (void)ctx;
    assert_true(p->bytes <= p->total_bytes);
    watched = p->bytes;
}

static void check_report(const struct prepare_report *r)
{
    const struct prepare_source_report *a = &r->sources[0], *c = &r->sources[1];
    assert_string_equal(a->format->name, "alpaca");
    assert_string_equal(c->format->name, "sharegpt");
    assert_true(a->detected && !c->detected);
    assert_int_equal(a->counts.records, 7);
    assert_int_equal(a->counts.documents, 2);
    assert_int_equal(a->dropped[DROP_EMPTY_REPLY].count, 4);
    assert_int_equal(a->dropped[DROP_EMPTY_REPLY].places[0], 2);
    assert_int_equal(a->dropped[DROP_EMPTY_REPLY].places[2], 7);
    assert_int_equal(a->dropped[DROP_EMPTY_TURN].count, 1);
    assert_int_equal(a->dropped[DROP_EMPTY_TURN].places[0], 4);
    assert_int_equal(c->counts.records, 4);
    assert_int_equal(c->counts.documents, 1);
    assert_int_equal(c->dropped[DROP_UNKNOWN_ROLE].places[0], 2);
    assert_int_equal(c->dropped[DROP_NO_REPLY].places[0], 3);
    assert_int_equal(c->dropped[DROP_NOT_TRAINED].places[0], 4);
    assert_int_equal(c->leading.count, 1);
    assert_int_equal(c->trailing.count, 1);
    for (size_t i = 0; i < r->num_sources; i++)
        assert_int_equal(r->sources[i].counts.records,
                         r->sources[i].counts.documents + prepare_dropped(&r->sources[i]));
    assert_int_equal(r->total.records, 11);
    assert_int_equal(r->total.documents, 3);
    assert_true(r->total.cut_documents == 3 && r->total.cut_tokens > 0);
    assert_int_equal(r->total.cut_silent, 3); /* the prompts alone are longer than 20 tokens */
}

static void check_texts(const struct prepare_report *r)
{
    struct buf out;
    struct err e = {0};
    json_t *json = NULL;
    buf_init(&out, 1 << 20);
    assert_int_equal(prepare_report_print(r, &out), OK);
    assert_non_null(strstr(out.data, "4 the output or a reply is empty (lines 2, 6, 7, ...)"));
    assert_non_null(strstr(out.data, "1 a role that no template has (record 2)"));
    assert_non_null(strstr(out.data, "max_length 20 will cut 3 documents"));
    assert_non_null(strstr(out.data, "all 2 sources:\n  11 records, 3 documents"));
    buf_clear(&out);
    assert_int_equal(prepare_report_json(r, &out), OK);
    assert_int_equal(json_parse_text(out.data, out.len, "report", &json, &e), OK);
    int64_t n = 0;
    assert_int_equal(json_get_int(json_object_get(json, "total"), "records", &n, "report", &e), OK);
    assert_int_equal(n, 11);
    json_decref(json);
    buf_free(&out);
}

static void check_store(const char *path, const struct prepare_report *r)
{
    static const char *const replies[] = {"The alpaca.</s>", "hay</s>", "Hello</s>"};
    static const int64_t lines[] = {1, 5, 1};
    struct err e = {0};
    struct store *s = NULL;
    struct sample sample = {0};
    struct buf text;
    buf_init(&text, 1 << 16);
    assert_int_equal(store_open(&s, path, &e), OK);
    const struct store_info *info = store_info(s);
    assert_int_equal(info->num_documents, 3);
    assert_int_equal(info->num_tokens, r->total.tokens);
    assert_int_equal(info->num_targets, r->total.supervised);
    assert_string_equal(info->settings.template_name, "alpaca");
    assert_string_equal(info->sources[0].name, "a.jsonl");
    assert_string_equal(info->sources[0].hash, r->sources[0].hash);
    for (int64_t d = 0; d < 3; d++) {
        assert_int_equal(store_document(s, d, &sample, &e), OK);
        size_t first = 0;
        while (sample.weights[first] == 0) first++;
        buf_clear(&text);
        assert_int_equal(tokenizer_decode(tok, sample.ids + first, sample.n - first, 0, &text, &e),
                         OK);
        assert_string_equal(text.data, replies[d]);
        assert_int_equal(sample.ids[0], tokenizer_bos(tok));
        assert_int_equal(sample.line, lines[d]);
        assert_int_equal(sample.source, d == 2);
        assert_int_equal(sample.num_turns, 2);
        assert_int_equal(sample.turns[1].start, first);
    }
    sample_free(&sample);
    buf_free(&text);
    store_close(s);
}

static void test_everything_is_accounted_for(void **state)
{
    (void)state;
    struct err e = {0};
    struct prepare_report r = {0};
    struct prepare_source sources[] = {{.path = put("a.jsonl", alpaca)},
                                       {.path = put("c.json", chats), .format = "vicuna"}};
    struct prepare_options o = options_of(sources, 2);
    const char *out = path_of("all.h5");
    o.max_length = 20;
    assert_int_equal(prepare_dataset(&o, out, &r, watch, NULL, &e), OK);
    assert_int_equal(watched, strlen(alpaca) + strlen(chats));
    check_report(&r);
    check_texts(&r);
    check_store(out, &r);
    prepare_report_free(&r);
}

static const char pairs[] =
    "{\"question\":\"q\",\"chosen\":\"good\",\"rejected\":\"worse than that\"}\n"
    "{\"question\":\"q\",\"chosen\":\"same\",\"rejected\":\"same\"}\n"
    "{\"question\":\"q\",\"chosen\":\"\",\"rejected\":\"b\"}\n"
    "{\"question\":\"q\",\"chosen\":\"a\",\"rejected\":\"a \"}\n";

/* Of pairs: what is kept, what is dropped and why, and how it is said. */
static void test_pairs(void **state)
{
    (void)state;
    struct err e = {0};
    struct prepare_report r = {0};
    struct buf out;
    struct prepare_source source = {.path = put("p.jsonl", pairs)};
    struct prepare_options o = options_of(&source, 1);
    o.kind = PREPARE_ANY_KIND;
    o.max_length = 8; /* the prompt alone is longer */
    assert_int_equal(prepare_dataset(&o, path_of("p.h5"), &r, NULL, NULL, &e), OK);
    const struct prepare_source_report *s = &r.sources[0];
    assert_int_equal(r.kind, KIND_PAIR);
    assert_int_equal(s->counts.records, 4);
    assert_int_equal(s->counts.documents, 2);
    assert_int_equal(s->dropped[DROP_IDENTICAL].count, 1);
    assert_int_equal(s->dropped[DROP_EMPTY_REPLY].places[0], 3);
    assert_int_equal(s->counts.cut_silent, 2);
    buf_init(&out, 1 << 20);
    assert_int_equal(prepare_report_print(&r, &out), OK);
    assert_non_null(strstr(out.data, "2 chosen and 2 rejected replies; mean tokens: prompt "));
    assert_non_null(strstr(out.data, "1 chosen and rejected are the same (line 2)"));
    assert_non_null(strstr(out.data, "2 of them have a prompt as long as that and are left out"));
    buf_clear(&out);
    assert_int_equal(prepare_report_json(&r, &out), OK);
    assert_non_null(strstr(out.data, "\"rejected_tokens\""));
    assert_non_null(strstr(out.data, "\"kind\""));
    buf_free(&out);
    prepare_report_free(&r);
}

/* A file of another kind than the run's, or than the file before it. */
static void test_kinds(void **state)
{
    (void)state;
    static const char label[] = "{\"prompt\":\"p\",\"completion\":\"c\",\"label\":true}\n";
    static const char text[] = "{\"text\":\"a b\"}\n";
    static const struct {
        const char *text;
        int kind;
        const char *holds, *hint;
    } cases[] = {
        {pairs, KIND_SFT, "holds pairs of a chosen and a rejected reply",
         "set stage: dpo; to learn"},
        {pairs, KIND_UNPAIRED, "holds pairs of a chosen", "set stage: dpo"},
        {label, KIND_SFT, "holds replies with a label", "set stage: kto; to learn"},
        {label, KIND_PAIR, "holds replies with a label", "set stage: kto"},
        {text, KIND_PAIR, "holds texts to learn (format text), this run wants pairs", "stage: sft"},
        {text, KIND_UNPAIRED, "holds texts to learn", "set stage: sft"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        struct prepare_report r = {0};
        struct prepare_source source = {.path = put("k.jsonl", cases[i].text)};
        struct prepare_options o = options_of(&source, 1);
        o.kind = cases[i].kind;
        assert_int_equal(prepare_dataset(&o, path_of("k.h5"), &r, NULL, NULL, &e), ERR_DATA);
        assert_non_null(strstr(e.message, cases[i].holds));
        assert_non_null(strstr(e.hint, cases[i].hint));
        assert_non_null(strstr(e.file, "k.jsonl"));
        prepare_report_free(&r);
    }
    struct err e = {0};
    struct prepare_report r = {0};
    struct prepare_source both[] = {{.path = put("k.jsonl", pairs)},
                                    {.path = put("l.jsonl", label)}};
    struct prepare_options o = options_of(both, 2);
    o.kind = PREPARE_ANY_KIND;
    assert_int_equal(prepare_dataset(&o, path_of("k.h5"), &r, NULL, NULL, &e), ERR_DATA);
    assert_non_null(strstr(e.message, "the sources before it"));
    prepare_report_free(&r);
    o.num_sources = 1;
    o.kind = KIND_PAIR;
    o.train_on = TRAIN_ALL;
    assert_int_equal(prepare_dataset(&o, path_of("k.h5"), &r, NULL, NULL, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "train_on: all"));
    prepare_report_free(&r);
}

/* What a run comes to: "OK records documents bad" or "STATUS message". */
static void outcome(const char *text, const char *format, int skip_bad, const char *template,
                    char out[1024])
{
    struct err e = {0};
    struct prepare_report r = {0};
    struct prepare_source source = {.path = put("x.jsonl", text), .format = format};
    struct prepare_options o = options_of(&source, 1);
    o.skip_bad = skip_bad;
    o.template = template ? template_find(template) : NULL;
    enum status s = prepare_dataset(&o, path_of("x.h5"), &r, NULL, NULL, &e);
    size_t n = (size_t)snprintf(out, 1024, "%s ", status_name(s));
    if (s)
        err_format(&e, out + n, 1024 - n);
    else
        snprintf(out + n, 1024 - n, "%d %d %d %s", (int)r.total.records, (int)r.total.documents,
                 (int)r.sources[0].dropped[DROP_BAD_RECORD].count, r.sources[0].first_bad);
    if (s)
        assert_false(io_exists(path_of("x.h5")));
    else
        remove(path_of("x.h5"));
    prepare_report_free(&r);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *format;
        int skip_bad;
        const char *template, *status, *message;
    } cases[] = {
        {"{\"text\":\"a b\"}\n{\"text\":\n", NULL, 0, NULL, "ERR_FORMAT", "x.jsonl:2:"},
        {"{\"text\":\"a b\"}\n{\"text\":\n", NULL, 1, NULL, "OK", "2 1 1 "},
        {"{\"text\":\"a b\"}\n{\"text\":5}\n", NULL, 0, NULL, "ERR_FORMAT",
         "x.jsonl:2: \"text\" is no string"},
        {"{\"text\":\"a b\"}\n{\"text\":5}\n", NULL, 1, NULL, "OK", "x.jsonl:2: \"text\" is no"},
        {"[{\"text\":\"a b\"},\n{\"texts\":\"\"}]", NULL, 0, NULL, "ERR_FORMAT",
         "x.jsonl:2: record 2: \"text\" is missing"},
        {"[{\"text\":\"a b\"},{", "text", 1, NULL, "ERR_FORMAT", "the file ends inside record 2"},
        {"{\"text\":\"a b\"}\n", "alpca", 0, NULL, "ERR_CONFIG", "unknown format \"alpca\""},
        {"{\"x\":1}\n", NULL, 0, NULL, "ERR_DATA", "no format fits records with the fields x"},
        {"{\"instruction\":\"a\",\"output\":\"\"}\n", NULL, 0, "alpaca", "ERR_DATA",
         "no document is left of 1 records: 1: the output or a reply is empty"},
        {"{\"instruction\":\"a\",\"output\":\"b\"}\n", NULL, 0, NULL, "ERR_CONFIG",
         "x.jsonl:1: a conversation needs a template"},
        {"{\"instruction\":\"a\",\"output\":\"b\"}\n", NULL, 0, "chatml", "ERR_CONFIG",
         "template chatml needs the token <|im_start|>"},
        {"", "text", 0, NULL, "ERR_DATA", "no document is left of 0 records"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[1024];
        outcome(cases[i].text, cases[i].format, cases[i].skip_bad, cases[i].template, out);
        size_t n = strlen(cases[i].status);
        if (strncmp(out, cases[i].status, n) || out[n] != ' ' || !strstr(out, cases[i].message))
            fail_msg("case %zu: %s", i, out);
    }
    struct err e = {0};
    struct prepare_report r = {0};
    struct prepare_source absent = {.path = "/nonexistent.jsonl"};
    struct prepare_options o = options_of(&absent, 1);
    assert_int_equal(prepare_dataset(&o, path_of("x.h5"), &r, NULL, NULL, &e), ERR_IO);
    prepare_report_free(&r);
    o.num_sources = 0;
    assert_int_equal(prepare_dataset(&o, path_of("x.h5"), &r, NULL, NULL, &e), ERR_CONFIG);
    prepare_report_free(&r);
}

/* Many blocks, with records of all kinds in them. */
static const char *put_many(const char *name)
{
    struct err e = {0};
    struct buf text;
    buf_init(&text, 1 << 24);
    for (int i = 0; i < 4000; i++) {
        int bad = i % 701 == 700, empty = i % 13 == 12;
        assert_int_equal(buf_printf(&text,
                                    bad ? "{\"instruction\": %d\n"
                                        : "{\"instruction\": \"Count to %d.\", \"output\": \"",
                                    i),
                         OK);
        for (int k = 0; k < i % 97 && !bad && !empty; k++)
            assert_int_equal(buf_printf(&text, "%d ", k), OK);
        if (!bad) assert_int_equal(buf_puts(&text, i % 97 ? "\"}\n" : ".\"}\n"), OK);
    }
    const char *path = path_of(name);
    assert_int_equal(io_write_file(path, text.data, text.len, &e), OK);
    buf_free(&text);
    return path;
}

/* What a run came to: its report, the hash of its file, its error. */
struct result {
    struct buf report;
    char hash[HASH_HEX_SIZE];
    enum status status;
    struct err e;
};

static struct result prepared_by(const char *path, size_t threads, int skip_bad)
{
    struct result r = {0};
    struct err ignored = {0};
    struct prepare_source source = {.path = path, .format = "alpaca"};
    struct prepare_report report = {0};
    struct prepare_options o = options_of(&source, 1);
    const char *out = path_of("threads.h5");
    o.threads = threads;
    o.skip_bad = skip_bad;
    buf_init(&r.report, 1 << 20);
    r.status = prepare_dataset(&o, out, &report, NULL, NULL, &r.e);
    assert_int_equal(prepare_report_json(&report, &r.report), OK);
    if (!r.status) assert_int_equal(hash_file(out, r.hash, &ignored), OK);
    prepare_report_free(&report);
    return r;
}

static void test_threads_change_nothing(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s", put_many("many.jsonl"));
    for (int skip_bad = 0; skip_bad < 2; skip_bad++) {
        struct result one = prepared_by(path, 1, skip_bad);
        assert_int_equal(one.status, skip_bad ? OK : ERR_FORMAT);
        for (size_t threads = 2; threads < 9; threads += 3) {
            struct result many = prepared_by(path, threads, skip_bad);
            assert_int_equal(many.status, one.status);
            assert_string_equal(many.hash, one.hash);
            assert_string_equal(many.report.data, one.report.data);
            assert_string_equal(many.e.message, one.e.message);
            assert_int_equal(many.e.line, one.e.line);
            buf_free(&many.report);
        }
        buf_free(&one.report);
    }
}

static void test_cache_key(void **state)
{
    (void)state;
    struct err e = {0};
    char base[HASH_HEX_SIZE], key[HASH_HEX_SIZE];
    struct prepare_source source = {.path = put("k.jsonl", alpaca)};
    struct prepare_options o = options_of(&source, 1);
    assert_int_equal(prepare_cache_key(&o, base, &e), OK);
    assert_int_equal(strlen(base), 32);
    o.max_length = 512; /* no part of it, nor is the name of the file */
    source.path = put("k2.jsonl", alpaca);
    assert_int_equal(prepare_cache_key(&o, key, &e), OK);
    assert_string_equal(key, base);
    o.tokenize_whole = 1;
    assert_int_equal(prepare_cache_key(&o, key, &e), OK);
    assert_string_not_equal(key, base);
    o.tokenize_whole = 0;
    o.template = template_find("vicuna");
    assert_int_equal(prepare_cache_key(&o, key, &e), OK);
    assert_string_not_equal(key, base);
    o.template = template_find("alpaca");
    source.path = put("k2.jsonl", alpaca + 1);
    assert_int_equal(prepare_cache_key(&o, key, &e), OK);
    assert_string_not_equal(key, base);
    source.path = "/nonexistent";
    assert_int_equal(prepare_cache_key(&o, key, &e), ERR_IO);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct prepare_source source = {.path = put("m.json", chats)};
    struct prepare_options o = options_of(&source, 1);
    const char *out = path_of("m.h5");
    for (long k = 1; k < 2000; k++) {
        struct err e = {0};
        struct prepare_report r = {0};
        mem_fail_after(k);
        enum status s = prepare_dataset(&o, out, &r, NULL, NULL, &e);
        mem_fail_after(0);
        prepare_report_free(&r);
        if (!s) return;
        if (s != ERR_MEMORY) fail_msg("allocation %ld: %s %s", k, status_name(s), e.message);
        assert_false(io_exists(out));
    }
    fail();
}

static int setup(void **state)
{
    (void)state;
    char text[2048];
    struct err e = {0};
    if (!mkdtemp(folder)) return 1;
    if (!tokenizer_open(&tok, "tests/golden/models/llama_gqa_tied", &e)) return 0;
    err_format(&e, text, sizeof text);
    fprintf(stderr, "%s\n", text);
    return 1;
}

static int teardown(void **state)
{
    (void)state;
    struct err e = {0};
    tokenizer_close(tok);
    return io_remove_tree(folder, &e);
}

/* Messages of trees, one a line, and records of several conversations. */
static void test_several_at_once(void **state)
{
    (void)state;
    static const char flat[] =
        "{\"message_id\":\"1\",\"message_tree_id\":\"1\",\"role\":\"prompter\",\"text\":\"q\"}\n"
        "{\"message_id\":\"2\",\"message_tree_id\":\"1\",\"parent_id\":\"1\",\"role\":"
        "\"assistant\","
        "\"text\":\"a\"}\n"
        "{\"message_id\":\"3\",\"message_tree_id\":\"1\",\"parent_id\":\"1\",\"role\":"
        "\"assistant\","
        "\"text\":\"b\",\"rank\":0}\n"
        "{broken\n"
        "{\"message_id\":\"4\",\"role\":\"prompter\",\"text\":\"r\"}\n"
        "{\"message_id\":\"5\",\"parent_id\":\"4\",\"role\":\"assistant\",\"text\":\"c\"}\n"
        "{\"prompt\":{\"role\":\"prompter\",\"text\":\"s\",\"replies\":[{\"role\":\"assistant\","
        "\"text\":\"d\"},{\"role\":\"assistant\",\"text\":\"e\"}]}}\n"
        "{\"message_id\":\"6\",\"role\":\"prompter\",\"text\":\"t\"}\n";
    static const char seeds[] =
        "{\"instruction\":\"i\",\"instances\":[{\"output\":\"\"},{\"output\":\"a\"},{\"output\":"
        "\"b\"},{\"output\":\"\"}]}\n"
        "{\"instruction\":\"i\",\"instances\":[{\"output\":\"\"},{\"output\":\"\"}]}\n";
    static const struct {
        const char *format;
        int64_t documents, left_out;
    } cases[] = {{"auto", 5, 1}, {"oasst_all", 7, 0}};
    for (size_t i = 0; i < 2; i++) {
        struct err e = {0};
        struct prepare_report r = {0};
        struct prepare_source sources[] = {
            {.path = put("f.jsonl", flat), .format = cases[i].format},
            {.path = put("s.jsonl", seeds)}};
        struct prepare_options o = options_of(sources, 2);
        o.skip_bad = 1;
        assert_int_equal(prepare_dataset(&o, path_of("several.h5"), &r, NULL, NULL, &e), OK);
        const struct prepare_source_report *f = &r.sources[0], *s = &r.sources[1];
        assert_int_equal(f->counts.records, 8);
        assert_int_equal(f->counts.kept, i ? 6 : 5);
        assert_int_equal(f->dropped[DROP_BAD_RECORD].count, 1);
        assert_int_equal(f->dropped[DROP_BAD_RECORD].places[0], 4);
        assert_int_equal(f->dropped[DROP_LEFT_OUT].count, i ? 0 : 1);
        assert_int_equal(f->dropped[DROP_NO_REPLY].places[0], 8);
        assert_int_equal(f->left_out.count, cases[i].left_out);
        assert_int_equal(s->counts.records, 2);
        assert_int_equal(s->counts.kept, 1);
        assert_int_equal(s->left_out.count, 2);
        assert_int_equal(s->dropped[DROP_EMPTY_REPLY].count, 1);
        assert_int_equal(r.total.documents, cases[i].documents);
        for (size_t k = 0; k < 2; k++)
            assert_int_equal(r.sources[k].counts.records,
                             r.sources[k].counts.kept + prepare_dropped(&r.sources[k]));
        prepare_report_free(&r);
    }
}

/* A text too long loses its end, but for where it is cut into pieces. */
static void test_long_text(void **state)
{
    (void)state;
    int32_t ids[50] = {0};
    float weights[50] = {0};
    weights[40] = weights[49] = 1;
    const struct sample s = {.ids = ids, .weights = weights, .n = 50};
    for (int pieces = 0; pieces < 2; pieces++) {
        struct prepare_counts c = {0};
        prepare_count_document(&c, &s, 20, pieces);
        assert_int_equal(c.documents, 1);
        assert_int_equal(c.supervised, 2);
        assert_int_equal(c.longest, 50);
        assert_int_equal(c.cut_documents, 1);
        assert_int_equal(c.cut_tokens, pieces ? 0 : 30);
        assert_int_equal(c.cut_silent, pieces ? 0 : 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_everything_is_accounted_for),
        cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_cache_key),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
