/* cria clean, step by step: what goes, what is mended, what is said about it, and what happens when
 * something is wrong. Agreement with FastChat is tests/golden/test_clean.c. */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/clean/clean.h"
#include "data/clean/language.h"

#define TOKENIZER "tests/golden/models/llama_gqa_tied/tokenizer.json"
#define ALL_OURS                                                                     \
    (CLEAN_BIT(CLEAN_REPAIR) | CLEAN_BIT(CLEAN_BLOCKED) | CLEAN_BIT(CLEAN_QUALITY) | \
     CLEAN_BIT(CLEAN_EXACT) | CLEAN_BIT(CLEAN_NUMBERING))

static char dir[] = "/tmp/cria-steps-XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[64][64];
    static int next;
    char *p = paths[next++ % 64];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static const char *put(const char *name, const char *text)
{
    struct err e = {0};
    const char *path = path_of(name);
    CHECK_OK(io_write_file(path, text, strlen(text), &e), &e);
    return path;
}

static char *get(const char *path)
{
    struct buf b;
    struct err e = {0};
    buf_init(&b, 1 << 26);
    CHECK_OK(io_read_file(path, &b, &e), &e);
    CHECK_OK(buf_append(&b, "", 0), &e);
    return b.data;
}

static struct clean_options options_of(const char *const *sources, unsigned steps)
{
    return (struct clean_options){
        .sources = sources, .num_sources = 1, .steps = steps, .similarity = 0.7, .threads = 2};
}

/* Cleans `text` and returns what was written, "" for nothing; the caller frees it. */
static char *clean(const struct clean_options *base, const char *text, struct clean_report *report)
{
    struct err e = {0};
    const char *sources[] = {put("in.jsonl", text)};
    struct clean_options o = *base;
    o.sources = sources;
    const char *out = path_of("out.jsonl");
    unlink(out);
    *report = (struct clean_report){0};
    enum status s = clean_files(&o, out, report, NULL, NULL, &e);
    if (s == ERR_DATA && !report->written) return mem_strdup("");
    CHECK_OK(s, &e);
    return get(out);
}

#define H(text) "{\"from\": \"human\", \"value\": \"" text "\"}"
#define G(text) "{\"from\": \"gpt\", \"value\": \"" text "\"}"
#define M(from, text) "{\"from\": \"" from "\", \"value\": \"" text "\"}"
#define C(turns) "{\"conversations\": [" turns "]}\n"
#define OUT(turns) "{\"id\":\"in_1\",\"conversations\":[" turns "]}\n"
#define HO(text) "{\"from\":\"human\",\"value\":\"" text "\"}"
#define GO(text) "{\"from\":\"gpt\",\"value\":\"" text "\"}"

