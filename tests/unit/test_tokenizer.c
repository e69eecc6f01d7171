/* The tokenizer room on small tokenizers made here: what each kind of file means, every error, and
 * what hostile bytes do. The real tokenizers are tested in tests/golden. */
#include "support/check.h"
#include "support/tokenizer_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/tokenizer/bytes.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/utf8.h"

static char folder[64];

static const char *file_path(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *written(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(file_path(name), "wb"); /* io_write_file would sync each of thousands */
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return file_path(name);
}

static struct tokenizer *opened(const char *path)
{
    struct err e = {0};
    struct tokenizer *t;
    CHECK_OK(tokenizer_open(&t, path, &e), &e);
    return t;
}

/* ---- tokenizers ---- */

#define BYTE_TOKENS "\"<0x0A>\":3,\"<0xC3>\":4,\"<0xA9>\":5,"
#define LLAMA_VOCAB                                 \
    "\"<unk>\":0,\"<s>\":1,\"</s>\":2," BYTE_TOKENS \
    "\"▁\":6,\"a\":7,\"b\":8,\"c\":9,\"▁a\":10,\"ab\":11,\"▁ab\":12,\"bc\":13,\"▁▁\":14,\"x\":15"
#define LLAMA_MERGES "\"▁ ab\",\"a b\",\"▁ a\",\"b c\",\"▁ ▁\""
#define ADDED(id, text, flags) "{\"id\":" #id ",\"content\":\"" text "\"" flags "}"
#define SPECIAL ",\"special\":true,\"normalized\":false"
#define LLAMA_ADDED \
    ADDED(0, "<unk>", SPECIAL) "," ADDED(1, "<s>", SPECIAL) "," ADDED(2, "</s>", SPECIAL)
#define LEGACY                                                                            \
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"▁\"}," \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]}"
#define LLAMA_DECODER                                                                              \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"▁\"}," \
    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"                          \
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"
#define BOS_TEMPLATE                                                                    \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}," \
    "{\"Sequence\":{\"id\":\"A\"}}]}"
#define JSON(added, normalizer, pre, decoder, model)                                     \
    "{\"added_tokens\":[" added "],\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre \
    ",\"post_processor\":" BOS_TEMPLATE ",\"decoder\":" decoder                          \
    ",\"model\":{\"type\":\"BPE\"," model "}}"
#define LLAMA_MODEL                                                                            \
    "\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{" LLAMA_VOCAB \
    "},\"merges\":[" LLAMA_MERGES "]"

static const char llama[] = JSON(LLAMA_ADDED, LEGACY, "null", LLAMA_DECODER, LLAMA_MODEL);

static struct tokenizer *open_json(const char *text)
{
    return opened(written("tokenizer.json", text, strlen(text)));
}

static void check_flags(const struct tokenizer *t, const char *text, unsigned flags,
                        const int32_t *want, size_t n)
{
    struct err e = {0};
    struct id_list ids = {0};
    struct tokenizer_scratch *s = tokenizer_scratch_create();
    CHECK_OK(tokenizer_encode(t, s, text, strlen(text), flags, &ids, &e), &e);
    if (ids.len != n || (n && memcmp(ids.ids, want, n * sizeof *want) != 0)) {
        print_error("\"%s\" gives", text);
        for (size_t i = 0; i < ids.len; i++) print_error(" %d", ids.ids[i]);
        print_error("\n");
        fail();
    }
    id_list_free(&ids);
    tokenizer_scratch_destroy(s);
}

#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)
#define CHECK_IDS(t, text, ...) check_flags(t, text, TOK_TEXT_START, IDS(__VA_ARGS__))

static void check_text(const struct tokenizer *t, const int32_t *ids, size_t n, int skip,
                       const char *want)
{
    struct err e = {0};
    struct buf out;
    buf_init(&out, 1 << 20);
    CHECK_OK(tokenizer_decode(t, ids, n, skip, &out, &e), &e);
    assert_string_equal(out.data, want);
    buf_free(&out);
}

static void check_stream(const struct tokenizer *t, int32_t id, int first, const char *want)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(tokenizer_token_bytes(t, id, first, &out), OK);
    assert_string_equal(out.data ? out.data : "", want);
    buf_free(&out);
}

