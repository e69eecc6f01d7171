/* window.h - a file's text, a stretch at a time, and where in it we are.
 *
 * data[at..end) is read but not consumed. More is read behind it, the buffer growing to whatever a
 * record needs; what is consumed makes room. Lines are counted as they are consumed. Private to
 * data/jsonl.
 */
#ifndef CRIA_DATA_JSONL_WINDOW_H
#define CRIA_DATA_JSONL_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/jsonl/stream.h"

struct window {
    struct stream *stream;
    char *path;
    char *data;
    size_t at, end, cap;
    int eof;            /* nothing comes behind data[end) */
    int64_t consumed;   /* bytes before data[at] in the text */
    int64_t line;       /* of data[at], 1-based */
    int64_t line_start; /* offset at which it begins */
};

/* After a failure window_close is still due. ERR_MEMORY, and what stream_open returns. */
MUST_CHECK enum status window_open(struct window *w, const char *path, struct err *e);
void window_close(struct window *w); /* zeroed is fine */

/* Reads more behind data[end). OK with eof set at the end; ERR_IO, ERR_MEMORY, and ERR_FORMAT for
 * damaged packed data. */
MUST_CHECK enum status window_fill(struct window *w, struct err *e);

/* Moves over data[at..at+n), which is there. */
void window_consume(struct window *w, size_t n);

/* Over white space; *c is the byte behind it, -1 at the end of the file. As window_fill. */
MUST_CHECK enum status window_skip_space(struct window *w, int *c, struct err *e);

/* Over white space up to the first line with something on it; *c is -1 at the end of the file, else
 * 0. Of a line of more than `most` blanks the first are lost. As window_fill. */
MUST_CHECK enum status window_skip_blank_lines(struct window *w, size_t most, int *c,
                                               struct err *e);

/* Drops the rest of a line that is too long to keep. As window_fill. */
MUST_CHECK enum status window_discard_line(struct window *w, struct err *e);

/* Column of data[at], 1-based, counted in bytes. */
static inline long window_column(const struct window *w)
{
    return (long)(w->consumed - w->line_start) + 1;
}

static inline int window_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

#endif
