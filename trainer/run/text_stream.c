#include "run/text_stream.h"

#include <string.h>

#include "data/tokenizer/utf8.h"

/* The n bytes that are left are no character; may they become one? */
static int is_beginning(const char *bytes, size_t n, int length)
{
    unsigned char first = (unsigned char)*bytes;
    return (size_t)-length == n && first >= 0xC2 && first <= 0xF4;
}

static enum status push(struct text_stream *s, const char *at, size_t n, struct buf *out)
{
    s->num_held = 0;
    while (n) {
        uint32_t character;
        int length = utf8_decode((const unsigned char *)at, n, &character);
        if (length < 0 && is_beginning(at, n, length)) {
            memcpy(s->held, at, s->num_held = n);
            return OK;
        }
        TRY(length > 0 ? buf_append(out, at, (size_t)length) : buf_puts(out, UTF8_REPLACEMENT));
        size_t used = (size_t)(length < 0 ? -length : length);
        at += used, n -= used;
    }
    return OK;
}

enum status text_stream_push(struct text_stream *s, const char *bytes, size_t n, struct buf *out)
{
    struct buf joined;
    if (!n) return OK;
    if (!s->num_held) return push(s, bytes, n, out);
    buf_init(&joined, out->max);
    enum status status = buf_append(&joined, s->held, s->num_held);
    if (!status) status = buf_append(&joined, bytes, n);
    if (!status) status = push(s, joined.data, joined.len, out);
    buf_free(&joined);
    return status;
}

enum status text_stream_end(struct text_stream *s, struct buf *out)
{
    int held = s->num_held > 0;
    s->num_held = 0;
    return held ? buf_puts(out, UTF8_REPLACEMENT) : OK;
}
