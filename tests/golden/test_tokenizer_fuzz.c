/* Ids of fuzzed texts against the references' (tools/golden/tokenizer_fuzz.py compares 100 MB by
 * hand; here is a slice of it, by its hashes). */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "data/tokenizer/tokenizer.h"
#include "support/fuzz_texts.h"

#define GOLDEN "tests/golden/tokenizers/fuzz.json"

static const char *shared;

static const struct {
    const char *name, *file;
} subjects[] = {{"llama2", "tokenizers/llama2/tokenizer.json"},
                {"llama2_model", "tokenizers/llama2/tokenizer.model"},
                {"llama3", "tokenizers/llama3/tokenizer.json"},
                {"llama3_ranks", "tokenizers/llama3/tokenizer.model"},
                {"neox", "tokenizers/neox/tokenizer.json"},
                {"mistral_model", "tokenizers/mistral/tokenizer.model"},
                {"stories260k_model", "weights/stories260K/tokenizer.model"}};

/* The hash of all ids, -1 behind each text; how many ids. */
static json_int_t hash_texts(const struct tokenizer *t, const json_t *golden, char *hex)
{
    static struct fuzz_texts f;
    struct err e = {0};
    struct id_list ids = {0};
    struct hasher *h = hasher_create();
    struct tokenizer_scratch *scratch = tokenizer_scratch_create();
    json_int_t left = json_integer_value(json_object_get(golden, "bytes")), count = 0, texts = 0;
    assert_non_null(h);
    assert_non_null(scratch);
    fuzz_texts_start(&f, (uint64_t)json_integer_value(json_object_get(golden, "seed")));
    for (; left > 0; texts++) {
        size_t n = fuzz_texts_next(&f);
        ids.len = 0;
        CHECK_OK(tokenizer_encode(t, scratch, f.text, n, TOK_TEXT_START, &ids, &e), &e);
        count += (json_int_t)ids.len;
        assert_int_equal(id_list_append(&ids, &(int32_t){-1}, 1), OK);
        hasher_bytes(h, ids.ids, ids.len * sizeof *ids.ids);
        left -= (json_int_t)n;
    }
    assert_int_equal(texts, json_integer_value(json_object_get(golden, "texts")));
    hasher_hex(h, hex);
    hasher_destroy(h);
    id_list_free(&ids);
    tokenizer_scratch_destroy(scratch);
    return count;
}

static void test_fuzzed_texts(void **state)
{
    (void)state;
    struct err e = {0};
    json_t *golden;
    CHECK_OK(json_parse_file(GOLDEN, &golden, &e), &e);
    const json_t *all = json_object_get(golden, "tokenizers");
    assert_int_equal(json_object_size(all), sizeof subjects / sizeof *subjects);
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        const json_t *want = json_object_get(all, subjects[i].name);
        char path[IO_PATH_MAX], hex[HASH_HEX_SIZE];
        struct tokenizer *t;
        snprintf(path, sizeof path, "%s/%s", shared, subjects[i].file);
        CHECK_OK(tokenizer_open(&t, path, &e), &e);
        json_int_t count = hash_texts(t, golden, hex);
        print_message("%s: %lld ids\n", subjects[i].name, (long long)count);
        assert_int_equal(count, json_integer_value(json_array_get(want, 1)));
        assert_string_equal(hex, json_string_value(json_array_get(want, 0)));
        tokenizer_close(t);
    }
    json_decref(golden);
}

int main(void)
{
    shared = getenv("CRIA_SHARED");
    if (!shared || !io_is_dir(shared)) {
        printf("skipped: the references' tokenizers are not here\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fuzzed_texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
