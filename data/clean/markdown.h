/* markdown.h - a tree of HTML as Markdown, as markdownify 0.11.6 writes it with its defaults.
 *
 * Headings 1 and 2 are underlined, bullets are * + - by depth, code blocks are fenced without a
 * language, * and _ in running text are escaped. An element that Markdown has nothing for leaves
 * its content. Where markdownify raises an error (a list that starts at no number), the list starts
 * at 1.
 */
#ifndef CRIA_DATA_CLEAN_MARKDOWN_H
#define CRIA_DATA_CLEAN_MARKDOWN_H

#include "data/clean/page.h"

/* Zero-initialise; used again for one tree after the other. */
struct markdown {
    struct page *html;
    struct buf *out;
    struct buf piece; /* the content of the element at hand */
};

/* Appends the tree's Markdown to `out`; takes white space between the rows and items of tables and
 * lists out of the tree. ERR_DATA: larger than the buffer's cap; ERR_MEMORY. */
MUST_CHECK enum status markdown_write(struct markdown *m, struct page *h, struct buf *out);
void markdown_free(struct markdown *m);

#endif
