/* bytes.h - the byte map of byte-level BPE: each byte has a printable character that stands for it.
 *
 * 33-126, 161-172 and 174-255 stand for themselves, the others in order are U+0100 + n.
 */
#ifndef CRIA_DATA_TOKENIZER_BYTES_H
#define CRIA_DATA_TOKENIZER_BYTES_H

#include <stdint.h>

#include "base/buf.h"

uint32_t bytes_to_char(unsigned char byte);
int bytes_from_char(uint32_t cp); /* -1: stands for no byte */

/* Appends the spelling of raw[0..n). Fails as buf_append does. */
MUST_CHECK enum status bytes_append_spelling(struct buf *out, const char *raw, size_t n);

/* Appends what a spelling (well-formed UTF-8) stands for, or nothing and *whole = 0 when one of
 * its characters stands for no byte. Fails as buf_append does. */
MUST_CHECK enum status bytes_append_raw(struct buf *out, const char *spelling, size_t n,
                                        int *whole);

#endif
