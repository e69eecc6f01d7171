/* facts.h - a JSON object shown to people: as text with aligned columns, or as part of a page.
 *
 * One object says what there is to say; --json prints it, these two lay it out. A member that is
 * an object becomes a heading with a list of names and values; an array of objects becomes a
 * table, whose columns are the members of its first row; an array of numbers or words is joined
 * by commas; a table of two columns, the second of documents, is a histogram and has bars; all else
 * is a name and a value. Numbers are given with separators, underscores in names and headings
 * become spaces, members named "kind" and "path" at the top are the caller's to show.
 */
#ifndef CRIA_RUN_FACTS_H
#define CRIA_RUN_FACTS_H

#include <jansson.h>

#include "run/html.h"

#define FACTS_ROWS_MAX 100 /* of a table as text; the rest is counted */

/* ERR_MEMORY, ERR_FORMAT. */
MUST_CHECK enum status facts_text(const json_t *facts, struct buf *out);
void facts_html(struct html *h, const json_t *facts);

/* Appends bytes for a terminal: ill-formed UTF-8 as U+FFFD, what cannot be seen or would steer the
 * terminal as \u001b. Newlines are kept. */
MUST_CHECK enum status text_for_terminal(const char *bytes, size_t n, struct buf *out);

/* A number that JSON may not be able to say: NaN and infinities become words. */
json_t *facts_real(double v);

#endif
