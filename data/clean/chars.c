#include "data/clean/chars.h"

#include <string.h>
#include <utf8proc.h>

#include "data/tokenizer/utf8.h"

static uint32_t read(const char *p, size_t *len)
{
    return utf8_read((const unsigned char *)p, len);
}

size_t chars_space(const char *p, const char *end)
{
    if (p >= end) return 0;
    unsigned char c = (unsigned char)*p;
    if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f);
    if (c < 0xc2 || c > 0xe3) return 0;
    size_t n;
    uint32_t cp = read(p, &n);
    int is = cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
             cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
    return is ? n : 0;
}

int chars_space_before(const char *begin, const char *p)
{
    const char *q = p;
    if (p == begin) return 0;
    do q--;
    while (q > begin && p - q < 4 && (*q & 0xc0) == 0x80);
    return chars_space(q, p) == (size_t)(p - q);
}

const char *chars_skip_space(const char *p, const char *end)
{
    for (size_t n; (n = chars_space(p, end)); p += n) continue;
    return p;
}

size_t chars_digit(const char *p, const char *end)
{
    if (p >= end) return 0;
    unsigned char c = (unsigned char)*p;
    if (c < 0x80) return c >= '0' && c <= '9';
    size_t n;
    uint32_t cp = read(p, &n);
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND ? n : 0;
}

int chars_printable_first(struct text t)
{
    size_t n;
    if (!t.n) return 0;
    uint32_t cp = read(t.data, &n);
    if (cp == ' ') return 1;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return 0;
    default: return 1;
    }
}

size_t chars_count(struct text t)
{
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++) n += (t.data[i] & 0xc0) != 0x80;
    return n;
}
