/* What is trained, decoded, is what the template's row says is trained: the row's `reply` around
 * each reply's text, nothing more and nothing less. Every template, records of every chat and
 * instruction file of the shared data (all of a small file, some from all over a large one). One
 * tokenizer whose ids give back every byte: Llama-3's, with the tokens that the rows name. */
#include <dirent.h>
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
#include "data/formats/format.h"
#include "data/jsonl/jsonl.h"
#include "data/samples/encode.h"
#include "support/check.h"

#define RECORDS 30 /* of a file */

static const char *shared;
static struct tokenizer *tokenizer;
static int64_t checked;

static struct tokenizer *open_tokenizer(void)
{
    static const char *const added[] = {"<|im_start|>", "<|im_end|>", "<|end_of_turn|>"};
    char path[IO_PATH_MAX], dir[] = "/tmp/cria-masks-XXXXXX";
    struct err e = {0};
    struct tokenizer *t;
    json_t *root;
    snprintf(path, sizeof path, "%s/tokenizers/llama3/tokenizer.json", shared);
    CHECK_OK(json_parse_file(path, &root, &e), &e);
    json_t *tokens = json_object_get(root, "added_tokens");
    for (size_t i = 0; i < 3; i++)
        json_array_append_new(tokens,
                              json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (int)(128256 + i),
                                        "content", added[i], "single_word", 0, "lstrip", 0,
                                        "rstrip", 0, "normalized", 0, "special", 1));
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    CHECK_OK(json_write_file(root, path, &e), &e);
    CHECK_OK(tokenizer_open(&t, path, &e), &e);
    CHECK_OK(io_remove_tree(dir, &e), &e);
    json_decref(root);
    return t;
}

static const char *eos_text(void)
{
    static struct buf text;
    struct err e = {0};
    int32_t eos = tokenizer_eos(tokenizer);
    if (text.data) return text.data;
    buf_init(&text, 100);
    CHECK_OK(tokenizer_decode(tokenizer, &eos, 1, 0, &text, &e), &e);
    return text.data;
}

/* What the row says of one reply, put together apart from the code that renders. */
static void expect_reply(const char *pattern, struct text content, struct buf *out)
{
    struct err e = {0};
    while (*pattern) {
        if (!strncmp(pattern, "{content}", 9)) {
            CHECK_OK(buf_append(out, content.data, content.n), &e);
            pattern += 9;
        } else if (!strncmp(pattern, "{eos}", 5)) {
            CHECK_OK(buf_puts(out, eos_text()), &e);
            pattern += 5;
        } else if (*pattern == '{' || *pattern == '}') {
            pattern++;
        } else {
            CHECK_OK(buf_putc(out, *pattern++), &e);
        }
    }
    CHECK_OK(buf_putc(out, '\x01'), &e); /* between spans */
}

static void expect(const struct template *t, const struct conversation *c, enum train_on on,
                   struct buf *out)
{
    buf_clear(out);
    for (size_t i = 0; i < c->num_turns; i++) {
        const struct turn *turn = &c->turns[i];
        int last = i + 1 == c->num_turns;
        if (turn->role != ROLE_ASSISTANT || turn->weight == 0) continue;
        if (on == TRAIN_LAST && !last) continue;
        expect_reply(last && t->last_reply ? t->last_reply : t->reply,
                     t->strip ? text_strip(turn->text) : turn->text, out);
    }
}

static void found(const struct sample *s, struct buf *out)
{
    struct err e = {0};
    buf_clear(out);
    for (size_t i = 0, end; i < s->n; i = end) {
        for (end = i; end < s->n && s->weights[end] != 0;) end++;
        if (end == i) {
            end++;
            continue;
        }
        CHECK_OK(tokenizer_decode(tokenizer, s->ids + i, end - i, 0, out, &e), &e);
        CHECK_OK(buf_putc(out, '\x01'), &e);
    }
}

static void check_conversation(struct encoder *n, const struct template *t, enum train_on on,
                               struct conversation *c, const char *where)
{
    static struct buf want, have;
    static struct sample s;
    struct err e = {0};
    if (!want.max) buf_init(&want, 1 << 28), buf_init(&have, 1 << 28);
    CHECK_OK(encoder_sample(n, c, &s, &e), &e);
    expect(t, c, on, &want);
    found(&s, &have);
    if (want.len != have.len || memcmp(want.data, have.data, want.len) != 0)
        fail_msg("%s, %s: trained is\n%s\nnot\n%s", where, t->name, have.data, want.data);
    checked++;
}

static void check_record(const json_t *record, const struct format *f, const char *where)
{
    static struct encoder *encoders[2][64];
    struct err e = {0};
    struct conversation c = {0};
    const struct template *t;
    if (format_convert(f, record, &c, &e) || c.drop || c.plain || c.kind != KIND_SFT) goto out;
    for (size_t i = 0; (t = template_at(i)); i++)
        for (int last = 0; last < 2; last++) {
            enum train_on on = last ? TRAIN_LAST : TRAIN_ASSISTANT;
            struct encode_options o = {.train_on = on};
            if (!encoders[last][i])
                CHECK_OK(encoder_create(&encoders[last][i], t, tokenizer, &o, &e), &e);
            check_conversation(encoders[last][i], t, on, &c, where);
        }
out:
    conversation_free(&c);
}

static void check_file(const char *path)
{
    struct err e = {0};
    struct jsonl *j;
    struct jsonl_record r;
    const struct format *f;
    int64_t records = 0;
    if (format_detect(path, NULL, NULL, &f, &e)) return;
    for (int counting = 1; counting >= 0; counting--) {
        int64_t step = records > RECORDS ? records / RECORDS : 1, at = 0;
        CHECK_OK(jsonl_open(&j, path, NULL, &e), &e);
        while (!jsonl_next(j, &r, &e) && r.kind != JSONL_END) {
            if (counting)
                records++;
            else if (at++ % step == 0 && r.kind == JSONL_RECORD)
                check_record(r.value, f, path);
        }
        jsonl_close(j);
    }
}

static void check_folder(const char *name)
{
    char dir[IO_PATH_MAX], path[IO_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/%s", shared, name);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d));) {
        const char *dot = strrchr(entry->d_name, '.');
        int64_t before = checked;
        if (!dot || (strcmp(dot, ".json") != 0 && strcmp(dot, ".jsonl") != 0)) continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        check_file(path);
        print_message("%s: %lld\n", entry->d_name, (long long)(checked - before));
    }
    closedir(d);
}

static void test_chat(void **state)
{
    (void)state;
    check_folder("chat");
    assert_true(checked > 2 * 18 * 100);
}

static void test_instructions(void **state)
{
    (void)state;
    int64_t before = checked;
    check_folder("sft");
    assert_true(checked - before > 2 * 18 * 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_instructions),
    };
    if (!(shared = check_shared("what is trained of the chat files"))) return CHECK_SKIPPED;
    tokenizer = open_tokenizer();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tokenizer_close(tokenizer);
    return failed;
}
