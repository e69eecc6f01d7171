/* Ids of every text of the shared data against the references' (tools/golden/tokenizer_hashes.py
 * says which texts a file has and how they are hashed), decoding back to the text, and the texts of
 * llama.cpp with their ids. Prints megabytes and speed a tokenizer, on one thread of several. */
#include "support/check.h"

#include <dirent.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/tokenizer/tokenizer.h"

#define HASHES "tests/golden/tokenizers/hashes.json"
#define TOKENIZERS 7

static const char *shared;

/* What decoding gives back of a text (besides U+2581 becoming a space). */
enum round_trip { SAME, COMPOSED, LOST };

struct subject {
    const char *name;
    enum round_trip round_trip;
    struct tokenizer *tokenizer;
    const json_t *files; /* {file: [hash, number of ids]} */
    double bytes, seconds;
    int differs; /* texts that do not come back: added tokens take a prefix behind them */
    int wrong;   /* files */
};

static struct subject subjects[TOKENIZERS] = {
    {.name = "llama2"},
    {.name = "llama2_model"},
    {.name = "llama3"},
    {.name = "llama3_ranks"},
    {.name = "mistral_model"},
    {.name = "neox", .round_trip = COMPOSED},
    {.name = "stories260k_model", .round_trip = LOST}}; /* it removes white space */

struct texts {
    struct buf bytes;
    size_t *ends, count, cap;
};

static void add_text(struct texts *t, const char *text, size_t n)
{
    if (t->count == t->cap) {
        t->cap = t->cap * 2 + 256;
        t->ends = mem_resize(t->ends, t->cap, sizeof *t->ends);
        if (!t->ends) abort();
    }
    if (buf_append(&t->bytes, text, n)) abort();
    t->ends[t->count++] = t->bytes.len;
}

static void add_strings(struct texts *t, json_t *value)
{
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_string(value)) add_text(t, json_string_value(value), json_string_length(value));
    json_array_foreach(value, i, item) add_strings(t, item);
    json_object_foreach(value, key, item) add_strings(t, item);
}

static int has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && !strcmp(s + n - m, suffix);
}

static void add_json(struct texts *t, const char *text, size_t n)
{
    struct err e = {0};
    json_t *root;
    if (json_parse_text(text, n, "data", &root, &e)) abort();
    add_strings(t, root);
    json_decref(root);
}

/* JSON whole, JSONL a line, the rest as lines. */
static void read_texts(struct texts *t, const char *path)
{
    struct err e = {0};
    struct buf file;
    buf_init(&file, (size_t)1 << 30);
    buf_init(&t->bytes, (size_t)1 << 30);
    if (io_read_file(path, &file, &e)) abort();
    if (has_suffix(path, ".json")) add_json(t, file.data, file.len);
    for (size_t at = 0; !has_suffix(path, ".json") && at < file.len;) {
        const char *line = file.data + at, *newline = memchr(line, '\n', file.len - at);
        size_t n = newline ? (size_t)(newline - line) : file.len - at;
        if (!has_suffix(path, ".jsonl"))
            add_text(t, line, n);
        else if (strspn(line, " \t\r") < n)
            add_json(t, line, n);
        at += n + 1;
    }
    buf_free(&file);
}

/* U+2581 to spaces, in place. */
static void to_spaces(struct buf *b)
{
    size_t to = 0;
    for (size_t i = 0; i < b->len; to++) {
        int mark = b->len - i >= 3 && !memcmp(b->data + i, "\xE2\x96\x81", 3);
        b->data[to] = mark ? ' ' : b->data[i];
        i += mark ? 3 : 1;
    }
    b->len = to;
}

static int comes_back(const struct subject *s, const struct id_list *ids, const char *text,
                      size_t n)
{
    struct err e = {0};
    struct buf got, want;
    if (s->round_trip == LOST) return 1;
    buf_init(&got, (size_t)1 << 30);
    buf_init(&want, (size_t)1 << 30);
    if (tokenizer_decode(s->tokenizer, ids->ids, ids->len, 0, &got, &e)) abort();
    if (buf_append(&want, text, n)) abort();
    if (s->round_trip == COMPOSED) {
        utf8proc_uint8_t *composed = utf8proc_NFC((const utf8proc_uint8_t *)want.data);
        buf_clear(&want);
        if (!composed || buf_puts(&want, (const char *)composed)) abort();
        free(composed);
    } else if (strncmp(s->name, "llama3", 6) != 0) {
        to_spaces(&got);
        to_spaces(&want);
    }
    int same = got.len == want.len && (!got.len || !memcmp(got.data, want.data, got.len));
    buf_free(&got);
    buf_free(&want);
    return same;
}

