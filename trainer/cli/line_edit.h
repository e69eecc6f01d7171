/* line_edit.h - lines from a person or from a pipe.
 *
 * On a terminal libedit gives editing and history: Ctrl-C clears the line, Ctrl-D on an empty one
 * ends. Elsewhere lines are read as they are and no prompt is shown. A line that ends in a
 * backslash goes on in the next.
 */
#ifndef CRIA_CLI_LINE_EDIT_H
#define CRIA_CLI_LINE_EDIT_H

#include "base/buf.h"

struct line_edit;

/* ERR_MEMORY. */
MUST_CHECK enum status line_edit_open(struct line_edit **out, const char *prompt, struct err *e);
void line_edit_close(struct line_edit *l); /* NULL is fine */

int line_edit_is_live(const struct line_edit *l); /* a person at a terminal */

/* The next line without its newline into `out`, cleared before; *end: there is none. ERR_IO,
 * ERR_MEMORY, ERR_FORMAT (over the buffer's cap). */
MUST_CHECK enum status line_edit_read(struct line_edit *l, struct buf *out, int *end,
                                      struct err *e);

#endif
