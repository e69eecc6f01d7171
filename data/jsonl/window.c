#include "data/jsonl/window.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"

enum { CHUNK = 1 << 18 }; /* bytes read at a time */

enum status window_open(struct window *w, const char *path, struct err *e)
{
    *w = (struct window){.line = 1, .path = mem_strdup(path)};
    if (!w->path) return err_set(e, ERR_MEMORY, "no memory to read %s", path);
    return stream_open(&w->stream, path, e);
}

void window_close(struct window *w)
{
    stream_close(w->stream);
    mem_free(w->path);
    mem_free(w->data);
}

enum status window_fill(struct window *w, struct err *e)
{
    if (w->at && w->cap - w->end < CHUNK) {
        memmove(w->data, w->data + w->at, w->end - w->at);
        w->end -= w->at;
        w->at = 0;
    }
    if (w->cap - w->end < CHUNK) {
        size_t cap = size_max(2 * w->cap, 2 * (size_t)CHUNK);
        char *p = mem_resize(w->data, cap, 1);
        if (!p) return err_set(e, ERR_MEMORY, "no memory to read %s", w->path);
        w->data = p;
        w->cap = cap;
    }
    size_t n;
    TRY(stream_read(w->stream, w->data + w->end, CHUNK, &n, e));
    if (n == 0) w->eof = 1;
    w->end += n;
    return OK;
}

void window_consume(struct window *w, size_t n)
{
    const char *p = w->data + w->at, *stop = p + n, *nl;
    while ((nl = memchr(p, '\n', (size_t)(stop - p)))) {
        w->line++;
        w->line_start = w->consumed + (nl + 1 - (w->data + w->at));
        p = nl + 1;
    }
    w->at += n;
    w->consumed += (int64_t)n;
}

enum status window_skip_space(struct window *w, int *c, struct err *e)
{
    for (;;) {
        size_t n = 0;
        while (w->at + n < w->end && window_is_space(w->data[w->at + n])) n++;
        if (n) window_consume(w, n);
        if (w->at < w->end) {
            *c = (unsigned char)w->data[w->at];
            return OK;
        }
        *c = -1;
        if (w->eof) return OK;
        TRY(window_fill(w, e));
    }
}

enum status window_discard_line(struct window *w, struct err *e)
{
    for (;;) {
        const char *p = w->data + w->at, *nl = memchr(p, '\n', w->end - w->at);
        window_consume(w, nl ? (size_t)(nl - p) + 1 : w->end - w->at);
        if (nl || w->eof) return OK;
        TRY(window_fill(w, e));
    }
}

enum status window_skip_blank_lines(struct window *w, size_t most, int *c, struct err *e)
{
    for (;;) {
        size_t n = 0, line = 0; /* where the last line begins */
        while (w->at + n < w->end && window_is_space(w->data[w->at + n])) {
            n++;
            if (w->data[w->at + n - 1] == '\n') line = n;
        }
        int blank = w->at + n == w->end;
        if (!blank || w->eof) {
            *c = blank ? -1 : 0;
            window_consume(w, blank ? n : line);
            return OK;
        }
        window_consume(w, n > most ? n : line);
        TRY(window_fill(w, e));
    }
}
