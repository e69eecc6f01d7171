/* chars.h - what Python's regular expressions and str methods ask of a character; private to
 * data/clean. Texts are well-formed UTF-8. */
#ifndef CRIA_DATA_CLEAN_CHARS_H
#define CRIA_DATA_CLEAN_CHARS_H

#include <stddef.h>

#include "data/formats/conversation.h"

/* Bytes of the white-space character (\s) at p, 0 if there is none. */
size_t chars_space(const char *p, const char *end);

/* Whether the character before p is white space. */
int chars_space_before(const char *begin, const char *p);

/* Behind the white space at p. */
const char *chars_skip_space(const char *p, const char *end);

/* Bytes of the decimal digit (\d, of any script) at p, 0 if there is none. */
size_t chars_digit(const char *p, const char *end);

/* Whether str.isprintable holds for the first character; 0 for an empty text. */
int chars_printable_first(struct text t);

size_t chars_count(struct text t); /* characters */

#endif
