#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void buf_init(struct buf *b, size_t max) { *b = (struct buf){.max = max}; }

void buf_free(struct buf *b)
{
    mem_free(b->data);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data) b->data[0] = 0;
}

enum status buf_reserve(struct buf *b, size_t more)
{
    if (more > b->max - b->len) return ERR_FORMAT;
    size_t need = b->len + more + 1;
    if (need <= b->cap) return OK;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap - 1 > b->max) cap = b->max + 1; /* readers fill what is there: never past the cap */
    char *p = mem_resize(b->data, cap, 1);
    if (!p) return ERR_MEMORY;
    b->data = p;
    b->cap = cap;
    b->data[b->len] = 0;
    return OK;
}

enum status buf_append(struct buf *b, const void *bytes, size_t n)
{
    TRY(buf_reserve(b, n));
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
    return OK;
}

enum status buf_puts(struct buf *b, const char *s) { return buf_append(b, s, strlen(s)); }

enum status buf_putc(struct buf *b, char c) { return buf_append(b, &c, 1); }

enum status buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    enum status s = n < 0 ? ERR_FORMAT : buf_reserve(b, (size_t)n);
    if (!s) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return s;
}
