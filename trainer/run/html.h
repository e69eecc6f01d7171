/* html.h - pages that need nothing but themselves: escaping, the frame, small parts.
 *
 *     struct html h;
 *     html_begin(&h, "title", 0);         or HTML_CHARTS, HTML_SEARCH
 *     html_put(&h, "<p>");
 *     html_string(&h, text);            any bytes, escaped
 *     html_put(&h, "</p>");
 *     if (html_end(&h, &e)) ...         a failure on the way is kept until here
 *     ... h.text ...; html_free(&h);
 *
 * Text is hostile: markup is escaped, ill-formed UTF-8 becomes U+FFFD, and characters that cannot
 * be seen or that reorder others (controls, bidirectional overrides) are spelled out as U+202E. A
 * page may load nothing (Content-Security-Policy), follows the reader's light or dark scheme and
 * says all it says without scripts.
 */
#ifndef CRIA_RUN_HTML_H
#define CRIA_RUN_HTML_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define HTML_MAX ((size_t)1 << 28) /* bytes of a page */

struct html {
    struct buf text;
    enum status failed; /* the first failure; all later calls do nothing */
    int ids;            /* given out so far, for id="..." */
    int scripts;
};

enum html_script {
    HTML_CHARTS = 1, /* charts answer to a pointer */
    HTML_SEARCH = 2, /* #find shows those articles of class doc that hold #find-text, are of
                        #find-source (data-source), and have the data-flags that are checked */
};

/* Doctype to <main>, title as heading. scripts: enum html_script, any. */
void html_begin(struct html *h, const char *title, int scripts);
/* </main> to the end. ERR_MEMORY, ERR_FORMAT (larger than HTML_MAX). */
MUST_CHECK enum status html_end(struct html *h, struct err *e);
void html_free(struct html *h);

/* Markup of our own, as it is. html_format is for numbers and constant words: what it is given is
 * not escaped. */
void html_put(struct html *h, const char *markup);
void html_format(struct html *h, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Anybody's text, for the content of an element. Newlines stay newlines. */
void html_text(struct html *h, const char *bytes, size_t n);
void html_string(struct html *h, const char *s);
/* Anybody's text inside a quoted attribute. */
void html_attribute(struct html *h, const char *s);

/* <name>text</name>; the name may carry attributes: "td class=n". */
void html_element(struct html *h, const char *name, const char *text);

/* <section> with a heading; html_close ends it. */
void html_section(struct html *h, const char *heading);
void html_close(struct html *h); /* </section> */

/* A tile of the row of key figures: <div class=tiles> ... </div> around them. */
void html_tile(struct html *h, const char *label, const char *value, const char *note);

/* <tr><th>name<td>value</tr> of a two-column table. */
void html_fact(struct html *h, const char *name, const char *value);

/* A table to the end of its head: columns separated by |, those of numbers begin with #. After the
 * rows html_table_end. */
void html_table(struct html *h, const char *columns);
void html_table_end(struct html *h);

/* A table cell with a bar of that share (0 ... 1) of its width. */
void html_bar(struct html *h, double share);

/* What is written instead of bytes or characters that a reader could not see, or that would move
 * others about: nonzero for such a character. Newline and tab are none. */
int text_is_hidden(uint32_t character);

/* "12,345,678", "0.01234" (four digits) and "1.2 GB" into out[32]. */
const char *text_count(int64_t n, char out[32]);
const char *text_number(double v, char out[32]);
const char *text_bytes(double bytes, char out[32]);

#endif
