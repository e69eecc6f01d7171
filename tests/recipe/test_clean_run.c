/* cria clean as a user runs it: its report, its mistakes, its output read by prepare, and kills at
 * random moments, which leave the file whole or not there. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "support/run_binary.h"

#define PAGES "tests/golden/clean/pages.jsonl"
#define MODEL "tests/golden/models/llama_gqa_tied"
#define KILLS 20

static char dir[] = "/tmp/cria-clean-run-XXXXXX", many[64];

static const char *below(const char *name)
{
    static char paths[16][96];
    static int next;
    char *p = paths[next++ % 16];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static char *get(const char *path, size_t *n)
{
    struct buf b;
    struct err e = {0};
    buf_init(&b, 1 << 28);
    CHECK_OK(io_read_file(path, &b, &e), &e);
    CHECK_OK(buf_append(&b, "", 0), &e);
    *n = b.len;
    return b.data;
}

/* The pages, often: a second of work. */
static void make_many(void)
{
    struct err e = {0};
    struct buf all;
    size_t n;
    char *pages = get(PAGES, &n);
    buf_init(&all, 1 << 28);
    for (int i = 0; i < 12; i++) CHECK_OK(buf_append(&all, pages, n), &e);
    snprintf(many, sizeof many, "%s", below("many.jsonl"));
    CHECK_OK(io_write_file(many, all.data, all.len, &e), &e);
    buf_free(&all);
    mem_free(pages);
}

static void test_report(void **state)
{
    (void)state;
    struct err e = {0};
    json_t *report, *step;
    size_t i;
    const char *out = below("out.jsonl"), *file = below("report.json");
    int64_t records = 0, left = 0;
    struct ran r = run_cria(NULL, "clean", PAGES, "--out", out, "--report", file, "--tokenizer",
                            MODEL, "--max-length", "1024", "--similarity", "0.8", NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.err, "200 records");
    CHECK_HAS(r.err, "a blocked word");
    CHECK_HAS(r.err, "(openai)");
    CHECK_HAS(r.err, "kept a last pair that FastChat's splitting loses");
    ran_free(&r);
    CHECK_OK(json_parse_file(file, &report, &e), &e);
    CHECK_OK(json_get_int(report, "records", &records, file, &e), &e);
    assert_int_equal(records, 200);
    left = records;
    json_array_foreach(json_object_get(report, "steps"), i, step)
    {
        int64_t in = json_integer_value(json_object_get(step, "in"));
        assert_int_equal(in, left);
        left = json_integer_value(json_object_get(step, "left"));
    }
    assert_int_equal(left, json_integer_value(json_object_get(report, "written")));
    json_decref(report);
    /* what was written is what prepare reads */
    r = run_cria(NULL, "prepare", "--data", out, "--tokenizer", MODEL, "--template", "vicuna",
                 "--out", below("out.h5"), NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.err, "sharegpt (detected)");
    assert_null(strstr(r.err, "dropped"));
    ran_free(&r);
}

static void test_help(void **state)
{
    (void)state;
    struct ran r = run_cria(NULL, "clean", "--help", NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.out, "--against");
    CHECK_HAS(r.out, "no turn is lost");
    ran_free(&r);
}

static void test_mistakes(void **state)
{
    (void)state;
    const char *out = below("never.jsonl");
    const struct {
        const char *words[8];
        int code;
        const char *says, *hint;
    } table[] = {
        {{"--out", out}, 2, "cria clean needs a file", "cria clean F[,F] --out"},
        {{PAGES}, 2, "cria clean needs --out", "cria clean F[,F] --out"},
        {{PAGES, PAGES, "--out", out}, 2, "separated by commas", "cria clean F[,F]"},
        {{PAGES, "--out", out, "--steps", "html,wash"}, 2, "no step \"wash\"", "steps are default"},
        {{PAGES, "--out", out, "--steps", "split"},
         2,
         "--tokenizer and --max-length are needed",
         "the model's directory"},
        {{PAGES, "--out", out, "--max-length", "9"},
         2,
         "--tokenizer and --max-length are needed",
         ""},
        {{PAGES, "--out", out, "--steps", "language"}, 2, "needs --lang or --skip-lang", ""},
        {{PAGES, "--out", out, "--steps", "against"}, 2, "needs --against", ""},
        {{PAGES, "--out", out, "--against", "gone.csv"}, 1, "gone.csv", ""},
        {{PAGES, "--out", out, "--similarity", "3"}, 2, "similarity", ""},
        {{PAGES, "--out", out, "--ngram", "1"}, 2, "--ngram must be between 2 and 64", ""},
        {{PAGES ",", "--out", out}, 2, "an empty name among the files", ""},
        {{"gone.jsonl", "--out", out}, 1, "gone.jsonl", "paths are taken from"},
        {{PAGES, "--out", PAGES}, 2, "is a source", "write to another file"},
        {{PAGES, "--out", out, "--format", "alpaca"}, 4, "instruction", "name the file's format"},
        {{PAGES, "--out", out, "--stesp", "html"}, 2, "no option --stesp", "--steps"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *const *w = table[i].words;
        struct ran r = run_cria(NULL, "clean", w[0], w[1], w[2], w[3], w[4], w[5], w[6], NULL);
        CHECK_EXIT(&r, table[i].code);
        CHECK_HAS(r.err, table[i].says);
        CHECK_HAS(r.err, table[i].hint);
        ran_free(&r);
        assert_false(io_exists(out));
    }
}

static void test_kills(void **state)
{
    (void)state;
    struct mt19937 rng;
    const char *out = below("killed.jsonl"), *whole = below("whole.jsonl");
    size_t n, m;
    int killed = 0, ended = 0;
    struct ran r = run_cria(NULL, "clean", many, "--out", whole, NULL);
    CHECK_EXIT(&r, 0);
    ran_free(&r);
    char *wanted = get(whole, &n), *got;
    mt19937_seed(&rng, 5);
    for (int i = 0; i < KILLS; i++) {
        struct running p = run_start_cria(NULL, "clean", many, "--out", out, NULL);
        usleep(mt19937_next(&rng) % (i % 2 ? 60000 : 600000));
        kill(p.pid, i % 3 ? SIGKILL : SIGTERM);
        r = run_wait(&p);
        killed += r.code != 0;
        ended += r.code == 0;
        ran_free(&r);
        if (!io_exists(out)) continue;
        got = get(out, &m);
        assert_int_equal(m, n);
        assert_memory_equal(got, wanted, n);
        mem_free(got);
        unlink(out);
    }
    print_message("%d killed, %d had ended\n", killed, ended);
    assert_true(killed > 0);
    mem_free(wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_kills),
    };
    struct err e = {0};
    if (!mkdtemp(dir)) return 1;
    make_many();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return io_remove_tree(dir, &e) || failed;
}
