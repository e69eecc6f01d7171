#include "data/tokenizer/utf8.h"

#include <string.h>

/* The bounds of the second byte depend on the first; all later ones are 80..BF. */
static int second_is_good(unsigned char first, unsigned char second)
{
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high;
}

int utf8_decode(const unsigned char *p, size_t n, uint32_t *cp)
{
    if (p[0] < 0x80) {
        *cp = p[0];
        return 1;
    }
    if (p[0] < 0xC2 || p[0] > 0xF4) return -1;
    int want = (int)utf8_length(p[0]);
    uint32_t c = p[0] & (0x7F >> want);
    for (int i = 1; i < want; i++) {
        if ((size_t)i >= n) return -i;
        if (i == 1 ? !second_is_good(p[0], p[1]) : (p[i] & 0xC0) != 0x80) return -i;
        c = c << 6 | (p[i] & 0x3F);
    }
    *cp = c;
    return want;
}

size_t utf8_valid_prefix(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (n - i >= 8 && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u))) {
            i += 8;
            continue;
        }
        uint32_t cp;
        int len = utf8_decode((const unsigned char *)text + i, n - i, &cp);
        if (len < 0) return i;
        i += (size_t)len;
    }
    return n;
}

enum status utf8_append_lossy(struct buf *out, const char *text, size_t n)
{
    while (n) {
        size_t good = utf8_valid_prefix(text, n);
        TRY(buf_append(out, text, good));
        text += good;
        n -= good;
        if (!n) break;
        uint32_t cp;
        size_t bad = (size_t)-utf8_decode((const unsigned char *)text, n, &cp);
        TRY(buf_append(out, UTF8_REPLACEMENT, 3));
        text += bad;
        n -= bad;
    }
    return OK;
}

int utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    int len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = len - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)((0xF00 >> len) | cp);
    return len;
}
