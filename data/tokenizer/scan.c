#include "data/tokenizer/scan.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "data/tokenizer/classes.h"
#include "data/tokenizer/utf8.h"

const char scan_gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

#define PATTERN(numbers)                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

const char scan_llama3_pattern[] = PATTERN("\\p{N}{1,3}");
const char scan_qwen_pattern[] = PATTERN("\\p{N}");

typedef const unsigned char *place; /* in the text */

struct scan {
    const struct class_table *classes;
    place end; /* of the text */
};

#define EACH_BYTE 0x0101010101010101u
#define HIGH_BITS 0x8080808080808080u

/* The class and length of the character at p, which is inside the text. */
static inline enum char_class look(const struct scan *s, place p, size_t *len)
{
    return classes_of(s->classes, utf8_read(p, len));
}

/* Behind the characters of a class from p on. */
static inline place skip(const struct scan *s, place p, enum char_class class)
{
    size_t len;
    while (p < s->end && look(s, p, &len) == class) p += len;
    return p;
}

/* skip() for letters; ASCII eight at a time. */
static inline place skip_letters(const struct scan *s, place p)
{
    size_t len;
    for (;;) {
        while (s->end - p >= 8) {
            uint64_t eight;
            memcpy(&eight, p, 8);
            eight = le64toh(eight);
            uint64_t lower = (eight & ~HIGH_BITS) | 0x20 * EACH_BYTE;
            uint64_t letters = (lower + (0x80 - 'a') * EACH_BYTE) &
                               ~(lower + (0x7F - 'z') * EACH_BYTE) & ~eight & HIGH_BITS;
            uint64_t stop = letters ^ HIGH_BITS;
            p += stop ? __builtin_ctzll(stop) / 8 : 8;
            if (stop) break;
        }
        if (p >= s->end || look(s, p, &len) != CLASS_LETTER) return p;
        do p += len;
        while (p < s->end && *p >= 0x80 && look(s, p, &len) == CLASS_LETTER);
    }
}

static inline int is_newline(unsigned char c) { return c == '\n' || c == '\r'; }

/* Length of the contraction that the apostrophe at p begins; 0: of none. */
static inline size_t contraction(place p, place end, int any_case)
{
    if (end - p < 2) return 0;
    unsigned fold = any_case ? 0x20 : 0, one = p[1] | fold, two = end - p > 2 ? p[2] | fold : 0;
    if (one == 's' || one == 't' || one == 'm' || one == 'd') return 2;
    if (((one == 'r' || one == 'v') && two == 'e') || (one == 'l' && two == 'l')) return 3;
    int long_s = any_case && end - p > 2 && p[1] == 0xC5 && p[2] == 0xBF; /* U+017F folds to s */
    return long_s ? 3 : 0;
}

/* White space from p on that no other alternative takes. With `lines`, up to the last line break in
 * it; else all of it at the end of the text; else all but the last character, which may belong to
 * what follows; but one at least. */
static inline place white_space(const struct scan *s, place p, int lines)
{
    place at = p, last = p, newline = NULL;
    size_t len;
    while (at < s->end && look(s, at, &len) == CLASS_SPACE) {
        if (is_newline(*at)) newline = at;
        last = at;
        at += len;
    }
    if (lines && newline) return newline + 1;
    return at == s->end || last == p ? at : last;
}

/* One piece of Llama 3's pattern, `digits` numbers at most in one. */
static inline place llama3_piece(const struct scan *s, place p, int digits)
{
    size_t len, next_len;
    enum char_class class = look(s, p, &len);
    if (class == CLASS_LETTER) return skip_letters(s, p);
    if (class == CLASS_NUMBER) {
        do p += len;
        while (--digits && p < s->end && look(s, p, &len) == CLASS_NUMBER);
        return p;
    }
    if (*p == '\'') {
        size_t n = contraction(p, s->end, 1);
        if (n) return p + n;
    }
    enum char_class next = CLASS_SPACE;
    if (p + len < s->end) next = look(s, p + len, &next_len);
    if (next == CLASS_LETTER && !is_newline(*p)) return skip_letters(s, p + len);
    if (class == CLASS_OTHER || (*p == ' ' && next == CLASS_OTHER)) {
        p = skip(s, p + len, CLASS_OTHER);
        while (p < s->end && is_newline(*p)) p++;
        return p;
    }
    return white_space(s, p, 1);
}

static inline place gpt2_piece(const struct scan *s, place p)
{
    size_t len;
    enum char_class class = look(s, p, &len);
    if (*p == '\'') {
        size_t n = contraction(p, s->end, 0);
        if (n) return p + n;
    }
    place start = p;
    if (*p == ' ' && p + 1 < s->end) class = look(s, ++p, &len);
    if (class == CLASS_LETTER) return skip_letters(s, p);
    if (class != CLASS_SPACE) return skip(s, p, class);
    return white_space(s, start, 0);
}

#define SCAN(name, next_piece)                                                          \
    static size_t name(const char *text, size_t n, size_t at, size_t *ends, size_t max) \
    {                                                                                   \
        const struct scan s = {classes_get(), (place)text + n};                         \
        place p = (place)text + at;                                                     \
        size_t count = 0;                                                               \
        while (count < max && p < s.end) {                                              \
            p = next_piece;                                                             \
            ends[count++] = (size_t)(p - (place)text);                                  \
        }                                                                               \
        return count;                                                                   \
    }

SCAN(scan_llama3, llama3_piece(&s, p, 3))
SCAN(scan_qwen, llama3_piece(&s, p, 1))
SCAN(scan_gpt2, gpt2_piece(&s, p))

scanner *scanner_find(const char *pattern)
{
    static const struct {
        const char *pattern;
        scanner *scan;
    } known[] = {{scan_llama3_pattern, scan_llama3},
                 {scan_qwen_pattern, scan_qwen},
                 {scan_gpt2_pattern, scan_gpt2}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(pattern, known[i].pattern)) return known[i].scan;
    return NULL;
}
