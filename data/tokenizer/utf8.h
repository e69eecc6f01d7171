/* utf8.h - one character at a time, and what to do with bytes that are none.
 *
 * Well-formed means as Unicode 15 table 3-7: no surrogates, no overlong forms, at most U+10FFFF.
 * An ill-formed stretch is cut into maximal prefixes of well-formed sequences, one U+FFFD each,
 * as Python's "replace" and Rust's from_utf8_lossy do.
 */
#ifndef CRIA_DATA_TOKENIZER_UTF8_H
#define CRIA_DATA_TOKENIZER_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Length of the well-formed sequence that p[0..n) starts with, its character in *cp; or, negated,
 * of the maximal ill-formed prefix there. n > 0. */
int utf8_decode(const unsigned char *p, size_t n, uint32_t *cp);

/* Length of a sequence in text known to be well formed, by its first byte. */
static inline size_t utf8_length(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* The character at p in text known to be well formed, its length in *len. */
static inline uint32_t utf8_read(const unsigned char *p, size_t *len)
{
    uint32_t c = *p;
    if (c < 0x80) {
        *len = 1;
        return c;
    }
    if (c < 0xE0) {
        *len = 2;
        return (c & 0x1F) << 6 | (p[1] & 0x3F);
    }
    c = (c & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    *len = 3;
    if (*p < 0xF0) return c;
    *len = 4;
    return (c << 6 | (p[3] & 0x3F)) & 0x1FFFFF;
}

/* How many bytes of text[0..n) come before the first ill-formed one (n: none is). */
size_t utf8_valid_prefix(const char *text, size_t n);

/* Appends text[0..n), ill-formed stretches replaced. Fails as buf_append does. */
MUST_CHECK enum status utf8_append_lossy(struct buf *out, const char *text, size_t n);

/* Writes cp (a valid character), returns the length. */
int utf8_encode(uint32_t cp, char out[4]);

#endif
