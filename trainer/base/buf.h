/* buf.h - a growable byte buffer with a hard cap.
 *
 * `max` bounds what it can ever hold, so a hostile file cannot make it eat the
 * machine. `data` is always zero-terminated behind `len` once anything was
 * appended (the zero is not counted) and is valid until the next append.
 * Every append returns OK, ERR_MEMORY (no memory) or ERR_FORMAT (over the cap)
 * and leaves the content whole on failure.
 */
#ifndef CRIA_BASE_BUF_H
#define CRIA_BASE_BUF_H

#include <stddef.h>

#include "base/status.h"

struct buf {
    char *data;
    size_t len, cap, max;
};

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);  /* zeroed is fine; leaves it zeroed but for max */
void buf_clear(struct buf *b); /* len 0, keeps the memory */

MUST_CHECK enum status buf_reserve(struct buf *b, size_t more);
MUST_CHECK enum status buf_append(struct buf *b, const void *bytes, size_t n);
MUST_CHECK enum status buf_puts(struct buf *b, const char *s);
MUST_CHECK enum status buf_putc(struct buf *b, char c);
MUST_CHECK enum status buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