static const struct {
    const char *in, *out;
    unsigned steps;
    enum clean_reason reason; /* that one record was counted under */
    int change;               /* that was counted, or -1 */
} cases[] = {
    {C(H("a question?") "," G("a good reply")), OUT(HO("a question?") "," GO("a good reply")),
     ALL_OURS, CLEAN_KEPT, -1},
    {C(G("hello") "," H("a question?") "," G("a good reply")),
     OUT(HO("a question?") "," GO("a good reply")), ALL_OURS, CLEAN_KEPT, CLEAN_LED},
    {C(H("a question?") "," G("a good reply") "," H("more?")),
     OUT(HO("a question?") "," GO("a good reply")), ALL_OURS, CLEAN_KEPT, CLEAN_TRAILED},
    {C(H("a question?") "," G("a good reply") "," H(" ") "," G("and more")),
     OUT(HO("a question?") "," GO("a good reply")), ALL_OURS, CLEAN_KEPT, CLEAN_CUT},
    {C(H("a question?") "," H("another?") "," G("a good reply")), "", ALL_OURS, CLEAN_ROLES, -1},
    {C(H("a question?") "," G("a good reply") "," M("moon", "x")), "", ALL_OURS, CLEAN_ROLES, -1},
    {C(H("a long question, alone?")), "", ALL_OURS, CLEAN_ONE_MESSAGE, -1},
    {C(H("hi") "," G("hello")), "", ALL_OURS, CLEAN_SHORT, -1},
    {C(H("who made you, really?") "," G("it was OpenAI's")), "", ALL_OURS, CLEAN_WORDS, -1},
    {C(H("a question?") "," G("Too many requests in 1 hour. Try again later.")), "", ALL_OURS,
     CLEAN_REFUSAL, -1},
    {C(H("a question?") "," G("1 one\\n1. a\\n1. b")), "", ALL_OURS, CLEAN_NUMBERS, -1},
    {"{\"plugins\": {}, \"conversations\": [" H("a question?") "," G("a good reply") "]}\n", "",
     ALL_OURS, CLEAN_PLUGINS, -1},
    {C(H("<![x y") "," G("a good reply")), "", ALL_OURS | CLEAN_BIT(CLEAN_HTML), CLEAN_MARKUP, -1},
    {C(H("<b>a question?</b>") "," G("<p>a <i>good</i> reply</p>")),
     OUT(HO("**a question?**") "," GO("a *good* reply")), ALL_OURS | CLEAN_BIT(CLEAN_HTML),
     CLEAN_KEPT, CLEAN_CONVERTED},
    {C(H("call 1234") "," G("no, 000000000 it is")), "", CLEAN_BIT(CLEAN_REPEATS), CLEAN_DIGITS,
     -1},
    /* a system message stays; a weight does; no step leaves all as it is */
    {C("{\"from\": \"system\", \"value\": \"be brief\"}," H("a question?") "," G("a good reply")),
     OUT("{\"from\":\"system\",\"value\":\"be brief\"}," HO("a question?") "," GO("a good reply")),
     ALL_OURS, CLEAN_KEPT, -1},
    {C(H("a") ","
              "{\"from\": \"gpt\", \"value\": \"b\", \"weight\": 0}"
              "," G("")),
     OUT(HO("a") ","
                 "{\"from\":\"gpt\",\"value\":\"b\",\"weight\":0.0}"
                 "," GO("")),
     0, CLEAN_KEPT, -1},
    /* other formats */
    {"{\"id\": 7, \"instruction\": \"Add up\", \"input\": \"1 and 2\", \"output\": \"It is 3.\"}\n",
     "{\"id\":\"7\",\"conversations\":[" HO("Add up\\n1 and 2") "," GO("It is 3.") "]}\n", ALL_OURS,
     CLEAN_KEPT, -1},
    {"{\"messages\": [{\"role\": \"user\", \"content\": \"a question?\"}, {\"role\": "
     "\"assistant\", \"content\": \"a good reply\"}], \"model\": \"m\"}\n",
     "{\"id\":\"in_1\",\"model\":\"m\",\"conversations\":[" HO("a question?") "," GO(
         "a good reply") "]}\n",
     ALL_OURS, CLEAN_KEPT, -1},
    {"{\"text\": \"once upon a time\"}\n", "{\"id\":\"in_1\",\"text\":\"once upon a time\"}\n",
     ALL_OURS, CLEAN_KEPT, -1},
    {"{\"prompt\": \"once upon\", \"completion\": \" a time there was\"}\n",
     "{\"id\":\"in_1\",\"prompt\":\"once upon\",\"completion\":\" a time there was\"}\n", ALL_OURS,
     CLEAN_KEPT, -1},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct clean_options o = options_of(NULL, cases[i].steps);
        struct clean_report r;
        char *out = clean(&o, cases[i].in, &r);
        assert_string_equal(out, cases[i].out);
        assert_int_equal(r.records, 1);
        for (int k = 1; k < NUM_CLEAN_REASONS; k++)
            assert_int_equal(r.dropped[k].count, k == (int)cases[i].reason);
        if (cases[i].change >= 0) assert_int_equal(r.changed[cases[i].change], 1);
        mem_free(out);
        clean_report_free(&r);
    }
}

