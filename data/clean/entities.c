#include "data/clean/entities.h"

#include <string.h>

#include "data/clean/entities_table.h"
#include "data/tokenizer/utf8.h"

#define NAME_MAX 32 /* characters that html.unescape looks at */

static int compare(const char *name, size_t n, const char *row)
{
    int c = strncmp(name, row + 1, n);
    return c ? c : row[1 + n] ? -1 : 0;
}

const char *entity_find(const char *name, size_t n, int legacy)
{
    size_t low = 0, high = sizeof entity_rows / sizeof *entity_rows;
    if (memchr(name, 0, n)) return NULL;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const char *row = entity_rows[mid];
        int c = compare(name, n, row);
        if (!c) return legacy && row[0] == '0' ? NULL : row + n + 2;
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

/* windows-1252 from 0x80 on; where it has nothing, the C1 control stays. */
static const uint16_t windows[32] = {
    0x20ac, 0x81,   0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x8d,   0x017d, 0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,   0x017e, 0x0178,
};

static uint32_t number(struct text digits, int hex)
{
    uint32_t v = 0;
    for (size_t i = 0; i < digits.n && v <= 0x10ffff; i++) {
        char c = digits.data[i];
        uint32_t d = c <= '9' ? (uint32_t)(c - '0') : (uint32_t)((c | 32) - 'a' + 10);
        v = v * (hex ? 16 : 10) + d;
    }
    return v;
}

static enum status put_character(struct buf *out, uint32_t v)
{
    char text[4];
    if (v >= 0x80 && v < 0xa0) v = windows[v - 0x80];
    if (!v || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff)) v = 0xfffd;
    return buf_append(out, text, (size_t)utf8_encode(v, text));
}

enum status entity_put_number(struct buf *out, struct text digits, int hex)
{
    return put_character(out, number(digits, hex));
}

/* What html.unescape takes for no character at all. */
static int is_nothing(uint32_t v)
{
    return (v >= 1 && v <= 8) || v == 0xb || (v >= 0xe && v <= 0x1f) || v == 0x7f ||
           (v >= 0xfdd0 && v <= 0xfdef) || (v <= 0x10ffff && (v & 0xfffe) == 0xfffe);
}

static int is_digit(char c, int hex)
{
    return (c >= '0' && c <= '9') || (hex && (c | 32) >= 'a' && (c | 32) <= 'f');
}

/* "#123;" behind the ampersand; *n is how much it takes, 0: it is none. */
static enum status put_numeric(struct buf *out, const char *p, const char *end, size_t *n)
{
    int hex = end - p > 1 && (p[1] | 32) == 'x';
    const char *from = p + 1 + hex, *to = from;
    *n = 0;
    while (to < end && is_digit(*to, hex)) to++;
    if (to == from) return OK;
    *n = (size_t)(to - p) + (to < end && *to == ';');
    uint32_t v = number((struct text){from, (size_t)(to - from)}, hex);
    return is_nothing(v) ? OK : put_character(out, v);
}

/* "amp;" or "ampere" behind the ampersand: the whole name, or the longest legacy one it begins
 * with. */
static enum status put_named(struct buf *out, const char *p, const char *end, size_t *n)
{
    size_t m = 0, chars = 0;
    while (p + m < end && !strchr("\t\n\f <&#;", p[m]) && chars < NAME_MAX)
        m += utf8_length((unsigned char)p[m]), chars++;
    *n = 0;
    const char *text = p + m < end && p[m] == ';' ? entity_find(p, m, 0) : NULL;
    if (text) {
        *n = m + 1;
        return buf_puts(out, text);
    }
    for (size_t k = m; k > 1; k--) {
        if (!(text = entity_find(p, k, 1))) continue;
        *n = k;
        return buf_puts(out, text);
    }
    return OK;
}

enum status entity_put_unescaped(struct buf *out, struct text value)
{
    const char *p = value.data, *end = p + value.n;
    while (p < end) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        TRY(buf_append(out, p, (size_t)((amp ? amp : end) - p)));
        if (!amp) break;
        p = amp + 1;
        size_t n = 0;
        if (p < end && *p == '#')
            TRY(put_numeric(out, p, end, &n));
        else if (p < end)
            TRY(put_named(out, p, end, &n));
        if (!n) TRY(buf_putc(out, '&'));
        p += n;
    }
    return OK;
}
