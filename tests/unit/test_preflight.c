/* What the preflight finds in a dataset file that cria did not write, and in a base whose special
 * tokens were never trained. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "ckpt/safetensors.h"
#include "run/session.h"
#include "support/tiny_run.h"

enum { BOS = 1, EOS = 2, WORD = 100 };

/* ids, and which of them are trained; -1 ends a document. */
struct document {
    int ids[16];
    const char *trained; /* '1': yes */
};

static const struct document documents[] = {
    {{BOS, WORD, WORD, EOS, -1}, "0011"},                            /* fine */
    {{BOS, BOS, WORD, WORD, EOS, -1}, "00011"},                      /* doubled BOS */
    {{BOS, WORD, WORD, WORD, -1}, "0011"},                           /* never ends */
    {{BOS, WORD, WORD, WORD, EOS, WORD, WORD, EOS, -1}, "00110011"}, /* one reply open */
    {{BOS, WORD, WORD, WORD, WORD, WORD, WORD, WORD, WORD, EOS, -1}, "0111111111"}, /* end cut */
    {{BOS, WORD, WORD, WORD, WORD, WORD, WORD, WORD, WORD, EOS, -1}, "0000000001"}, /* dropped */
    {{BOS, WORD, WORD, EOS, WORD, -1}, "00111"}, /* trained behind the end, as compat trl does */
};
enum { NUM_DOCUMENTS = sizeof documents / sizeof *documents };

static void write_store(const char *path, const struct tokenizer *tokenizer)
{
    char hash[HASH_HEX_SIZE];
    struct err e = {0};
    const struct template *t = template_find("orca");
    CHECK_OK(template_hash(t, hash, &e), &e);
    struct store_settings settings = {.tokenizer_hash = tokenizer_hash(tokenizer),
                                      .template_name = t->name,
                                      .template_hash = hash,
                                      .train_on = "assistant",
                                      .vocab_size = tokenizer_vocab_size(tokenizer)};
    struct store_source source = {"mine.jsonl", "mine.jsonl", ""};
    struct store_writer *w;
    CHECK_OK(store_writer_open(&w, path, &settings, &source, 1, &e), &e);
    for (int d = 0; d < NUM_DOCUMENTS; d++) {
        struct sample s = {.line = d + 1};
        CHECK_OK(sample_begin_turn(&s, ROLE_ASSISTANT), &e);
        for (int i = 0; documents[d].ids[i] >= 0; i++) {
            int32_t id = documents[d].ids[i];
            CHECK_OK(sample_append(&s, &id, 1, documents[d].trained[i] == '1'), &e);
        }
        CHECK_OK(store_writer_append(w, &s, &e), &e);
        sample_free(&s);
    }
    CHECK_OK(store_writer_commit(w, NULL, &e), &e);
    store_writer_close(w);
}

static const struct preflight_finding *find(const struct preflight *p, enum preflight_kind kind)
{
    for (int i = 0; i < p->count; i++)
        if (p->findings[i].kind == kind) return &p->findings[i];
    return NULL;
}

static void prepare(struct session *s, struct config *c, const struct tiny *t, const char *model,
                    const char *data, const char *length, const char *more)
{
    char text[4][256];
    struct err e = {0};
    snprintf(text[0], 256, "model_name_or_path=%s", model);
    snprintf(text[1], 256, "output_dir=%s/out", t->dir);
    snprintf(text[2], 256, "datasets=%s/%s", t->dir, data);
    const char *items[] = {text[0], text[1], text[2], "template=orca", length, more};
    CHECK_OK(config_load(c, NULL, items, 6, &e), &e);
    CHECK_OK(session_prepare(s, c, SESSION_PLAN, NULL, &e), &e);
}

static void finish(struct session *s, struct config *c)
{
    session_close(s);
    config_free(c);
}

static void expect(const struct preflight *p, enum preflight_kind kind, int64_t documents_found,
                   const char *where)
{
    const struct preflight_finding *f = find(p, kind);
    if (!documents_found) {
        assert_null(f);
        return;
    }
    assert_non_null(f);
    assert_int_equal(f->documents, documents_found);
    assert_non_null(strstr(f->where, where));
    assert_true(f->hint[0]);
}