/* Of this thread, so that a busy machine does not make the tokenizer look slow. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check_file(struct subject *s, struct tokenizer_scratch *scratch, const char *file,
                       const struct texts *t)
{
    static const int32_t end = -1;
    struct err e = {0};
    struct id_list ids = {0};
    struct hasher *h = hasher_create();
    size_t count = 0;
    double seconds = 0;
    int differs = 0;
    char hex[HASH_HEX_SIZE];
    for (size_t i = 0; i < t->count; i++) {
        size_t from = i ? t->ends[i - 1] : 0, n = t->ends[i] - from;
        const char *text = n ? t->bytes.data + from : "";
        ids.len = 0;
        double start = cpu_seconds();
        if (tokenizer_encode(s->tokenizer, scratch, text, n, TOK_TEXT_START, &ids, &e)) abort();
        seconds += cpu_seconds() - start;
        hasher_bytes(h, ids.ids, ids.len * sizeof *ids.ids);
        hasher_bytes(h, &end, sizeof end);
        count += ids.len;
        differs += !comes_back(s, &ids, text, n);
    }
    hasher_hex(h, hex);
    hasher_destroy(h);
    id_list_free(&ids);
    const json_t *want = json_object_get(s->files, file);
    const char *want_hex = json_string_value(json_array_get(want, 0));
    int wrong = !want_hex || strcmp(want_hex, hex) != 0 ||
                json_integer_value(json_array_get(want, 1)) != (json_int_t)count;
#pragma omp critical
    {
        if (wrong) print_error("%s: ids of %s differ\n", s->name, file);
        s->wrong += wrong;
        s->differs += differs;
        s->bytes += (double)t->bytes.len;
        s->seconds += seconds;
    }
}

static void check_all(const char *file, json_int_t want_count, struct tokenizer_scratch *scratch)
{
    char path[IO_PATH_MAX];
    struct texts t = {0};
    snprintf(path, sizeof path, "%s/%s", shared, file);
    read_texts(&t, path);
    if ((json_int_t)t.count != want_count) {
        print_error("%s: %zu texts, the golden has %lld\n", file, t.count, (long long)want_count);
        abort();
    }
    for (int i = 0; i < TOKENIZERS; i++) check_file(&subjects[i], scratch, file, &t);
    buf_free(&t.bytes);
    mem_free(t.ends);
}

static void open_subjects(const json_t *root)
{
    struct err e = {0};
    char path[IO_PATH_MAX];
    const json_t *all = json_object_get(root, "tokenizers");
    assert_int_equal(json_object_size(all), TOKENIZERS);
    for (int i = 0; i < TOKENIZERS; i++) {
        const json_t *one = json_object_get(all, subjects[i].name);
        assert_non_null(one);
        subjects[i].files = json_object_get(one, "files");
        snprintf(path, sizeof path, "%s/%s", shared,
                 json_string_value(json_object_get(one, "source")));
        CHECK_OK(tokenizer_open(&subjects[i].tokenizer, path, &e), &e);
    }
}

static void test_hashes(void **state)
{
    (void)state;
    struct err e = {0};
    json_t *root, *value;
    const char *file, *files[512];
    json_int_t counts[512];
    int n = 0;
    CHECK_OK(json_parse_file(HASHES, &root, &e), &e);
    open_subjects(root);
    json_object_foreach(json_object_get(root, "texts"), file, value)
    {
        assert_true(n < 512);
        counts[n] = json_integer_value(value);
        files[n++] = file;
    }
    assert_true(n > 100);
#pragma omp parallel num_threads(omp_get_max_threads() < 8 ? omp_get_max_threads() : 8)
    {
        struct tokenizer_scratch *scratch = tokenizer_scratch_create();
        if (!scratch) abort();
#pragma omp for schedule(dynamic)
        for (int i = 0; i < n; i++) check_all(files[i], counts[i], scratch);
        tokenizer_scratch_destroy(scratch);
    }
    int wrong = 0;
    for (int i = 0; i < TOKENIZERS; i++) {
        struct subject *s = &subjects[i];
        print_message("%-18s %5.1f MB  %5.1f MB/s a thread  %d texts not given back\n", s->name,
                      s->bytes / 1e6, s->bytes / 1e6 / s->seconds, s->differs);
        wrong += s->wrong;
        /* The one text with "</s>" in it: behind an added token a legacy prefix is decoded. */
        assert_int_equal(s->differs, strcmp(s->name, "llama2") == 0);
        tokenizer_close(s->tokenizer);
    }
    json_decref(root);
    assert_int_equal(wrong, 0);
}

