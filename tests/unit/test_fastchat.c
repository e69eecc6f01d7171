/* compat: fastchat labels what FastChat's own trainer does (tests/golden/fastchat.json), for a
 * legacy tokenizer and one that is not, truncated and not; compat: trl trains the tail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/formats/format.h"
#include "data/jsonl/jsonl.h"
#include "data/samples/encode.h"
#include "support/check.h"

static const char *shared;
static json_t *golden;

/* Llama-2's tokenizer as it stands, or with Metaspace in its normalizer's place. */
static struct tokenizer *open_tokenizer(const char *kind)
{
    char path[IO_PATH_MAX], dir[] = "/tmp/cria-fastchat-XXXXXX";
    struct err e = {0};
    struct tokenizer *t;
    json_t *root;
    snprintf(path, sizeof path, "%s/tokenizers/llama2/tokenizer.json", shared);
    if (!strcmp(kind, "legacy")) {
        CHECK_OK(tokenizer_open(&t, path, &e), &e);
        return t;
    }
    CHECK_OK(json_parse_file(path, &root, &e), &e);
    json_object_set_new(root, "normalizer", json_null());
    json_object_set_new(root, "pre_tokenizer",
                        json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement",
                                  "\xe2\x96\x81", "prepend_scheme", "first", "split", 0));
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    CHECK_OK(json_write_file(root, path, &e), &e);
    CHECK_OK(tokenizer_open(&t, path, &e), &e);
    CHECK_OK(io_remove_tree(dir, &e), &e);
    json_decref(root);
    return t;
}

/* As tools/golden/fastchat_labels.py makes them. */
static void digits(const struct sample *s, size_t max_length, char out[HASH_HEX_SIZE])
{
    size_t n = s->n < max_length ? s->n : max_length;
    int32_t *data = mem_calloc(2 * n + 1, sizeof *data);
    memcpy(data, s->ids, n * sizeof *data);
    for (size_t i = 0; i < n; i++) data[n + i] = s->weights[i] != 0 ? s->ids[i] : -100;
    hash_hex(data, 2 * n * sizeof *data, out);
    mem_free(data);
}

static void check_record(struct encoder *n, const json_t *record, size_t max_length,
                         const char *want, size_t *seen)
{
    struct err e = {0};
    struct conversation c = {0};
    struct sample s = {0};
    char hash[HASH_HEX_SIZE];
    CHECK_OK(format_convert(format_find("sharegpt"), record, &c, &e), &e);
    if (!c.drop && want[0] != '-') {
        CHECK_OK(encoder_sample(n, &c, &s, &e), &e);
        digits(&s, max_length, hash);
        /* FastChat's text has the question that has no reply, where it is not cut off. */
        int whole = !(c.repairs & REPAIR_TRAILING_QUESTION) || s.n >= max_length;
        if (whole && strncmp(hash, want, 8) != 0)
            fail_msg("%s: %.8s, not %.8s, at %zu tokens", json_dumps(record, JSON_ENSURE_ASCII),
                     hash, want, max_length);
        for (size_t i = 0; !whole && i < s.n; i++) assert_true(s.weights[i] == 0);
        (*seen)++;
    }
    sample_free(&s);
    conversation_free(&c);
}

static void check_file(struct encoder *n, const char *name, size_t max_length, const char *want,
                       size_t *seen)
{
    char path[IO_PATH_MAX];
    struct err e = {0};
    struct jsonl *j;
    struct jsonl_record r;
    snprintf(path, sizeof path, "%s/%s", shared, name);
    CHECK_OK(jsonl_open(&j, path, NULL, &e), &e);
    for (; *want; want += strcspn(want, " "), want += *want == ' ') {
        CHECK_OK(jsonl_next(j, &r, &e), &e);
        check_record(n, r.value, max_length, want, seen);
    }
    jsonl_close(j);
}

static void test_labels(void **state)
{
    (void)state;
    static const char *const files[] = {"chat/vicuna_dummy_500.json", "chat/sharegpt_zh_1k.jsonl"};
    struct err e = {0};
    const json_t *set;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(golden, "labels"), i, set)
    {
        struct tokenizer *t = open_tokenizer(json_string_value(json_object_get(set, "tokenizer")));
        json_int_t max = json_integer_value(json_object_get(set, "max_length"));
        struct encode_options o = {TRAIN_ASSISTANT, 0, COMPAT_FASTCHAT, (int32_t)max};
        struct encoder *n;
        CHECK_OK(encoder_create(&n, template_find("vicuna"), t, &o, &e), &e);
        const char *want = json_string_value(json_object_get(set, "hand_made"));
        const json_t *record;
        size_t k;
        json_array_foreach(json_object_get(golden, "hand_made"), k, record)
            check_record(n, record, (size_t)max, want + 9 * k, &seen);
        for (size_t f = 0; f < 2; f++)
            check_file(n, files[f], (size_t)max, json_string_value(json_object_get(set, files[f])),
                       &seen);
        encoder_destroy(n);
        tokenizer_close(t);
    }
    assert_true(seen > 6 * 600);
}

static void test_refusals(void **state)
{
    (void)state;
    struct err e = {0};
    struct encoder *n;
    struct tokenizer *t = open_tokenizer("legacy");
    struct encode_options o = {TRAIN_ASSISTANT, 0, COMPAT_FASTCHAT, 100};
    assert_int_equal(encoder_create(&n, template_find("alpaca"), t, &o, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "vicuna"));
    o.train_on = TRAIN_ALL;
    assert_int_equal(encoder_create(&n, template_find("vicuna"), t, &o, &e), ERR_CONFIG);
    tokenizer_close(t);
}

/* The line end behind Zephyr's end token: untrained, and with TRL trained. */
static void test_trl(void **state)
{
    (void)state;
    struct err e = {0};
    struct conversation c = {0};
    struct sample s = {0};
    struct tokenizer *t = open_tokenizer("legacy");
    CHECK_OK(conversation_add(&c, ROLE_USER, (struct text){"Hi", 2}), &e);
    for (int trl = 0; trl < 2; trl++) {
        struct encode_options o = {TRAIN_ASSISTANT, 1, trl ? COMPAT_TRL : COMPAT_NONE, 0};
        struct encoder *n;
        CHECK_OK(encoder_create(&n, template_find("zephyr"), t, &o, &e), &e);
        CHECK_OK(conversation_add(&c, ROLE_ASSISTANT, (struct text){"Ho", 2}), &e);
        CHECK_OK(encoder_sample(n, &c, &s, &e), &e);
        assert_int_equal(s.ids[s.n - 1], 13); /* <0x0A> */
        assert_int_equal(s.ids[s.n - 3], 2);
        assert_true(s.weights[s.n - 3] == 1);
        assert_true(s.weights[s.n - 2] == trl && s.weights[s.n - 1] == trl);
        c.num_turns = 1;
        c.kind = KIND_UNPAIRED;
        c.chosen = (struct reply){1, {"Ho", 2}};
        CHECK_OK(encoder_preference(n, &c, &s, &e), &e);
        assert_int_equal(s.ids[s.n - 1], trl ? 13 : 2);
        c.kind = KIND_SFT;
        encoder_destroy(n);
    }
    sample_free(&s);
    conversation_free(&c);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_trl),
    };
    struct err e = {0};
    if (!(shared = check_shared("FastChat's labels, and TRL's"))) return CHECK_SKIPPED;
    if (json_parse_file("tests/golden/fastchat.json", &golden, &e)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(golden);
    return failed;
}
