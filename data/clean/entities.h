/* entities.h - the characters that HTML's named references stand for (&lt; and 2124 others). */
#ifndef CRIA_DATA_CLEAN_ENTITIES_H
#define CRIA_DATA_CLEAN_ENTITIES_H

#include <stddef.h>

#include "base/buf.h"
#include "data/formats/conversation.h"

/* The text (UTF-8, one or two characters) that the name without & and ; stands for, NULL if none.
 * `legacy`: only of the names that HTML also knows without a semicolon. */
const char *entity_find(const char *name, size_t n, int legacy);

/* Appends the character of a numeric reference: 128 to 159 as in windows-1252, as browsers and
 * Beautiful Soup do; what no text can hold (0, surrogates, beyond Unicode) becomes U+FFFD.
 * ERR_MEMORY, ERR_FORMAT (over the cap). */
MUST_CHECK enum status entity_put_number(struct buf *out, struct text digits, int hex);

/* Appends an attribute's value with its references resolved, as Python's html.unescape. ERR_MEMORY,
 * ERR_FORMAT. */
MUST_CHECK enum status entity_put_unescaped(struct buf *out, struct text value);

#endif