static void test_documents(void **state)
{
    static struct session s;
    struct config c;
    struct tiny t;
    char path[256];
    struct err e = {0};
    struct tokenizer *tokenizer;
    (void)state;
    tiny_init(&t);
    CHECK_OK(tokenizer_open(&tokenizer, TINY_MODEL, &e), &e);
    tiny_path(&t, "mine.h5", path);
    write_store(path, tokenizer);
    tokenizer_close(tokenizer);
    prepare(&s, &c, &t, TINY_MODEL, "mine.h5", "max_length=8", "seed=1");
    assert_int_equal(s.preflight.checked, NUM_DOCUMENTS - 1);
    expect(&s.preflight, PREFLIGHT_doubled_bos, 1, "mine.jsonl, line 2");
    expect(&s.preflight, PREFLIGHT_unlabelled_end, 2, "mine.jsonl, line 3; mine.jsonl, line 4");
    expect(&s.preflight, PREFLIGHT_end_cut_off, 1, "mine.jsonl, line 5");
    expect(&s.preflight, PREFLIGHT_nothing_to_learn, 1, "mine.jsonl, line 6");
    expect(&s.preflight, PREFLIGHT_untrained_token, 0, NULL);
    finish(&s, &c);
    tiny_free(&t);
}

/* What cria prepares itself has nothing odd. */
static void test_own_data(void **state)
{
    static struct session s;
    struct config c;
    struct tiny t;
    (void)state;
    tiny_init(&t);
    prepare(&s, &c, &t, TINY_MODEL, "data.jsonl", "max_length=256", "seed=1");
    assert_int_equal(s.preflight.checked, TINY_RECORDS);
    assert_int_equal(s.preflight.count, 0);
    finish(&s, &c);
    tiny_free(&t);
}

/* A copy of the tiny model whose row of `id` is zero, or that of its neighbour. */
static void spoil_row(const struct tiny *t, int id, int like_neighbour)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    char from[256], to[256], dir[256];
    struct err e = {0};
    struct tensor_files *f;
    tiny_path(t, "base", dir);
    CHECK_OK(io_make_dirs(dir, &e), &e);
    for (int i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/%s", TINY_MODEL, files[i]);
        snprintf(to, sizeof to, "%s/base/%s", t->dir, files[i]);
        CHECK_OK(io_copy_file(from, to, &e), &e);
    }
    CHECK_OK(tensor_files_open(&f, dir, &e), &e);
    const struct tensor_info *info = tensor_files_find(f, WEIGHT_EMBEDDING);
    assert_non_null(info);
    assert_int_equal(info->type, FILE_F32);
    size_t row = (size_t)info->shape[1];
    float values[256] = {0};
    assert_true(row <= 256);
    if (like_neighbour)
        CHECK_OK(tensor_read_float(f, info, (size_t)(id + 1) * row, row, values, &e), &e);
    snprintf(to, sizeof to, "%s/base/model.safetensors", t->dir);
    int fd = open(to, O_WRONLY);
    off_t at = (off_t)(info->offset + (size_t)id * row * sizeof *values);
    assert_int_equal(pwrite(fd, values, row * sizeof *values, at), row * sizeof *values);
    close(fd);
    tensor_files_close(f);
}

static void test_untrained_row(void **state)
{
    static struct session s;
    struct config c;
    char base[256];
    (void)state;
    for (int like_neighbour = 0; like_neighbour < 2; like_neighbour++)
        for (int lora = 0; lora < 2; lora++) {
            struct tiny t;
            tiny_init(&t);
            spoil_row(&t, EOS, like_neighbour);
            tiny_path(&t, "base", base);
            prepare(&s, &c, &t, base, "data.jsonl", "max_length=256",
                    lora ? "finetuning=lora" : "finetuning=full");
            const struct preflight_finding *f = find(&s.preflight, PREFLIGHT_untrained_token);
            assert_non_null(f);
            assert_non_null(strstr(f->what, "</s> (id 2)"));
            assert_non_null(strstr(f->what, like_neighbour ? "neighbour" : "zero"));
            assert_non_null(strstr(f->where, "data.jsonl, line 1"));
            assert_int_equal(f->hint[0] != 0, lora);
            finish(&s, &c);
            tiny_free(&t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_own_data),
        cmocka_unit_test(test_untrained_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