/* llama.cpp's: texts between marker lines, ids one text a line. */
static void check_llama_cpp(const char *name, const char *tokenizer)
{
    static const char marker[] = "\n__ggml_vocab_test__\n";
    struct err e = {0};
    struct buf in, out;
    struct tokenizer *t;
    struct id_list ids = {0};
    char path[IO_PATH_MAX];
    int texts = 0;
    buf_init(&in, 1 << 20);
    buf_init(&out, 1 << 20);
    snprintf(path, sizeof path, "%s/tokenizers/golden/%s.inp", shared, name);
    CHECK_OK(io_read_file(path, &in, &e), &e);
    snprintf(path, sizeof path, "%s/tokenizers/golden/%s.out", shared, name);
    CHECK_OK(io_read_file(path, &out, &e), &e);
    snprintf(path, sizeof path, "%s/tokenizers/%s", shared, tokenizer);
    CHECK_OK(tokenizer_open(&t, path, &e), &e);
    struct tokenizer_scratch *scratch = tokenizer_scratch_create();
    assert_non_null(scratch);
    char *line = out.data;
    for (char *text = in.data, *next; text; text = next, texts++) {
        char *end = strstr(text, marker);
        next = end ? end + strlen(marker) : NULL;
        if (!end) end = in.data + in.len;
        if (end == text && !next) break; /* behind the last marker */
        ids.len = 0;
        CHECK_OK(tokenizer_encode(t, scratch, text, (size_t)(end - text), TOK_TEXT_START, &ids, &e),
                 &e);
        char *stop = strchr(line, '\n'), *rest = line;
        if (stop) *stop = 0;
        for (size_t i = 0; i < ids.len; i++) assert_int_equal(strtol(rest, &rest, 10), ids.ids[i]);
        assert_int_equal(strspn(rest, " \r"), strlen(rest));
        line = stop ? stop + 1 : rest;
    }
    assert_true(texts > 40);
    assert_int_equal(*line, 0);
    id_list_free(&ids);
    tokenizer_scratch_destroy(scratch);
    tokenizer_close(t);
    buf_free(&in);
    buf_free(&out);
}

static void test_llama_cpp(void **state)
{
    (void)state;
    check_llama_cpp("llama-spm", "llama2/tokenizer.json");
    check_llama_cpp("llama-spm", "llama2/tokenizer.model");
    check_llama_cpp("llama-bpe", "llama3/tokenizer.json");
    check_llama_cpp("llama-bpe", "llama3/tokenizer.model");
}

/* What the examples of Llama 2 directories say besides the vocabulary. */
static void test_directory(void **state)
{
    (void)state;
    struct err e = {0};
    struct tokenizer *t;
    char path[IO_PATH_MAX];
    snprintf(path, sizeof path, "%s/tokenizers/llama2", shared);
    CHECK_OK(tokenizer_open(&t, path, &e), &e);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_adds_bos(t));
    assert_false(tokenizer_adds_eos(t));
    assert_null(tokenizer_chat_template(t));
    struct tokenizer_scratch *scratch = tokenizer_scratch_create();
    static const int32_t want[] = {15043, 29871, 1, 869};
    struct id_list ids = {0};
    CHECK_OK(tokenizer_encode(t, scratch, "Hello <s>.", 10, TOK_TEXT_START, &ids, &e), &e);
    assert_int_equal(ids.len, 4);
    assert_memory_equal(ids.ids, want, sizeof want);
    id_list_free(&ids);
    tokenizer_scratch_destroy(scratch);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_llama_cpp),
                                       cmocka_unit_test(test_directory),
                                       cmocka_unit_test(test_hashes)};
    shared = check_shared("ids of every text against the reference tokenizers");
    if (!shared) return CHECK_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
