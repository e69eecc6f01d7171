/* page_build.h - what the scanner tells the tree (page.h); private to the two of them.
 *
 * Beautiful Soup's part: pieces of data gather until an element begins or ends, and become one text
 * node. ERR_DATA (rejected) and ERR_MEMORY everywhere.
 */
#ifndef CRIA_DATA_CLEAN_PAGE_BUILD_H
#define CRIA_DATA_CLEAN_PAGE_BUILD_H

#include "data/clean/page.h"

struct page_builder {
    struct page *html;
    int32_t current; /* the innermost open element */
    int depth, pre;  /* open elements; open pre and textarea among them */
    int has_data;    /* a piece came, be it empty */
    struct buf data;
    uint32_t closed[NUM_HTML_TAGS]; /* void elements whose end tag, should it come, is ignored */
};

MUST_CHECK enum status page_build_begin(struct page_builder *b, struct page *h);
MUST_CHECK enum status page_build_end(struct page_builder *b); /* the last text */
void page_build_free(struct page_builder *b);

MUST_CHECK enum status page_build_data(struct page_builder *b, struct text piece);

/* A comment or text that stands by itself (`kind`). */
MUST_CHECK enum status page_build_node(struct page_builder *b, enum page_kind kind,
                                       struct text content);

/* An element begins; page_build_attribute gives it what it has, then page_build_opened follows.
 * `slash`: it ended in "/>". */
MUST_CHECK enum status page_build_start(struct page_builder *b, struct text name,
                                        enum page_tag *tag);
MUST_CHECK enum status page_build_attribute(struct page_builder *b, struct text name,
                                            struct text value);
MUST_CHECK enum status page_build_opened(struct page_builder *b, struct text name, int slash);
MUST_CHECK enum status page_build_stop(struct page_builder *b, struct text name);

#endif
