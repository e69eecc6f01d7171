/* pager.h - text on stdout, leafed through where that is a terminal.
 *
 * $PAGER is run by the shell, as git and man do; without it `less -R`, where there is one. LESS is
 * set to FRX unless it is: a text that fits the screen is just printed. PAGER empty or "cat" is no
 * pager, nor is a TERM of "dumb".
 */
#ifndef CRIA_CLI_PAGER_H
#define CRIA_CLI_PAGER_H

#include "base/buf.h"

int pager_wanted(void);

/* Through the pager if one is wanted; returns when it has been left. ERR_IO: stdout cannot be
 * written. One who leaves before the end is no error. */
MUST_CHECK enum status pager_show(const struct buf *text, struct err *e);

/* Straight to stdout. ERR_IO. */
MUST_CHECK enum status pager_skip(const struct buf *text, struct err *e);

#endif
