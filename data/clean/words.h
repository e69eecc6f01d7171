/* words.h - a text as the words that tell whether it is another one again.
 *
 * A word is a run of letters, marks and digits, in lower case; a Chinese, Japanese, Thai or Lao
 * character is one by itself, since these scripts put no space between words. All else
 * (punctuation, white space, Markdown) only parts them. Words are known by 64-bit hashes.
 */
#ifndef CRIA_DATA_CLEAN_WORDS_H
#define CRIA_DATA_CLEAN_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "data/formats/conversation.h"

struct word_list {
    uint64_t *hashes;
    size_t n, cap;
};

/* Appends the words of well-formed UTF-8. ERR_MEMORY. */
MUST_CHECK enum status words_append(struct word_list *w, struct text t);
void words_free(struct word_list *w);

/* All bits of the result depend on all bits of x. */
static inline uint64_t words_mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

#endif
