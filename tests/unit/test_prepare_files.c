/* data/prepare over the real instruction, chat and preference files: every record is accounted
 * for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "data/prepare/prepare.h"
#include "data/store/store.h"

static char folder[] = "/tmp/cria_prepare_files_XXXXXX";
static const char *shared;
static struct tokenizer *tok;

static const struct {
    const char *file, *format, *template;
    int64_t records, documents;
} files[] = {
    {"sft/alpaca_en_demo.json", "alpaca", "alpaca", 999, 999},
    {"sft/alpaca_zh_demo.json", "alpaca", "alpaca", 1000, 1000},
    {"sft/code_alpaca_4k.json", "alpaca", "alpaca", 4535, 4535},
    {"sft/alpaca_libre_v1.jsonl", "alpaca", "alpaca", 2375, 2138},
    {"sft/open_orca_native_284.jsonl", "openorca", "orca", 284, 284},
    {"chat/vicuna_dummy_500.json", "sharegpt", "vicuna", 500, 500},
    {"chat/sharegpt_zh_1k.jsonl", "sharegpt", "vicuna", 1000, 998},
    {"chat/openai_messages_500.jsonl", "openai", "llama2", 500, 500},
    {"chat/openai_messages_gsm8k_449.jsonl", "openai", "zephyr", 449, 449},
    {"corpus/c4_demo.jsonl", "text", NULL, 300, 300},
};

static void test_files(void **state)
{
    (void)state;
    char path[IO_PATH_MAX], out[IO_PATH_MAX], message[2048];
    snprintf(out, sizeof out, "%s/out.h5", folder);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct err e = {0};
        struct prepare_report r = {0};
        struct store *s = NULL;
        snprintf(path, sizeof path, "%s/%s", shared, files[i].file);
        struct prepare_source source = {.path = path};
        struct prepare_options o = {.sources = &source, .num_sources = 1, .tokenizer = tok};
        if (files[i].template) o.template = template_find(files[i].template);
        if (prepare_dataset(&o, out, &r, NULL, NULL, &e)) {
            err_format(&e, message, sizeof message);
            fail_msg("%s", message);
        }
        const struct prepare_source_report *p = &r.sources[0];
        assert_string_equal(p->format->name, files[i].format);
        assert_int_equal(p->counts.records, files[i].records);
        assert_int_equal(p->counts.documents, files[i].documents);
        assert_int_equal(p->counts.records, p->counts.documents + prepare_dropped(p));
        assert_int_equal(store_open(&s, out, &e), OK);
        assert_int_equal(store_info(s)->num_documents, files[i].documents);
        assert_int_equal(store_info(s)->num_tokens, p->counts.tokens);
        assert_int_equal(store_info(s)->num_targets, p->counts.supervised);
        store_close(s);
        prepare_report_free(&r);
    }
}

/* Numbers from an independent count in Python, with the reference tokenizer and TRL's rule for
 * where a reply starts; all ids were compared too. */
static const struct {
    const char *file, *format;
    enum record_kind kind;
    int64_t records, documents, empty, roles, chosen, rejected, tokens;
} preferences[] = {
    {"azure_dpo_284.jsonl", "azure_pairs", KIND_PAIR, 284, 284, 0, 0, 284, 284, 227379},
    {"hh_rlhf_harmless_1156.jsonl", "transcript_pairs", KIND_PAIR, 1156, 1150, 4, 2, 1150, 1150,
     297754},
    {"kto_en_300.json", "openai_label", KIND_UNPAIRED, 300, 300, 0, 0, 150, 150, 228213},
    {"orca_dpo_pairs_native_284.jsonl", "orca_pairs", KIND_PAIR, 284, 284, 0, 0, 284, 284, 227379},
    {"sharegpt_dpo_300.json", "sharegpt_pairs", KIND_PAIR, 300, 300, 0, 0, 300, 300, 370706},
    {"ultrafeedback_form_284.jsonl", "message_pairs", KIND_PAIR, 284, 284, 0, 0, 284, 284, 223403},
};

static void check_preferences(const char *out, const struct prepare_report *r, size_t i)
{
    struct err e = {0};
    struct store *s = NULL;
    const struct prepare_source_report *p = &r->sources[0];
    assert_string_equal(p->format->name, preferences[i].format);
    assert_int_equal(r->kind, preferences[i].kind);
    assert_int_equal(p->counts.records, preferences[i].records);
    assert_int_equal(p->counts.documents, preferences[i].documents);
    assert_int_equal(p->counts.records, p->counts.documents + prepare_dropped(p));
    assert_int_equal(p->dropped[DROP_EMPTY_REPLY].count, preferences[i].empty);
    assert_int_equal(p->dropped[DROP_ROLES].count, preferences[i].roles);
    assert_int_equal(p->counts.chosen, preferences[i].chosen);
    assert_int_equal(p->counts.rejected, preferences[i].rejected);
    assert_int_equal(p->counts.tokens, preferences[i].tokens);
    assert_int_equal(p->counts.tokens, p->counts.prompt_tokens + p->counts.supervised);
    assert_int_equal(store_open(&s, out, &e), OK);
    assert_int_equal(store_info(s)->num_documents, preferences[i].documents);
    assert_int_equal(store_info(s)->num_tokens, p->counts.tokens);
    assert_int_equal(store_info(s)->num_targets, p->counts.supervised);
    store_close(s);
}

static void test_preferences(void **state)
{
    (void)state;
    struct err e = {0};
    struct tokenizer *llama2;
    char path[IO_PATH_MAX], out[IO_PATH_MAX], message[2048];
    snprintf(out, sizeof out, "%s/out.h5", folder);
    snprintf(path, sizeof path, "%s/tokenizers/llama2/tokenizer.json", shared);
    assert_int_equal(tokenizer_open(&llama2, path, &e), OK);
    for (size_t i = 0; i < sizeof preferences / sizeof *preferences; i++) {
        struct prepare_report r = {0};
        snprintf(path, sizeof path, "%s/preference/%s", shared, preferences[i].file);
        struct prepare_source source = {.path = path};
        struct prepare_options o = {.sources = &source,
                                    .num_sources = 1,
                                    .tokenizer = llama2,
                                    .template = template_find("vicuna"),
                                    .kind = (int)preferences[i].kind};
        if (prepare_dataset(&o, out, &r, NULL, NULL, &e)) {
            err_format(&e, message, sizeof message);
            fail_msg("%s", message);
        }
        check_preferences(out, &r, i);
        prepare_report_free(&r);
    }
    tokenizer_close(llama2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_preferences)};
    struct err e = {0};
    shared = getenv("CRIA_SHARED");
    if (!shared || !io_is_dir(shared)) {
        fprintf(stderr, "skipped: preparing the real files, no CRIA_SHARED\n");
        return 77;
    }
    if (!mkdtemp(folder)) return 1;
    if (tokenizer_open(&tok, "tests/golden/models/llama_gqa_tied", &e)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tokenizer_close(tok);
    if (io_remove_tree(folder, &e)) return 1;
    return failed;
}
