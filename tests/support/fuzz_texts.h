/* fuzz_texts.h - seeded texts that try a tokenizer: every script, white space of all kinds, marks,
 * digits, contractions, special tokens spelled out, long runs of one character.
 *
 * The same seed gives the same texts everywhere; tools/golden/tokenizer_fuzz.py gives them to the
 * references. Well-formed UTF-8 without U+0000.
 */
#ifndef CRIA_TESTS_SUPPORT_FUZZ_TEXTS_H
#define CRIA_TESTS_SUPPORT_FUZZ_TEXTS_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_TEXT_BYTES 8192

struct fuzz_texts {
    uint64_t state;
    char text[FUZZ_TEXT_BYTES]; /* of the last call */
};

void fuzz_texts_start(struct fuzz_texts *f, uint64_t seed);

/* Makes the next text; its length. */
size_t fuzz_texts_next(struct fuzz_texts *f);

#endif
