/* Every real data file is prepared, and what becomes of its records is what an independent count
 * says (tools/golden/records.py): format, records, kept, documents, each reason, and of the chats
 * what each template trains, text by text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "data/prepare/prepare.h"
#include "data/store/store.h"
#include "support/check.h"

static char folder[] = "/tmp/cria_datasets_XXXXXX";
static const char *shared;
static struct tokenizer *llama2, *llama3;
static json_t *golden;

static const char *out_path(void)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/out.h5", folder);
    return path;
}

static int64_t number(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

static void check_counts(const json_t *want, const struct prepare_source_report *s)
{
    assert_string_equal(s->format->name, json_string_value(json_object_get(want, "format")));
    assert_int_equal(s->counts.records, number(want, "records"));
    assert_int_equal(s->counts.kept, number(want, "kept"));
    assert_int_equal(s->counts.documents, number(want, "documents"));
    assert_int_equal(s->leading.count, number(want, "leading"));
    assert_int_equal(s->trailing.count, number(want, "trailing"));
    assert_int_equal(s->left_out.count, number(want, "left_out"));
    for (int r = 1; r < NUM_DROP_REASONS; r++)
        assert_int_equal(s->dropped[r].count,
                         number(json_object_get(want, "dropped"), drop_name((enum drop_reason)r)));
    assert_int_equal(s->counts.records, s->counts.kept + prepare_dropped(s));
}

/* Feeds the trained stretches of a document, as text, a zero byte behind each. */
static void feed_trained(struct hasher *h, const struct sample *s, const struct tokenizer *tok,
                         struct buf *text)
{
    struct err e = {0};
    for (size_t i = 0, end; i < s->n; i = end) {
        for (end = i; end < s->n && (s->weights[end] != 0) == (s->weights[i] != 0);) end++;
        if (s->weights[i] == 0) continue;
        buf_clear(text);
        CHECK_OK(tokenizer_decode(tok, s->ids + i, end - i, 0, text, &e), &e);
        hasher_bytes(h, text->data, text->len + 1);
    }
}

static void check_trained(const char *want, const struct tokenizer *tok)
{
    struct err e = {0};
    struct store *s = NULL;
    struct sample sample = {0};
    struct hasher *h = hasher_create();
    struct buf text;
    char hex[HASH_HEX_SIZE];
    buf_init(&text, 1 << 24);
    CHECK_OK(store_open(&s, out_path(), &e), &e);
    for (int64_t d = 0; d < store_info(s)->num_documents; d++) {
        CHECK_OK(store_document(s, d, &sample, &e), &e);
        feed_trained(h, &sample, tok, &text);
    }
    hasher_hex(h, hex);
    assert_string_equal(hex, want);
    hasher_destroy(h);
    sample_free(&sample);
    buf_free(&text);
    store_close(s);
}

static void prepare(const json_t *file, const char *template, const char *trained)
{
    struct err e = {0};
    struct prepare_report r = {0};
    char path[IO_PATH_MAX];
    const char *name = json_string_value(json_object_get(file, "path"));
    snprintf(path, sizeof path, "%s/%s", shared, name);
    struct prepare_source source = {.path = path};
    struct tokenizer *tok = template && !strcmp(template, "llama3") ? llama3 : llama2;
    struct prepare_options o = {.sources = &source,
                                .num_sources = 1,
                                .tokenizer = tok,
                                .template = template ? template_find(template) : NULL,
                                .kind = PREPARE_ANY_KIND};
    print_message("%s %s\n", name, template ? template : "");
    CHECK_OK(prepare_dataset(&o, out_path(), &r, NULL, NULL, &e), &e);
    check_counts(file, &r.sources[0]);
    if (trained) check_trained(trained, tok);
    prepare_report_free(&r);
}

static void test_every_record(void **state)
{
    (void)state;
    size_t i;
    json_t *file;
    json_array_foreach(golden, i, file)
    {
        const char *template;
        json_t *hash, *trained = json_object_get(file, "trained");
        const char *format = json_string_value(json_object_get(file, "format"));
        json_object_foreach(trained, template, hash)
        {
            prepare(file, template, json_string_value(hash));
        }
        if (!trained) prepare(file, strcmp(format, "text") ? "alpaca" : NULL, NULL);
    }
    assert_int_equal(i, 27);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_record)};
    struct err e = {0};
    char path[IO_PATH_MAX];
    shared = getenv("CRIA_SHARED");
    if (!shared || !io_is_dir(shared)) {
        printf("skipped: CRIA_SHARED names no folder with the data files\n");
        return 77;
    }
    if (!mkdtemp(folder) || json_parse_file("tests/golden/datasets.json", &golden, &e)) return 1;
    snprintf(path, sizeof path, "%s/tokenizers/llama2", shared);
    if (tokenizer_open(&llama2, path, &e)) return 1;
    snprintf(path, sizeof path, "%s/tokenizers/llama3", shared);
    if (tokenizer_open(&llama3, path, &e)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tokenizer_close(llama2);
    tokenizer_close(llama3);
    json_decref(golden);
    return io_remove_tree(folder, &e) ? 1 : failed;
}