/* The first of a kind stays, and the report says where it is. */
static void test_duplicates(void **state)
{
    (void)state;
    /* clang-format off */
    static const char text[] =
        "{\"id\": \"a\", \"conversations\": [" H("what is a llama?") "," G("an animal") "]}\n"
        "{\"id\": \"a\", \"conversations\": [" H("what is a vicuna?") "," G("an animal") "]}\n"
        "{\"id\": \"b\", \"conversations\": [" H("what is a llama?") "," G("an animal") ","
            H("and?") "," G("it has wool") "]}\n"
        "{\"id\": \"c\", \"conversations\": [" H("What is -- a Llama") "," G("AN ANIMAL!") "]}\n"
        "{\"id\": \"d\", \"conversations\": [" H("who won the war?") "," G("nobody did") "]}\n";
    /* clang-format on */
    struct clean_options o = options_of(NULL, ALL_OURS | CLEAN_BIT(CLEAN_NEAR));
    struct clean_report r;
    struct buf printed;
    char *out = clean(&o, text, &r);
    assert_int_equal(r.kept, 2);
    assert_int_equal(r.dropped[CLEAN_SAME_ID].count, 1);
    assert_int_equal(r.dropped[CLEAN_SAME_PAIR].count, 1);
    assert_int_equal(r.dropped[CLEAN_SIMILAR].count, 1);
    assert_int_equal(r.dropped[CLEAN_SAME_PAIR].samples[0].place, 3);
    assert_int_equal(r.dropped[CLEAN_SAME_PAIR].samples[0].other_place, 1);
    assert_int_equal(r.dropped[CLEAN_SIMILAR].samples[0].place, 4);
    buf_init(&printed, 1 << 20);
    assert_int_equal(clean_report_print(&r, &printed), OK);
    assert_non_null(strstr(printed.data, "line 4 = "));
    buf_free(&printed);
    mem_free(out);
    clean_report_free(&r);
}

/* Turns come out of splitting in the order and number in which they went in, and no segment that
 * could hold less is longer than the maximum. */
static void test_split(void **state)
{
    (void)state;
    struct clean_options o = options_of(NULL, CLEAN_BIT(CLEAN_SPLIT));
    struct tokenizer *t;
    struct clean_report r;
    struct err e = {0};
    CHECK_OK(tokenizer_open(&t, TOKENIZER, &e), &e);
    o.tokenizer = t;
    for (int n = 1; n < 12; n++) {
        struct buf in, want;
        buf_init(&in, 1 << 20);
        buf_init(&want, 1 << 20);
        CHECK_OK(buf_puts(&in, "{\"id\": \"x\", \"conversations\": ["), &e);
        for (int i = 0; i < n; i++)
            CHECK_OK(buf_printf(&in, "%s{\"from\": \"%s\", \"value\": \"turn %d%.*s.\"}",
                                i ? ", " : "", i % 2 ? "gpt" : "human", i, i * 7 % 40,
                                " llama llama llama llama llama llama llama llama"),
                     &e);
        CHECK_OK(buf_puts(&in, "]}\n"), &e);
        o.max_length = 60 + n;
        char *out = clean(&o, in.data, &r);
        int at = 0;
        for (const char *p = out; (p = strstr(p, "\"turn ")); p++) /* all, in order */
            assert_int_equal(strtol(p + 6, NULL, 10), at++);
        assert_int_equal(at, n);
        assert_int_equal(r.turns, n);
        assert_non_null(strstr(out, "{\"id\":\"x_0\","));
        mem_free(out);
        clean_report_free(&r);
        buf_free(&in);
        buf_free(&want);
    }
    tokenizer_close(t);
}

static void test_against(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {"eval.jsonl",
         "{\"q\": \"one two three four five six\", \"choices\": [\"no\", \"a b c\"]}\n"},
        {"eval.csv", "question,answer\n\"Alpha beta, gamma delta epsilon zeta eta?\",yes\n"},
    };
    static const struct {
        const char *text;
        int item; /* -1: clean */
    } texts[] = {
        {"he said: ONE, two... three - four five!", 0},
        {"one two three four", -1},
        {"x a b c y", 2},
        {"x a c b y", -1},
        {"gamma delta epsilon zeta eta", 3},
        {"question answer", -1},
    };
    struct against *a;
    struct err e = {0};
    uint32_t item = 0;
    int64_t number;
    assert_int_equal(against_open(&a, 5), OK);
    for (size_t i = 0; i < 2; i++)
        CHECK_OK(against_add_file(a, put(files[i][0], files[i][1]), &e), &e);
    assert_int_equal(against_items(a), 5);
    assert_int_equal(against_skipped(a), 2); /* "no", "yes" */
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct word_list w = {0};
        assert_int_equal(words_append(&w, (struct text){texts[i].text, strlen(texts[i].text)}), OK);
        int found = against_find(a, &w, &item);
        assert_int_equal(found, texts[i].item >= 0);
        if (found) assert_int_equal(item, texts[i].item);
        words_free(&w);
    }
    assert_non_null(strstr(against_origin(a, 3, &number), "eval.csv"));
    assert_int_equal(number, 1);
    struct clean_options o = options_of(NULL, CLEAN_BIT(CLEAN_AGAINST));
    struct clean_report r;
    o.against = a;
    char *out =
        clean(&o, C(H("say one two three four five") "," G("ok")) C(H("say") "," G("ok")), &r);
    assert_int_equal(r.dropped[CLEAN_CONTAMINATED].count, 1);
    assert_int_equal(r.kept, 1);
    mem_free(out);
    clean_report_free(&r);
    assert_int_equal(against_add_file(a, path_of("absent"), &e), ERR_IO);
    put("binary", "");
    CHECK_OK(io_write_file(path_of("binary"), "a\0b\n", 4, &e), &e);
    assert_int_equal(against_add_file(a, path_of("binary"), &e), ERR_FORMAT);
    against_close(a);
}