static void test_llama(void **state)
{
    (void)state;
    struct tokenizer *t = open_json(llama);
    assert_int_equal(tokenizer_vocab_size(t), 16);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_adds_bos(t));
    assert_false(tokenizer_adds_eos(t));
    assert_int_equal(tokenizer_find(t, "▁ab"), 12);
    assert_int_equal(tokenizer_find(t, "zz"), -1);
    assert_true(tokenizer_is_special(t, 2));
    assert_false(tokenizer_is_special(t, 3));
    assert_false(tokenizer_is_special(t, 99));
    assert_int_equal(strlen(tokenizer_hash(t)), 32);
    check_flags(t, "", TOK_TEXT_START, NULL, 0);
    CHECK_IDS(t, "ab", 12);
    CHECK_IDS(t, " ab", 6, 12);        /* the best rank first: "▁ ab" before "▁ ▁" */
    CHECK_IDS(t, "abc", 12, 9);        /* ... and before "b c" */
    CHECK_IDS(t, "é\n", 6, 4, 5, 3);   /* bytes */
    CHECK_IDS(t, "ñz", 6, 0);          /* no byte token: unknown, fused */
    CHECK_IDS(t, "a</s>a", 10, 2, 10); /* legacy: a prefix behind every added token */
    check_flags(t, "ab", 0, IDS(11));
    check_flags(t, "ab", TOK_AFTER_ADDED, IDS(12));
    check_flags(t, "a</s>", TOK_TEXT_START | TOK_PLAIN, IDS(10, 0)); /* "</s>": fused unknown */
    check_text(t, IDS(1, 10, 4, 5, 2), 0, "<s> aé</s>");
    check_text(t, IDS(1, 10, 4, 5, 2), 1, "aé");
    check_text(t, IDS(4, 5, 4), 0, "\uFFFD\uFFFD\uFFFD"); /* one run, ill-formed as a whole */
    check_stream(t, 10, 1, "a");
    check_stream(t, 10, 0, " a");
    check_stream(t, 4, 0, "\xC3");
    check_stream(t, 1, 0, "");
    tokenizer_close(t);
}

#define METASPACE(scheme, split)                                                 \
    "{\"type\":\"Metaspace\",\"replacement\":\"▁\",\"prepend_scheme\":\"" scheme \
    "\",\"split\":" split "}"
#define META_JSON(scheme, split) \
    JSON(LLAMA_ADDED, "null", METASPACE(scheme, split), METASPACE(scheme, split), LLAMA_MODEL)

static void test_metaspace(void **state)
{
    (void)state;
    struct tokenizer *t = open_json(META_JSON("first", "false"));
    CHECK_IDS(t, "ab", 12);
    CHECK_IDS(t, " ab", 12);
    CHECK_IDS(t, "ab</s>ab", 12, 2, 11);
    check_flags(t, "ab", TOK_AFTER_ADDED, IDS(11));
    check_text(t, IDS(10, 10), 0, "a a");
    tokenizer_close(t);
    t = open_json(META_JSON("always", "true"));
    CHECK_IDS(t, "ab</s>ab", 12, 2, 12);
    CHECK_IDS(t, "a  a", 10, 6, 10); /* split: the two spaces never meet */
    check_flags(t, "ab", 0, IDS(11));
    tokenizer_close(t);
    t = open_json(META_JSON("never", "false"));
    CHECK_IDS(t, "ab", 11);
    check_text(t, IDS(10, 10), 0, " a a");
    tokenizer_close(t);
}

