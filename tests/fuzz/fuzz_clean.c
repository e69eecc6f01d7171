/* A file through all steps of cria clean but the language: what is written must be readable, and
 * the report must account for every record. */
#include <string.h>

#include "base/mem.h"
#include "data/clean/clean.h"
#include "data/jsonl/jsonl.h"
#include "fuzz/fuzz.h"

static const char tokenizer_file[] = "tests/golden/models/llama_gqa_tied/tokenizer.json";

static void check_report(const struct clean_report *r)
{
    int64_t gone = 0;
    for (int i = 1; i < NUM_CLEAN_REASONS; i++)
        if (i != CLEAN_NUMBERS) gone += r->dropped[i].count;
    FUZZ_MUST(r->segments >= r->written && r->written >= r->kept);
    FUZZ_MUST(r->segments - r->written == r->dropped[CLEAN_NUMBERS].count);
    FUZZ_MUST(r->conversations - gone + r->dropped[CLEAN_BAD_RECORD].count >= r->kept);
}

static void check_output(const char *path, const struct clean_report *report)
{
    struct jsonl *j;
    struct jsonl_record r = {0};
    struct err e = {0};
    int64_t n = 0;
    FUZZ_MUST(!jsonl_open(&j, path, NULL, &e));
    for (;; n++) {
        FUZZ_MUST(!jsonl_next(j, &r, &e));
        if (r.kind == JSONL_END) break;
        FUZZ_MUST(r.kind == JSONL_RECORD);
        FUZZ_MUST(json_is_string(json_object_get(r.value, "id")));
    }
    FUZZ_MUST(n == report->written);
    jsonl_close(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *tokenizer;
    static struct against *against;
    char in[FUZZ_PATH_MAX], out[FUZZ_PATH_MAX];
    struct err e = {0};
    struct clean_report report = {0};
    struct buf text;
    if (!tokenizer) {
        FUZZ_MUST(!tokenizer_open(&tokenizer, tokenizer_file, &e));
        FUZZ_MUST(!against_open(&against, 4));
        FUZZ_MUST(!against_add(against, (struct text){"one two three four five", 23}));
    }
    fuzz_write("in", data, size, in);
    fuzz_path("out", out);
    const char *sources[] = {in};
    unsigned all = CLEAN_BIT(NUM_CLEAN_STEPS) - 1;
    struct clean_options o = {.sources = sources,
                              .num_sources = 1,
                              .steps = size % 3 ? all & ~CLEAN_BIT(CLEAN_LANGUAGE) : 0,
                              .html_by_file = size % 2 == 0,
                              .skip_bad = 1,
                              .against = against,
                              .similarity = 0.7,
                              .tokenizer = tokenizer,
                              .max_length = 64,
                              .threads = 1};
    enum status s = clean_files(&o, out, &report, NULL, NULL, &e);
    fuzz_look_at(s, &e);
    if (report.num_sources && report.sources[0].format) {
        buf_init(&text, 1 << 24);
        FUZZ_MUST(!clean_report_print(&report, &text));
        buf_free(&text);
        check_report(&report);
    }
    if (!s) check_output(out, &report);
    clean_report_free(&report);
    return 0;
}
