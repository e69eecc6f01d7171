/* document.h - parts of pages that tests generate. */
#ifndef CRIA_TESTS_SUPPORT_DOCUMENT_H
#define CRIA_TESTS_SUPPORT_DOCUMENT_H

#include "base/buf.h"

/* Fails unless `text` is what stands in the page between the lines `begin` and `end`; with
 * CRIA_WRITE_DOCS set, writes it there. */
void document_check(const char *path, const char *begin, const char *end, const struct buf *text);

#endif
