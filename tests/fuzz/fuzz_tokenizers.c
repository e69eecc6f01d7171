#include "fuzz/fuzz_tokenizers.h"

#include <string.h>

#define TEXT_MAX ((size_t)1 << 20)

static void encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text)
{
    struct err e = {0};
    struct id_list ids = {0};
    struct buf back;
    buf_init(&back, TEXT_MAX);
    for (unsigned flags = 0; flags < 8; flags++) {
        ids.len = 0;
        enum status status = tokenizer_encode(t, s, text, strlen(text), flags, &ids, &e);
        fuzz_look_at(status, &e);
        for (size_t i = 0; i < ids.len; i++)
            FUZZ_MUST(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_vocab_size(t));
        buf_clear(&back);
        if (!status) fuzz_look_at(tokenizer_decode(t, ids.ids, ids.len, 0, &back, &e), &e);
    }
    id_list_free(&ids);
    buf_free(&back);
}

void fuzz_use_tokenizer(const struct tokenizer *t)
{
    static const char *const texts[] = {"",
                                        " ",
                                        "Hello  world\n\n it's 12345 <s>a</s>",
                                        "\xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x98\x80",
                                        "a\xFF\xFE b\xE4\xB8",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\t\t  \r\n"};
    struct err e = {0};
    struct buf bytes;
    struct tokenizer_scratch *s = tokenizer_scratch_create();
    FUZZ_MUST(s);
    buf_init(&bytes, TEXT_MAX);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) encode(t, s, texts[i]);
    for (int32_t id = -1; id <= tokenizer_vocab_size(t) && id < 1000; id++) {
        buf_clear(&bytes);
        fuzz_look_at(tokenizer_decode(t, &id, 1, 1, &bytes, &e), &e);
        if (id >= 0 && id < tokenizer_vocab_size(t))
            FUZZ_MUST(!tokenizer_token_bytes(t, id, 1, &bytes));
    }
    FUZZ_MUST(strlen(tokenizer_hash(t)) == HASH_HEX_SIZE - 1);
    FUZZ_MUST(tokenizer_bos(t) < tokenizer_vocab_size(t));
    FUZZ_MUST(tokenizer_eos(t) < tokenizer_vocab_size(t));
    tokenizer_scratch_destroy(s);
    buf_free(&bytes);
}

void fuzz_tokenizer_file(const char *name, const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct tokenizer *t = NULL;
    fuzz_write(name, data, size, path);
    enum status s = tokenizer_open(&t, path, &e);
    fuzz_look_at(s, &e);
    if (!s) fuzz_use_tokenizer(t);
    tokenizer_close(t);
}
