/* markup.h - is a page well-formed? */
#ifndef CRIA_TESTS_SUPPORT_MARKUP_H
#define CRIA_TESTS_SUPPORT_MARKUP_H

#include <stddef.h>

/* NULL when every element that is opened is closed in order, attributes' quotes are closed and no
 * bare < stands in the text; otherwise what is wrong, with its surroundings. Void elements, those
 * that close themselves, comments' absence and the content of style and script are known. */
const char *markup_trouble(const char *page, size_t n);

#endif