static void test_language(void **state)
{
    (void)state;
    /* clang-format off */
    static const char text[] =
        C(H("What is the weather like in the mountains today?") ","
          G("It is raining in the mountains, and it will go on until the evening."))
        C(H("Wie ist das Wetter heute in den Bergen?") ","
          G("Es regnet in den Bergen, und es wird bis zum Abend so bleiben."));
    /* clang-format on */
    struct clean_options o = options_of(NULL, CLEAN_BIT(CLEAN_LANGUAGE));
    struct clean_report r;
    struct err e = {0};
    const char *sources[] = {put("in.jsonl", text)};
    o.keep_language = "en";
    if (!language_available()) {
        o.sources = sources;
        r = (struct clean_report){0};
        assert_int_equal(clean_files(&o, path_of("out.jsonl"), &r, NULL, NULL, &e),
                         ERR_UNSUPPORTED);
        assert_non_null(strstr(e.hint, "libcld2"));
        clean_report_free(&r);
        return;
    }
    char *out = clean(&o, text, &r);
    assert_non_null(strstr(out, "raining"));
    assert_null(strstr(out, "Bergen"));
    assert_string_equal(r.dropped[CLEAN_FOREIGN].samples[0].detail, "de");
    mem_free(out);
    clean_report_free(&r);
    o.keep_language = NULL, o.skip_language = "en";
    out = clean(&o, text, &r);
    assert_null(strstr(out, "raining"));
    assert_non_null(strstr(out, "Bergen"));
    mem_free(out);
    clean_report_free(&r);
}

/* A file without markup keeps its Markdown when HTML is told by the file. */
static void test_html_by_file(void **state)
{
    (void)state;
    struct clean_options o = options_of(NULL, CLEAN_DEFAULT_STEPS);
    struct clean_report r;
    o.html_by_file = 1;
    char *out = clean(&o, C(H("a *good* question?") "," G("use `List<int>`, my_list")), &r);
    assert_non_null(strstr(out, "a *good* question?"));
    assert_non_null(strstr(out, "`List<int>`, my_list"));
    assert_int_equal(r.sources[0].is_html, 0);
    mem_free(out);
    clean_report_free(&r);
    out = clean(&o, C(H("a *good* question?") "," G("<p>use my_list</p>")), &r);
    assert_non_null(strstr(out, "use my\\\\_list"));
    assert_int_equal(r.sources[0].is_html, 1);
    mem_free(out);
    clean_report_free(&r);
}

/* A record may hold several conversations, and several records one. */
static void test_parts(void **state)
{
    (void)state;
    static const char seeds[] =
        "{\"id\": \"s\", \"name\": \"n\", \"instruction\": \"Add up the numbers\", "
        "\"instances\": [{\"input\": \"1 2\", \"output\": \"3\"}, {\"input\": \"2 3\", "
        "\"output\": \"5\"}], \"is_classification\": false}\n";
    struct clean_options o = options_of(NULL, ALL_OURS);
    struct clean_report r;
    o.format = "self_instruct";
    char *out = clean(&o, seeds, &r);
    assert_int_equal(r.records, 1);
    assert_int_equal(r.conversations, 2);
    assert_int_equal(r.kept, 2);
    assert_non_null(strstr(out, "{\"id\":\"s\","));
    assert_non_null(strstr(out, "{\"id\":\"s-1\","));
    mem_free(out);
    clean_report_free(&r);
}

