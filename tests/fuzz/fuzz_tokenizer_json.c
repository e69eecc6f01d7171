/* tokenizer.json, and the files beside it: the first of them is the input up to a zero byte. */
#include <string.h>

#include "fuzz/fuzz_tokenizers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct tokenizer *t = NULL;
    const uint8_t *zero = memchr(data, 0, size);
    size_t n = zero ? (size_t)(zero - data) : size;
    fuzz_write("tokenizer.json", data, n, path);
    if (zero)
        fuzz_write("tokenizer_config.json", zero + 1, size - n - 1, path);
    else
        fuzz_write("tokenizer_config.json", "{}", 2, path);
    enum status s = tokenizer_open(&t, fuzz_dir(), &e);
    fuzz_look_at(s, &e);
    if (!s) fuzz_use_tokenizer(t);
    tokenizer_close(t);
    return 0;
}
