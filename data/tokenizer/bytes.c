#include "data/tokenizer/bytes.h"

#include "data/tokenizer/utf8.h"

static int is_itself(unsigned byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
}

/* The bytes without a printable character of their own, in order: 0-32, 127-160, 173. */
uint32_t bytes_to_char(unsigned char byte)
{
    if (is_itself(byte)) return byte;
    uint32_t n = byte <= 32 ? byte : byte <= 160 ? byte - 127u + 33u : 67u;
    return 0x100 + n;
}

int bytes_from_char(uint32_t cp)
{
    if (cp < 0x100) return is_itself(cp) ? (int)cp : -1;
    uint32_t n = cp - 0x100;
    if (n > 67) return -1;
    return (int)(n <= 32 ? n : n <= 66 ? n - 33 + 127 : 173);
}

enum status bytes_append_spelling(struct buf *out, const char *raw, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c[4];
        int len = utf8_encode(bytes_to_char((unsigned char)raw[i]), c);
        TRY(buf_append(out, c, (size_t)len));
    }
    return OK;
}

enum status bytes_append_raw(struct buf *out, const char *spelling, size_t n, int *whole)
{
    TRY(buf_reserve(out, n)); /* a byte's spelling is never shorter than the byte */
    char *to = out->data + out->len;
    *whole = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        int len = utf8_decode((const unsigned char *)spelling + i, n - i, &cp);
        int byte = len > 0 ? bytes_from_char(cp) : -1;
        if (byte < 0) {
            out->data[out->len] = 0;
            return OK;
        }
        *to++ = (char)byte;
        i += (size_t)len;
    }
    *to = 0;
    out->len = (size_t)(to - out->data);
    *whole = 1;
    return OK;
}