/* ---- what goes wrong ---- */

#define GOOD C(H("a question?") "," G("a good reply"))

static void check_fails(const struct clean_options *o, const char *out, enum status wanted,
                        const char *says)
{
    struct err e = {0};
    struct clean_report r = {0};
    char aside[128];
    enum status s = clean_files(o, out, &r, NULL, NULL, &e);
    if (s != wanted || !strstr(e.message, says))
        fail_msg("wanted %s saying \"%s\", got %s: %s", status_name(wanted), says, status_name(s),
                 e.message);
    snprintf(aside, sizeof aside, "%s.tmp", out);
    assert_false(io_exists(aside));
    clean_report_free(&r);
}

static void test_errors(void **state)
{
    (void)state;
    const char *good = put("good.jsonl", GOOD), *out = path_of("none.jsonl");
    const char *sources[2] = {good, NULL};
    struct clean_options o = options_of(sources, ALL_OURS), x;
    struct err e = {0};
    unsigned steps;
    check_fails(&o, good, ERR_CONFIG, "is a source");
    check_fails(&o, path_of("no/such/folder"), ERR_IO, "cannot write");
    x = o, x.steps = CLEAN_BIT(CLEAN_LANGUAGE);
    check_fails(&x, out, ERR_CONFIG, "needs a language");
    x.keep_language = x.skip_language = "en";
    check_fails(&x, out, ERR_CONFIG, "not both");
    if (language_available()) {
        x.keep_language = NULL, x.skip_language = "xx-none";
        check_fails(&x, out, ERR_CONFIG, "no language \"xx-none\"");
    }
    x = o, x.steps = CLEAN_BIT(CLEAN_SPLIT);
    check_fails(&x, out, ERR_CONFIG, "needs a tokenizer");
    x = o, x.steps = CLEAN_BIT(CLEAN_AGAINST);
    check_fails(&x, out, ERR_CONFIG, "needs evaluation files");
    x = o, x.steps = CLEAN_BIT(CLEAN_NEAR), x.similarity = 0.2;
    check_fails(&x, out, ERR_CONFIG, "similarity");
    x = o, x.format = "nonsense";
    check_fails(&x, out, ERR_CONFIG, "unknown format");
    x = o, x.num_sources = 0;
    check_fails(&x, out, ERR_CONFIG, "no file");
    sources[0] =
        put("pairs.jsonl", "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n");
    check_fails(&o, out, ERR_UNSUPPORTED, "clean takes conversations");
    sources[0] = path_of("absent.jsonl");
    check_fails(&o, out, ERR_IO, "absent.jsonl");
    sources[0] = put("bad.jsonl", GOOD "{\"conversations\": 3\n" GOOD);
    check_fails(&o, out, ERR_FORMAT, "");
    sources[0] = put("field.jsonl", GOOD C("{\"from\": \"human\"}"));
    check_fails(&o, out, ERR_FORMAT, "");
    sources[0] = put("short.jsonl", C(H("hi") "," G("ho")));
    check_fails(&o, out, ERR_DATA, "no conversation is left");
    sources[0] = put("moon.jsonl", C("{\"from\": \"moon\", \"value\": \"x\"}"));
    x = o, x.steps = CLEAN_BIT(CLEAN_EXACT);
    check_fails(&x, out, ERR_FORMAT, "role");
    sources[0] = good, sources[1] = put("text.jsonl", "{\"text\": \"once upon a time\"}\n");
    x = o, x.num_sources = 2;
    check_fails(&x, out, ERR_DATA, "holds {text}");
    assert_false(io_exists(out));
    assert_int_equal(clean_parse_steps("default,nothing", &steps, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "nothing"));
    CHECK_OK(clean_parse_steps("default,near,-blocked", &steps, &e), &e);
    assert_int_equal(steps,
                     (CLEAN_DEFAULT_STEPS | CLEAN_BIT(CLEAN_NEAR)) & ~CLEAN_BIT(CLEAN_BLOCKED));
}

static void test_skip_bad(void **state)
{
    (void)state;
    struct clean_options o = options_of(NULL, CLEAN_BIT(CLEAN_REPAIR));
    struct clean_report r;
    o.skip_bad = 1;
    char *out =
        clean(&o, GOOD "nonsense\n" C("{\"from\": \"human\"}") "{\"a\": \"\xff\"}\n" GOOD, &r);
    assert_int_equal(r.records, 5);
    assert_int_equal(r.kept, 2);
    assert_int_equal(r.dropped[CLEAN_BAD_RECORD].count, 3);
    assert_non_null(strstr(r.first_bad, "in.jsonl:2"));
    mem_free(out);
    clean_report_free(&r);
}

