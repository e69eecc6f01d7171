/* SentencePiece's tokenizer.model: what makes a file one is its first byte, put here. */
#include <string.h>

#include "fuzz/fuzz_tokenizers.h"

#define INPUT_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[INPUT_MAX];
    if (size < 1 || size > INPUT_MAX) return 0;
    memcpy(bytes, data, size);
    bytes[0] = '\n';
    fuzz_tokenizer_file("tokenizer.model", bytes, size);
    return 0;
}
