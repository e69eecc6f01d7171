/* fuzz_tokenizers.h - a tokenizer file is opened and, if it is taken, used. */
#ifndef CRIA_TESTS_FUZZ_TOKENIZERS_H
#define CRIA_TESTS_FUZZ_TOKENIZERS_H

#include "data/tokenizer/tokenizer.h"
#include "fuzz/fuzz.h"

/* Encodes a few texts, decodes what comes out, and every id one by one. */
void fuzz_use_tokenizer(const struct tokenizer *t);

/* Opens the bytes as a file of this name. */
void fuzz_tokenizer_file(const char *name, const uint8_t *data, size_t size);

#endif