/* The same output and report on any number of threads. */
static void test_threads(void **state)
{
    (void)state;
    struct buf in;
    struct err e = {0};
    char *outs[2];
    struct clean_report reports[2];
    buf_init(&in, 1 << 24);
    for (int i = 0; i < 3000; i++)
        CHECK_OK(buf_printf(&in,
                            "{\"conversations\": [" H("question %d about %d") "," G(
                                "<p>the <b>reply</b> is %d</p>") "]}\n",
                            i % 1700, i % 1700 % 13, i % 1700),
                 &e);
    for (int k = 0; k < 2; k++) {
        struct clean_options o = options_of(NULL, CLEAN_DEFAULT_STEPS | CLEAN_BIT(CLEAN_NEAR));
        o.threads = k ? 5 : 1;
        outs[k] = clean(&o, in.data, &reports[k]);
    }
    assert_string_equal(outs[0], outs[1]);
    assert_memory_equal(reports[0].dropped, reports[1].dropped, sizeof reports[0].dropped);
    assert_true(reports[0].dropped[CLEAN_SAME_PAIR].count > 1000);
    for (int k = 0; k < 2; k++) {
        mem_free(outs[k]);
        clean_report_free(&reports[k]);
    }
    buf_free(&in);
}

/* A full disk (here: a limit on the size of files) and every allocation that can fail leave neither
 * the file nor a half of it. */
static void test_full_disk(void **state)
{
    (void)state;
    struct rlimit old, small = {4096, RLIM_INFINITY};
    struct buf in;
    struct err e = {0};
    buf_init(&in, 1 << 24);
    for (int i = 0; i < 500; i++)
        CHECK_OK(buf_printf(&in, "{\"id\": %d, \"text\": \"some text of some length\"}\n", i), &e);
    const char *sources[] = {put("many.jsonl", in.data)}, *out = path_of("full.jsonl");
    struct clean_options o = options_of(sources, 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    check_fails(&o, out, ERR_DISK_FULL, "");
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(io_exists(out));
    buf_free(&in);
}

static void test_allocations(void **state)
{
    (void)state;
    const char *sources[] = {
        put("in.jsonl", C(H("<ul><li>a question?</li></ul>") "," G(
                            "<p>a <a href='x&amp;y'>good</a> reply</p>")) GOOD)};
    const char *out = path_of("alloc.jsonl");
    struct tokenizer *t;
    struct against *against;
    struct err e = {0};
    enum status s = ERR_MEMORY;
    long n = 0;
    CHECK_OK(tokenizer_open(&t, TOKENIZER, &e), &e);
    assert_int_equal(against_open(&against, 5), OK);
    assert_int_equal(against_add(against, (struct text){"a b c d e f", 11}), OK);
    struct clean_options o =
        options_of(sources, (CLEAN_BIT(NUM_CLEAN_STEPS) - 1) & ~CLEAN_BIT(CLEAN_LANGUAGE));
    o.tokenizer = t, o.max_length = 40, o.against = against, o.threads = 1;
    while (s == ERR_MEMORY && ++n < 5000) {
        struct clean_report r = {0};
        mem_fail_after(n);
        s = clean_files(&o, out, &r, NULL, NULL, &e);
        mem_fail_after(0);
        if (s && s != ERR_MEMORY) fail_msg("allocation %ld: %s: %s", n, status_name(s), e.message);
        if (s) assert_false(io_exists(out));
        clean_report_free(&r);
    }
    assert_int_equal(s, OK);
    print_message("%ld allocations\n", n);
    against_close(against);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),     cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_split),     cmocka_unit_test(test_against),
        cmocka_unit_test(test_language),  cmocka_unit_test(test_html_by_file),
        cmocka_unit_test(test_parts),     cmocka_unit_test(test_errors),
        cmocka_unit_test(test_skip_bad),  cmocka_unit_test(test_threads),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_allocations),
    };
    struct err e = {0};
    if (!mkdtemp(dir)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return io_remove_tree(dir, &e) || failed;
}