#define BYTES_VOCAB "\"a\":0,\"b\":1,\"Ġ\":2,\"Ã\":3,\"©\":4,\"ab\":5,\"Ġab\":6,\"1\":7,\"é\":8"
#define BYTES_MERGES "[\"a\",\"b\"],[\"Ġ\",\"ab\"]"
#define BYTES_JSON(added, normalizer, pre, options)                                      \
    "{\"added_tokens\":[" added "],\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre \
    ",\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{" options  \
    "\"vocab\":{" BYTES_VOCAB "},\"merges\":[" BYTES_MERGES "]}}"
#define GPT2 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define PREFIXED "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"
#define SPLIT(pattern)                                                                           \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":" pattern         \
    ",\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":" \
    "false,"                                                                                     \
    "\"use_regex\":false}]}"

static void test_byte_level(void **state)
{
    (void)state;
    struct err e = {0};
    struct tokenizer *t = open_json(BYTES_JSON("", "{\"type\":\"NFC\"}", GPT2, ""));
    CHECK_IDS(t, "ab ab", 5, 6);
    CHECK_IDS(t, "a  ab", 0, 2, 6);
    CHECK_IDS(t, "e\u0301", 3, 4); /* composed */
    assert_int_equal(tokenizer_bos(t), -1);
    assert_false(tokenizer_adds_bos(t));
    check_text(t, IDS(3, 0, 3, 4), 0, "\uFFFDaé"); /* one a maximal ill-formed prefix */
    check_stream(t, 3, 1, "\xC3");
    struct id_list ids = {0};
    struct buf out;
    buf_init(&out, 100);
    struct tokenizer_scratch *s = tokenizer_scratch_create();
    assert_int_equal(tokenizer_encode(t, s, "abz", 3, TOK_TEXT_START, &ids, &e), ERR_DATA);
    assert_int_equal(ids.len, 0);
    assert_non_null(strstr(e.message, "0x7A"));
    assert_int_equal(tokenizer_decode(t, IDS(9), 0, &out, &e), ERR_DATA);
    assert_int_equal(tokenizer_decode(t, IDS(-1), 0, &out, &e), ERR_DATA);
    tokenizer_scratch_destroy(s);
    id_list_free(&ids);
    buf_free(&out);
    tokenizer_close(t);
    t = open_json(BYTES_JSON("", "null", PREFIXED, ""));
    CHECK_IDS(t, "ab", 6);
    check_flags(t, "ab", 0, IDS(5));
    tokenizer_close(t);
    t = open_json(BYTES_JSON("", "null", SPLIT("{\"Regex\":\"a|\\\\s?b\"}"), ""));
    CHECK_IDS(t, "ab b", 0, 1, 2, 1);
    tokenizer_close(t);
    t = open_json(BYTES_JSON("", "null", SPLIT("{\"String\":\"a.\"}"), "\"ignore_merges\":true,"));
    CHECK_IDS(t, "ab ab", 5, 6);
    tokenizer_close(t);
}

static void test_added(void **state)
{
    (void)state;
    struct tokenizer *t = open_json(BYTES_JSON(
        ADDED(9, "<l>", ",\"lstrip\":true") "," ADDED(10, "<r>", ",\"rstrip\":true") "," ADDED(
            11, "bb", ",\"single_word\":true") "," ADDED(12, "é!",
                                                         ",\"normalized\":true") "," ADDED(13,
                                                                                           "<r><r>",
                                                                                           SPECIAL),
        "{\"type\":\"NFC\"}", GPT2, ""));
    CHECK_IDS(t, "a <l> a", 0, 9, 2, 0);
    CHECK_IDS(t, "a <r> \u3000a", 0, 2, 10, 0);
    CHECK_IDS(t, "bb abb bb", 11, 6, 1, 2, 11);
    CHECK_IDS(t, "ae\u0301!", 0, 12);
    CHECK_IDS(t, "<r><r><r>", 13, 10); /* the longest */
    CHECK_IDS(t, "<r> <l>a", 10, 9, 0);
    check_text(t, IDS(9, 0, 13), 1, "<l>a");
    tokenizer_close(t);
}

/* ---- directories ---- */

static void test_directory(void **state)
{
    (void)state;
    static const char config[] =
        "{\"model_max_length\":1000000000000000019884624838656,\"bos_token\":{\"content\":\"a\"},"
        "\"eos_token\":\"b\",\"add_bos_token\":false,\"chat_template\":[{\"name\":\"default\","
        "\"template\":\"{{ 12345678901234567890 }}\"}]}";
    written("tokenizer.json", llama, strlen(llama));
    written("tokenizer_config.json", config, strlen(config));
    struct tokenizer *t = opened(folder);
    assert_int_equal(tokenizer_bos(t), 7);
    assert_int_equal(tokenizer_eos(t), 8);
    assert_false(tokenizer_adds_bos(t));
    assert_string_equal(tokenizer_chat_template(t), "{{ 12345678901234567890 }}");
    tokenizer_close(t);
    written("chat_template.jinja", "file", 4);
    t = opened(folder);
    assert_string_equal(tokenizer_chat_template(t), "file");
    tokenizer_close(t);
    struct err e = {0};
    written("tokenizer_config.json", "{\"eos_token\":\"nowhere\"}", 23);
    assert_int_equal(tokenizer_open(&t, folder, &e), ERR_FORMAT);
    assert_null(t);
    unlink(file_path("tokenizer_config.json"));
    unlink(file_path("chat_template.jinja"));
    unlink(file_path("tokenizer.json"));
    assert_int_equal(tokenizer_open(&t, folder, &e), ERR_IO);
    assert_non_null(strstr(e.hint, "copy"));
    assert_int_equal(tokenizer_open(&t, file_path("absent"), &e), ERR_IO);
}

static void test_hash(void **state)
{
    (void)state;
    struct tokenizer *a = open_json(llama);
    struct tokenizer *b = open_json(META_JSON("first", "false"));
    struct tokenizer *c = open_json(META_JSON("always", "false"));
    struct tokenizer *d = open_json(llama);
    assert_string_equal(tokenizer_hash(a), tokenizer_hash(d));
    assert_string_not_equal(tokenizer_hash(a), tokenizer_hash(b));
    assert_string_not_equal(tokenizer_hash(b), tokenizer_hash(c));
    tokenizer_close(a);
    tokenizer_close(b);
    tokenizer_close(c);
    tokenizer_close(d);
}

/* ---- SentencePiece ---- */

static struct tokenizer *open_model(struct spec spec)
{
    struct proto_out p = sp_model(spec);
    return opened(written("tokenizer.model", p.bytes, p.n));
}

static void test_sentencepiece(void **state)
{
    (void)state;
    struct tokenizer *t = open_model((struct spec){.type = 2, .prefix = 1});
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_adds_bos(t));
    assert_int_equal(tokenizer_vocab_size(t), 11);
    CHECK_IDS(t, "ab", 6);
    CHECK_IDS(t, "  ab", 8, 8, 6);
    CHECK_IDS(t, "aaa", 8, 10, 7);         /* leftmost of equals */
    CHECK_IDS(t, "b", 8, 0);               /* part of a piece, but none */
    CHECK_IDS(t, "bébé", 8, 0);            /* unknowns fused */
    CHECK_IDS(t, "</s>", 8, 0);            /* control pieces in a text are text */
    CHECK_IDS(t, "a<user>ab", 8, 7, 9, 5); /* a user's piece is found, without a prefix behind */
    check_flags(t, "ab", 0, IDS(5));
    check_text(t, IDS(1, 6, 0, 9, 6, 2), 0, "ab \u2047 <user> ab");
    check_text(t, IDS(8, 8, 7), 1, " a");
    check_stream(t, 6, 1, "ab");
    check_stream(t, 6, 0, " ab");
    check_stream(t, 2, 0, "");
    check_stream(t, 0, 0, " \u2047 ");
    tokenizer_close(t);
    t = open_model((struct spec){.type = 2, .bytes = 1});
    CHECK_IDS(t, "aé", 7, 3, 4);
    CHECK_IDS(t, "abñb", 5, 0);
    check_text(t, IDS(3, 4, 3, 7), 0, "é\uFFFDa"); /* what is well formed stays */
    tokenizer_close(t);
    t = open_model((struct spec){.type = 2, .prefix = 1, .remove_extra = 1});
    CHECK_IDS(t, "  ab   ab ", 6, 6);
    check_flags(t, "   ", TOK_TEXT_START, NULL, 0);
    check_flags(t, "  a", 0, IDS(8, 7)); /* not the text's start: one space stays */
    check_text(t, IDS(8, 8, 7), 0, "a");
    tokenizer_close(t);
}

