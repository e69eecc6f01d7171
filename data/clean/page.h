/* page.h - HTML as a tree, read the way FastChat's cleaning reads it.
 *
 * Its scripts parse with Beautiful Soup over Python's html.parser, which is no HTML5 parser: no
 * element closes another one by itself (an unclosed <li> holds the next one), unknown tags are
 * elements, stray end tags vanish, and what looks like markup but is none is text. An HTML5 parser
 * (gumbo, html5lib) makes other trees of text that merely contains tags: of the 101 messages with a
 * tag in ../shared/data/chat 25 came out differently. So this is a reader of its own, after
 * Beautiful Soup 4.12.3 on Python 3.11.7, known faults included:
 *
 *   a reference without an end (&#12x, or & and a name at the text's end) turns all that follows,
 *     markup included, into text; &name; that is no known name loses its semicolon
 *   <br/> behind a <br> stays open, and what follows lies within it
 *   the content of <script> and <style> is text up to its end tag, and lost without one
 *   <? ... >, <![CDATA[ ... ]]> and <![if ...]> are text; comments and <!DOCTYPE> are not
 *   a run of white space alone is one space or one newline, but in pre and textarea
 *
 * Where Python would raise an error (an unknown marked section, <![x), the text is rejected. So it
 * is where Python would give up or take minutes: over HTML_DEPTH_MAX elements within each other,
 * over HTML_NODES_MAX of them, or markup that has to be looked at again and again.
 */
#ifndef CRIA_DATA_CLEAN_PAGE_H
#define CRIA_DATA_CLEAN_PAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "data/formats/conversation.h"

#define HTML_DEPTH_MAX 900
#define HTML_NODES_MAX (1 << 20)
#define HTML_TEXT_MAX ((size_t)64 << 20) /* bytes of text in a tree */

/* The elements that something depends on, by name. */
/* clang-format off */
#define HTML_TAG_TABLE(X)                                                                      \
    X(a) X(b) X(blockquote) X(br) X(code) X(del) X(em) X(hr) X(i) X(img) X(kbd) X(li) X(list)  \
    X(ol) X(p) X(pre) X(s) X(samp) X(strong) X(sub) X(sup) X(table) X(tbody) X(td) X(tfoot)    \
    X(th) X(thead) X(tr) X(ul) X(script) X(style) X(textarea) X(area) X(base) X(col) X(embed)  \
    X(input) X(keygen) X(link) X(menuitem) X(meta) X(param) X(source) X(track) X(wbr)          \
    X(basefont) X(bgsound) X(command) X(frame) X(image) X(isindex) X(nextid) X(spacer)
/* clang-format on */

enum page_tag {
    HTML_OTHER,
#define X(name) HTML_##name,
    HTML_TAG_TABLE(X)
#undef X
        NUM_HTML_TAGS
};

/* The attributes that are kept. */
enum page_attribute { HTML_ALT, HTML_HREF, HTML_SRC, HTML_START, HTML_TITLE, NUM_HTML_ATTRIBUTES };

enum page_kind { HTML_ELEMENT, HTML_TEXT, HTML_COMMENT }; /* COMMENT: <!DOCTYPE> too */

/* Links are indices into page.nodes, -1: none. Node 0 is the root. */
struct page_node {
    int32_t parent, first, last, prev, next;
    int32_t attributes; /* the first of an element's, in page.attributes */
    uint16_t tag;       /* enum page_tag */
    uint16_t kind;      /* enum page_kind */
    size_t at, n;       /* in page.text: an element's name in lower case, a text's content */
};

struct page_value {
    enum page_attribute name;
    int32_t next;
    size_t at, n; /* in page.text */
};

/* Zero-initialise; used again for one text after the other. */
struct page {
    struct page_node *nodes;
    struct page_value *attributes;
    size_t num_nodes, cap_nodes, num_attributes, cap_attributes;
    struct buf text;
};

/* Reads well-formed UTF-8. ERR_DATA: rejected (see above); ERR_MEMORY. */
MUST_CHECK enum status page_read(struct page *h, struct text source);
void page_free(struct page *h);

struct text page_text(const struct page *h, const struct page_node *node);

/* An element's attribute, the last one of that name; n 0 where there is none or an empty one. */
struct text page_attribute(const struct page *h, const struct page_node *node,
                           enum page_attribute name);

/* Takes a node out of its parent's children. */
void page_unlink(struct page *h, int32_t node);

#endif
