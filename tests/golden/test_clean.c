/* What cria clean makes of conversations against what FastChat's scripts make of them
 * (tools/golden/clean.py), conversation by conversation: 200 saved as HTML, and the chat files of
 * the shared data. The one difference, marked + in the goldens: FastChat's splitting loses the last
 * pair of a conversation when it does not fit. */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/io.h"
#include "data/clean/clean.h"
#include "data/clean/language.h"
#include "data/jsonl/jsonl.h"

#define GOLDEN "tests/golden/clean/"
#define SMALL "tests/golden/models/llama_gqa_tied/tokenizer.json"

static char dir[] = "/tmp/cria-clean-XXXXXX", out_path[64];

static const struct subject {
    const char *golden, *source; /* a source of the shared data begins with chat/ */
    int32_t max_length;
    const char *keep, *skip;
    int repeats;
} subjects[] = {
    {"pages_2048.txt", GOLDEN "pages.jsonl", 2048, NULL, NULL, 0},
    {"pages_512_skip_ko.txt", GOLDEN "pages.jsonl", 512, NULL, "ko", 0},
    {"pages_300_en_rep.txt", GOLDEN "pages.jsonl", 300, "en", NULL, 1},
    {"vicuna_dummy_500.txt", "chat/vicuna_dummy_500.json", 1024, NULL, "ko", 0},
    {"sharegpt_zh_1k.txt", "chat/sharegpt_zh_1k.jsonl", 1024, NULL, "ko", 0},
    {"sharegpt_toolcall_300.txt", "chat/sharegpt_toolcall_300.json", 1024, NULL, "ko", 0},
};

/* "id hash" of a conversation that was written. */
static void row_of(const json_t *record, char *out, size_t size)
{
    struct buf text;
    struct err e = {0};
    char hash[HASH_HEX_SIZE];
    size_t i;
    json_t *turn;
    buf_init(&text, 1 << 26);
    json_array_foreach(json_object_get(record, "conversations"), i, turn)
    {
        const json_t *from = json_object_get(turn, "from"), *value = json_object_get(turn, "value");
        if (!strcmp(json_string_value(from), "system")) continue; /* FastChat drops it */
        CHECK_OK(buf_append(&text, json_string_value(from), json_string_length(from) + 1), &e);
        CHECK_OK(buf_append(&text, json_string_value(value), json_string_length(value) + 1), &e);
    }
    hash_hex(text.data, text.len, hash);
    snprintf(out, size, "%s %.16s", json_string_value(json_object_get(record, "id")), hash);
    buf_free(&text);
}

static void compare(const struct subject *s)
{
    char path[256], row[600], wanted[600] = "";
    struct err e = {0};
    struct jsonl *j;
    struct jsonl_record r = {0};
    int rows = 0, kept = 0, wrong = 0;
    snprintf(path, sizeof path, GOLDEN "%s", s->golden);
    FILE *golden = fopen(path, "r");
    assert_non_null(golden);
    CHECK_OK(jsonl_open(&j, out_path, NULL, &e), &e);
    for (;;) {
        CHECK_OK(jsonl_next(j, &r, &e), &e);
        char *line = fgets(wanted, sizeof wanted, golden);
        if (!line || r.kind == JSONL_END) break;
        line[strcspn(line, "\n")] = 0;
        row_of(r.value, row, sizeof row);
        rows++;
        kept += *line == '+';
        if (strcmp(row, line + (*line == '+')) && !wrong++)
            print_error("%s:%d: FastChat has %s, cria %s\n", s->golden, rows, line, row);
    }
    if (r.kind != JSONL_END) fail_msg("%s: more than the %d of FastChat", s->golden, rows);
    if (!feof(golden)) fail_msg("%s: only %d, FastChat goes on with %s", s->golden, rows, wanted);
    fclose(golden);
    jsonl_close(j);
    if (wrong) fail_msg("%s: %d of %d differ", s->golden, wrong, rows);
    print_message("%s: %d equal, %d of them lost by FastChat\n", s->golden, rows, kept);
}

static void check_subject(const struct subject *s, const char *shared)
{
    char source[512], tokenizer[512] = SMALL;
    const char *sources[] = {source};
    struct err e = {0};
    int is_shared = !strncmp(s->source, "chat/", 5);
    snprintf(source, sizeof source, "%s%s%s", is_shared ? shared : "", is_shared ? "/" : "",
             s->source);
    if (is_shared)
        snprintf(tokenizer, sizeof tokenizer, "%s/tokenizers/llama2/tokenizer.json", shared);
    struct clean_options o = {
        .sources = sources,
        .num_sources = 1,
        .steps = CLEAN_DEFAULT_STEPS | CLEAN_BIT(CLEAN_SPLIT) |
                 (s->keep || s->skip ? CLEAN_BIT(CLEAN_LANGUAGE) : 0) |
                 (s->repeats ? CLEAN_BIT(CLEAN_REPEATS) : 0),
        .keep_language = s->keep,
        .skip_language = s->skip,
        .max_length = s->max_length,
        .threads = 2,
    };
    struct tokenizer *t;
    struct clean_report report = {0};
    CHECK_OK(tokenizer_open(&t, tokenizer, &e), &e);
    o.tokenizer = t;
    CHECK_OK(clean_files(&o, out_path, &report, NULL, NULL, &e), &e);
    clean_report_free(&report);
    tokenizer_close(t);
    compare(s);
}

static void test_pages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        if (strncmp(subjects[i].source, GOLDEN, strlen(GOLDEN))) continue;
        if ((subjects[i].keep || subjects[i].skip) && !language_available())
            print_message("%s: not compared, built without CLD2\n", subjects[i].golden);
        else
            check_subject(&subjects[i], NULL);
    }
}

static void test_chats(void **state)
{
    (void)state;
    const char *shared = getenv("CRIA_SHARED");
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        if (!strncmp(subjects[i].source, "chat/", 5) && language_available())
            check_subject(&subjects[i], shared);
}

int main(void)
{
    const struct CMUnitTest pages[] = {cmocka_unit_test(test_pages)},
                            chats[] = {cmocka_unit_test(test_chats)};
    if (!mkdtemp(dir)) return 1;
    snprintf(out_path, sizeof out_path, "%s/out.jsonl", dir);
    int failed = cmocka_run_group_tests(pages, NULL, NULL), skipped = 0;
    if (check_shared("cleaning the chat files as FastChat does"))
        failed += cmocka_run_group_tests(chats, NULL, NULL);
    else
        skipped = 1;
    unlink(out_path);
    rmdir(dir);
    return failed ? 1 : skipped ? CHECK_SKIPPED : 0;
}