static void check_model_error(const char *bytes, size_t n, enum status want, const char *part)
{
    struct err e = {0};
    struct tokenizer *t;
    assert_int_equal(tokenizer_open(&t, written("tokenizer.model", bytes, n), &e), want);
    if (!strstr(e.message, part)) print_error("%s\n", e.message);
    assert_non_null(strstr(e.message, part));
}

static void test_sentencepiece_errors(void **state)
{
    (void)state;
    const struct {
        struct spec spec;
        const char *part;
    } refused[] = {{{.type = 1}, "unigram"},
                   {{.type = 3}, "other than BPE"},
                   {{.type = 2, .suffix = 1}, "suffix"},
                   {{.type = 2, .charsmap = 1}, "normalizes"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct proto_out p = sp_model(refused[i].spec);
        check_model_error(p.bytes, p.n, ERR_UNSUPPORTED, refused[i].part);
    }
    struct proto_out good = sp_model((struct spec){.type = 2}), p = good;
    put_piece(&p, "ab", 0, 1);
    check_model_error(p.bytes, p.n, ERR_FORMAT, "twice");
    p = good;
    put_piece(&p, "\xFF", 0, 1);
    check_model_error(p.bytes, p.n, ERR_FORMAT, "UTF-8");
    p = good;
    put_piece(&p, "<0x>", 0, 6);
    check_model_error(p.bytes, p.n, ERR_FORMAT, "byte piece");
    p = good;
    put_piece(&p, "unused", 0, 5);
    check_model_error(p.bytes, p.n, ERR_UNSUPPORTED, "unused");
    check_model_error("\n\x03\n\x01x", 5, ERR_UNSUPPORTED, "unigram");
    /* lengths beyond the file, beyond 64 bits, and beyond memory */
    check_model_error("\n\xFF\xFF\xFF\xFF\x7F", 6, ERR_FORMAT, "damaged");
    check_model_error("\n\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 12, ERR_FORMAT, "damaged");
    check_model_error("\n\x05\n\xFF\xFF\xFF\x7F", 7, ERR_FORMAT, "bad piece");
}

/* ---- tiktoken ---- */

static void test_tiktoken(void **state)
{
    (void)state;
    char text[8192];
    size_t n = ranks(text);
    struct tokenizer *t = opened(written("tokenizer.model", text, n));
    assert_int_equal(tokenizer_vocab_size(t), 260 + 256);
    assert_int_equal(tokenizer_bos(t), 260);
    assert_int_equal(tokenizer_find(t, "<|end_of_text|>"), 261);
    assert_int_equal(tokenizer_find(t, "<|reserved_special_token_0|>"), 262);
    assert_int_equal(tokenizer_find(t, "<|end_header_id|>"), 267);
    assert_int_equal(tokenizer_find(t, "<|eot_id|>"), 269);
    assert_int_equal(tokenizer_find(t, "<|reserved_special_token_250|>"), 515);
    CHECK_IDS(t, "abc", 258);
    CHECK_IDS(t, "abcd abcd", 258, 'd', 259); /* the second is a token as a whole */
    CHECK_IDS(t, "1234", '1', '2', '3', '4');
    CHECK_IDS(t, "a<|eot_id|>bc", 'a', 269, 256);
    check_text(t, IDS(258, 0xE4, 0xB8, 269), 0, "abc\uFFFD<|eot_id|>");
    check_text(t, IDS(258, 269), 1, "abc");
    tokenizer_close(t);
    size_t end = n + put_rank(text + n, "zz", 2, 128000);
    check_model_error(text, end, ERR_UNSUPPORTED, "128000");
    end = n + put_rank(text + n, "zz", 2, 262);
    check_model_error(text, end, ERR_FORMAT, "no token has rank 260");
    end = n + put_rank(text + n, "zz", 2, 3);
    check_model_error(text, end, ERR_FORMAT, "two tokens have id 3");
    end = n + put_rank(text + n, "ab", 2, 260);
    check_model_error(text, end, ERR_FORMAT, "twice");
    check_model_error("YQ== 0\n", 7, ERR_FORMAT, "byte 0x00");
    check_model_error("YQ= 0\n", 6, ERR_FORMAT, "base64");
    check_model_error("Y=Q= 0\n", 7, ERR_FORMAT, "base64");
    check_model_error("YQ== x\n", 7, ERR_FORMAT, "no rank");
    check_model_error("YQ==\n", 5, ERR_FORMAT, "base64");
}

/* ---- tokenizer.json that is wrong ---- */

#define WITH_VOCAB(vocab, merges) \
    JSON("", "null", "null", "null", "\"vocab\":{" vocab "},\"merges\":[" merges "]")
#define AB "\"<s>\":0,\"a\":1,\"b\":2"

static void test_json_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum status want;
        const char *part;
    } cases[] = {
        {"{\"model\":{\"type\":\"BPE\",", ERR_FORMAT, "not JSON"},
        {"{}", ERR_FORMAT, "model"},
        {WITH_VOCAB(AB, "\"a b\""), ERR_FORMAT, "\"ab\" of a merge"},
        {WITH_VOCAB(AB, "\"a zz\""), ERR_FORMAT, "\"zz\" of a merge"},
        {WITH_VOCAB(AB, "\"ab\""), ERR_FORMAT, "a merge"},
        {WITH_VOCAB(AB, "\"a b c\""), ERR_FORMAT, "a merge"},
        {WITH_VOCAB(AB, "[\"a\"]"), ERR_FORMAT, "a merge"},
        {WITH_VOCAB(AB, "[\"a\",1]"), ERR_FORMAT, "a merge"},
        {WITH_VOCAB(AB ",\"c\":2", ""), ERR_FORMAT, "two tokens have id 2"},
        {WITH_VOCAB(AB ",\"a\":5", ""), ERR_FORMAT, "not JSON"},
        {WITH_VOCAB(AB ",\"c\":-1", ""), ERR_FORMAT, "out of range"},
        {WITH_VOCAB(AB ",\"c\":2147483647", ""), ERR_FORMAT, "out of range"},
        {WITH_VOCAB(AB ",\"c\":\"1\"", ""), ERR_FORMAT, "has no id"},
        {WITH_VOCAB(AB ",\"\":3", ""), ERR_FORMAT, "empty"},
        {WITH_VOCAB("\"a\":0", ""), ERR_FORMAT, "post-processor names <s>"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", ERR_UNSUPPORTED, "Unigram"},
        {"{\"model\":{\"dropout\":0.1,\"vocab\":{},\"merges\":[]}}", ERR_UNSUPPORTED, "dropout"},
        {"{\"model\":{\"end_of_word_suffix\":\"</w>\"}}", ERR_UNSUPPORTED, "</w>"},
        {"{\"model\":{\"unk_token\":\"?\",\"vocab\":{\"a\":0},\"merges\":[]}}", ERR_FORMAT,
         "unknown token"},
        {JSON(ADDED(9, "<x>", ""), "null", "null", "null", LLAMA_MODEL), ERR_FORMAT, "says id 9"},
        {JSON(ADDED(1, "a", ""), "null", "null", "null", LLAMA_MODEL), ERR_FORMAT, "says id 1"},
        {JSON("3", "null", "null", "null", LLAMA_MODEL), ERR_FORMAT, "added_tokens"},
        {JSON("", "{\"type\":\"Lowercase\"}", "null", "null", LLAMA_MODEL), ERR_UNSUPPORTED,
         "Lowercase"},
        {JSON("", "{}", "null", "null", LLAMA_MODEL), ERR_FORMAT, "normalizer"},
        {JSON("", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"}}", "null", "null",
              LLAMA_MODEL),
         ERR_UNSUPPORTED, "regular expression"},
        {JSON("", "null", "{\"type\":\"Digits\"}", "null", LLAMA_MODEL), ERR_UNSUPPORTED, "Digits"},
        {JSON("", "null",
              "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}",
              "null", LLAMA_MODEL),
         ERR_UNSUPPORTED, "split pattern ("},
        {JSON("", "null",
              "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[\\\\S]\"},\"behavior\":"
              "\"Isolated\"}",
              "null", LLAMA_MODEL),
         ERR_UNSUPPORTED, "inside brackets"},
        {JSON("", "null",
              "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Removed\"}", "null",
              LLAMA_MODEL),
         ERR_UNSUPPORTED, "Removed"},
        {JSON("", "null", METASPACE("sometimes", "true"), "null", LLAMA_MODEL), ERR_UNSUPPORTED,
         "sometimes"},
        {JSON("", "null", "null", "{\"type\":\"WordPiece\"}", LLAMA_MODEL), ERR_UNSUPPORTED,
         "WordPiece"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        struct tokenizer *t;
        enum status s =
            tokenizer_open(&t, written("tokenizer.json", cases[i].text, strlen(cases[i].text)), &e);
        if (s != cases[i].want || !strstr(e.message, cases[i].part))
            print_error("case %zu: %s: %s\n", i, status_name(s), e.message);
        assert_int_equal(s, cases[i].want);
        assert_non_null(strstr(e.message, cases[i].part));
        assert_null(t);
    }
}

/* ---- odd and large texts ---- */

static void test_bytes_of_any_kind(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *want;
    } cases[] = {{"\xE4\xB8", "\uFFFD"},
                 {"\xC0\x80", "\uFFFD\uFFFD"},
                 {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
                 {"\xF0\x9F\x99z", "\uFFFDz"},
                 {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
                 {"0123456789\xFF", "0123456789\uFFFD"},
                 {"\xC3\xA9\xE2\x96\x81", "é▁"}};
    struct buf out;
    buf_init(&out, 100);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_clear(&out);
        assert_int_equal(utf8_append_lossy(&out, cases[i].bytes, strlen(cases[i].bytes)), OK);
        assert_string_equal(out.data, cases[i].want);
    }
    for (int b = 0; b < 256; b++)
        assert_int_equal(bytes_from_char(bytes_to_char((unsigned char)b)), b);
    assert_int_equal(bytes_to_char(' '), 0x120);
    assert_int_equal(bytes_to_char(173), 0x143);
    assert_int_equal(bytes_from_char(0x144), -1);
    for (uint32_t cp = 0; cp < 0x110000; cp += cp < 0x3000 ? 1 : 13) {
        char c[4];
        uint32_t back = 0;
        if (cp >= 0xD800 && cp < 0xE000) continue;
        int n = utf8_encode(cp, c);
        assert_int_equal(utf8_decode((unsigned char *)c, (size_t)n, &back), n);
        assert_int_equal(back, cp);
    }
    buf_free(&out);
}

static void test_ill_formed_text(void **state)
{
    (void)state;
    char text[8192];
    struct tokenizer *t = opened(written("tokenizer.model", text, ranks(text)));
    CHECK_IDS(t, "a\xE4\xB8", 'a', 0xEF, 0xBF, 0xBD);
    tokenizer_close(t);
}

/* A megabyte of one character has no place to cut: merging must not be quadratic. */
static void check_megabyte(const struct tokenizer *t, char c)
{
    struct err e = {0};
    size_t n = 1 << 20;
    char *text = malloc(n);
    struct id_list ids = {0};
    struct buf back;
    assert_non_null(text);
    memset(text, c, n);
    buf_init(&back, 1 << 22);
    struct tokenizer_scratch *s = tokenizer_scratch_create();
    double start = clock_seconds();
    CHECK_OK(tokenizer_encode(t, s, text, n, TOK_TEXT_START, &ids, &e), &e);
    assert_true(clock_seconds() - start < 20);
    CHECK_OK(tokenizer_decode(t, ids.ids, ids.len, 0, &back, &e), &e);
    assert_int_equal(back.len, n);
    assert_memory_equal(back.data, text, n);
    tokenizer_scratch_destroy(s);
    id_list_free(&ids);
    buf_free(&back);
    free(text);
}

static void test_megabytes(void **state)
{
    (void)state;
    char text[8192];
    struct tokenizer *all[] = {open_json(llama), open_json(META_JSON("first", "false")),
                               open_json(BYTES_JSON("", "{\"type\":\"NFC\"}", GPT2, "")),
                               open_model((struct spec){.type = 2, .prefix = 1}),
                               opened(written("tokenizer.model", text, ranks(text)))};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        check_megabyte(all[i], 'a');
        if (i != 1) check_megabyte(all[i], ' '); /* Metaspace first loses a leading space */
        tokenizer_close(all[i]);
    }
}

/* Cached words, one scratch for several tokenizers, more symbols than the short form takes. */
static void test_scratch_is_shared(void **state)
{
    (void)state;
    struct err e = {0};
    struct tokenizer *a = open_json(llama), *b = open_json(META_JSON("never", "false"));
    struct tokenizer_scratch *s = tokenizer_scratch_create();
    struct id_list ids = {0};
    for (int round = 0; round < 3; round++) {
        ids.len = 0;
        CHECK_OK(tokenizer_encode(a, s, "ab ab", 5, TOK_TEXT_START, &ids, &e), &e);
        CHECK_OK(tokenizer_encode(b, s, "abab", 4, TOK_TEXT_START, &ids, &e), &e);
        CHECK_OK(tokenizer_encode(b, s, "ab", 2, TOK_TEXT_START, &ids, &e), &e);
        assert_int_equal(ids.len, 5);
        assert_memory_equal(ids.ids, ((int32_t[]){12, 12, 11, 11, 11}), 5 * sizeof *ids.ids);
    }
    char text[201];
    for (int i = 0; i < 200; i += 2) memcpy(text + i, "ab", 2);
    ids.len = 0;
    CHECK_OK(tokenizer_encode(b, s, text, 200, 0, &ids, &e), &e);
    assert_int_equal(ids.len, 100);
    for (int i = 0; i < 100; i++) assert_int_equal(ids.ids[i], 11);
    id_list_free(&ids);
    tokenizer_scratch_destroy(s);
    tokenizer_close(a);
    tokenizer_close(b);
}

/* ---- faults ---- */

/* Everything a tokenizer does, once; OK or the first failure. */
static enum status use(const char *path, struct err *e)
{
    struct tokenizer *t;
    struct id_list ids = {0};
    struct buf out;
    buf_init(&out, 1 << 20);
    enum status status = tokenizer_open(&t, path, e);
    struct tokenizer_scratch *s = status ? NULL : tokenizer_scratch_create();
    if (!status && !s) status = ERR_MEMORY;
    static const char text[] =
        "ab e\u0301 a <s> b\xFF aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    if (!status) status = tokenizer_encode(t, s, text, sizeof text - 1, TOK_TEXT_START, &ids, e);
    if (!status) status = tokenizer_decode(t, ids.ids, ids.len, 0, &out, e);
    if (!status) status = tokenizer_token_bytes(t, ids.ids[0], 1, &out);
    buf_free(&out);
    id_list_free(&ids);
    tokenizer_scratch_destroy(s);
    tokenizer_close(t);
    return status;
}

static void sweep(const char *path)
{
    struct err e = {0};
    CHECK_OK(use(path, &e), &e);
    for (long n = 1;; n++) {
        mem_fail_after(n);
        enum status s = use(path, &e);
        long taken = mem_allocations();
        mem_fail_after(0);
        if (taken < n) {
            CHECK_OK(s, &e);
            break;
        }
        /* A file that cannot be compiled by the JIT is interpreted: OK is no lie, either. */
        if (s != OK) assert_int_equal(s, ERR_MEMORY);
    }
}

static const char split_json[] = "{\"added_tokens\":[" ADDED(
    260, "<s>",
    SPECIAL) "],\"normalizer\":"
             "{\"type\":\"NFC\"},\"pre_tokenizer\":" SPLIT(
                 "{\"Regex\":\"\\\\p{L}+|\\\\s+\"}") ",\"decoder\":"
                                                     "{\"type\":\"ByteLevel\"},\"model\":{"
                                                     "\"merges\":[],\"vocab\":{";

/* A byte-level tokenizer.json that knows all bytes. */
static void all_bytes_json(struct buf *b)
{
    assert_int_equal(buf_puts(b, split_json), OK);
    for (int i = 0; i < 256; i++) {
        char raw = (char)i;
        assert_int_equal(buf_puts(b, i == '"' || i == '\\' ? "\"\\" : "\""), OK);
        assert_int_equal(bytes_append_spelling(b, &raw, 1), OK);
        assert_int_equal(buf_printf(b, "\":%d,", i), OK);
    }
    assert_int_equal(
        buf_puts(b, "\"w\u0301\":256,\"x\u0301\":257,\"y\u0301\":258,\"z\u0301\":259}}}"), OK);
}

static void test_no_memory(void **state)
{
    (void)state;
    char text[8192];
    struct buf json;
    buf_init(&json, 1 << 16);
    all_bytes_json(&json);
    struct proto_out p = sp_model((struct spec){.type = 2, .prefix = 1});
    sweep(written("tokenizer.json", llama, strlen(llama)));
    sweep(written("tokenizer.json", json.data, json.len));
    sweep(written("tokenizer.model", p.bytes, p.n));
    sweep(written("tokenizer.model", text, ranks(text)));
    buf_free(&json);
}

/* Cut at every byte, and with bytes changed: an error or a tokenizer, never a crash. */
static void damage(const char *name, const char *good, size_t n, int cuts, int changes)
{
    struct rng_key key = rng_key(1, RNG_MIX, n);
    char *bad = malloc(n);
    assert_non_null(bad);
    for (int i = 0; i < cuts + changes; i++) {
        uint32_t counter[4] = {(uint32_t)i}, r[4];
        struct err e = {0};
        rng_words(key, counter, r);
        memcpy(bad, good, n);
        if (i >= cuts) {
            bad[r[0] % n] = (char)r[1];
            if (r[2] & 1) bad[r[3] % n] = (char)(r[2] >> 8);
        }
        size_t length = i < cuts ? n * (size_t)i / (size_t)cuts : n;
        enum status s = use(written(name, bad, length), &e);
        assert_true(s == OK || s == ERR_FORMAT || s == ERR_UNSUPPORTED || s == ERR_DATA);
    }
    free(bad);
}

static void test_damage(void **state)
{
    (void)state;
    char text[8192];
    struct proto_out p = sp_model((struct spec){.type = 2, .prefix = 1, .bytes = 1});
    damage("tokenizer.model", p.bytes, p.n, (int)p.n, 1000);
    damage("tokenizer.json", llama, strlen(llama), 200, 600);
    size_t n = ranks(text);
    damage("tokenizer.model", text, n, 50, 200);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cria-tokenizer-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    struct err e = {0};
    return io_remove_tree(folder, &e) != OK;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_metaspace),
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_sentencepiece_errors),
        cmocka_unit_test(test_tiktoken),
        cmocka_unit_test(test_json_errors),
        cmocka_unit_test(test_bytes_of_any_kind),
        cmocka_unit_test(test_ill_formed_text),
        cmocka_unit_test(test_megabytes),
        cmocka_unit_test(test_scratch_is_shared),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
