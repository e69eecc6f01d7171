/* Any bytes as a text, for tokenizers that are as they should be. The first byte says which and
 * with which flags; the text is split in two, since pieces are tokenized apart. */
#include <string.h>

#include "fuzz/fuzz_tokenizers.h"

#define TEXT_MAX ((size_t)1 << 22)

static struct tokenizer *open_one(const char *path)
{
    struct err e = {0};
    struct tokenizer *t = NULL;
    FUZZ_MUST(!tokenizer_open(&t, path, &e));
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *tokenizer; /* kept: still reachable at exit */
    static struct tokenizer_scratch *scratch;
    struct err e = {0};
    struct id_list ids = {0};
    struct buf back;
    if (size < 2) return 0;
    if (!tokenizer) {
        tokenizer = open_one("tests/golden/models/llama_gqa_tied");
        scratch = tokenizer_scratch_create();
    }
    const char *text = (const char *)data + 2;
    size_t n = size - 2, cut = n * data[1] / 255;
    buf_init(&back, TEXT_MAX);
    fuzz_look_at(tokenizer_encode(tokenizer, scratch, text, cut, data[0] & 7, &ids, &e), &e);
    fuzz_look_at(
        tokenizer_encode(tokenizer, scratch, text + cut, n - cut, data[0] >> 3 & 7, &ids, &e), &e);
    fuzz_look_at(tokenizer_decode(tokenizer, ids.ids, ids.len, data[0] >> 6 & 1, &back, &e), &e);
    id_list_free(&ids);
    buf_free(&back);
    return 0;
}
