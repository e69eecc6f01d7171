#include "data/tokenizer/scan.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "data/tokenizer/ascii.h"
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

/* ---- many pieces at once ----
 *
 * Among ASCII characters nearly every piece begins where two or three neighbours say so, so the
 * beginnings in 64 bytes are a few operations on bits (ascii.h). The bytes begin where a piece
 * does, so nothing before them matters. What is not sure (near other characters, at the end of the
 * text) is left to the rules above. */

struct span {
    struct ascii_masks m;
    uint64_t others;
    uint64_t sure; /* where it is known whether a piece begins */
    place p;
    place end; /* of the text */
};

static inline uint64_t below(unsigned bit) { return ((uint64_t)1 << bit) - 1; }

/* Nothing is known of the character before the first foreign one, nor behind it. */
static inline void span_look(struct span *sp, place p, place end)
{
    unsigned char copy[ASCII_SPAN];
    size_t n = (size_t)(end - p);
    sp->p = p;
    sp->end = end;
    if (n < ASCII_SPAN) {
        memset(copy, 0x80, sizeof copy);
        memcpy(copy, p, n);
        p = copy;
    }
    sp->m = ascii_look(p);
    sp->others = ~(sp->m.letters | sp->m.numbers | sp->m.spaces | sp->m.high);
    unsigned foreign = sp->m.high ? (unsigned)__builtin_ctzll(sp->m.high) : ASCII_SPAN;
    sp->sure = foreign ? below(foreign - 1) : 0;
}

/* The first of each run. */
static inline uint64_t firsts(uint64_t bits) { return bits & ~(bits << 1); }

/* A contraction is a piece: what follows begins one, its letters do not. `quotes`: apostrophes that
 * begin a piece. */
static inline uint64_t with_contractions(const struct span *sp, uint64_t starts, uint64_t quotes,
                                         int any_case)
{
    for (; quotes; quotes &= quotes - 1) {
        unsigned at = (unsigned)__builtin_ctzll(quotes);
        size_t n = contraction(sp->p + at, sp->end, any_case);
        if (!n) continue;
        starts &= ~((uint64_t)2 << at);
        if (at + n < ASCII_SPAN) starts |= (uint64_t)1 << (at + n);
    }
    return starts;
}

/* Numbers in pieces of `digits` (1 or 3). */
static inline uint64_t number_starts(uint64_t numbers, int digits)
{
    if (digits == 1) return numbers;
    uint64_t starts = firsts(numbers);
    uint64_t fourth = numbers & numbers << 1 & numbers << 2 & numbers << 3;
    while (fourth) { /* of a run, or later in it: every third of them begins a piece */
        unsigned at = (unsigned)__builtin_ctzll(fourth);
        starts |= (uint64_t)1 << at;
        fourth &= ~((uint64_t)7 << at);
    }
    return starts;
}

/* White space: the line breaks behind other characters belong to those; then come pieces up to a
 * last line break, and of the rest the last character by itself or with what follows. */
static inline uint64_t llama3_spaces(struct span *sp)
{
    uint64_t newlines = sp->m.newlines, attached = newlines & sp->others << 1;
    attached = newlines & ~(newlines + attached);
    uint64_t spaces = sp->m.spaces & ~attached, plain = spaces & ~newlines;
    uint64_t begun = plain & (newlines & spaces) << 1, behind;
    if (begun) { /* the rest after a line break, if there is no other behind it */
        int unknown = __builtin_add_overflow(plain, begun, &behind);
        if (unknown || behind & ~plain & (newlines | sp->m.high))
            sp->sure &= below((unsigned)__builtin_ctzll(begun));
    }
    return firsts(spaces) | begun | (plain & ~(sp->m.spaces >> 1));
}

static inline uint64_t llama3_starts(struct span *sp, int digits)
{
    uint64_t plain = sp->m.spaces & ~sp->m.newlines;
    uint64_t others = firsts(sp->others) & ~(sp->m.blanks << 1);
    uint64_t letters = firsts(sp->m.letters) & ~((plain | others) << 1);
    uint64_t starts = letters | others | number_starts(sp->m.numbers, digits) | llama3_spaces(sp);
    return with_contractions(sp, starts, others & sp->m.quotes, 1);
}

static inline uint64_t gpt2_starts(struct span *sp)
{
    uint64_t spaces = sp->m.spaces;
    uint64_t words = firsts(sp->m.letters) | firsts(sp->m.numbers) | firsts(sp->others);
    words &= ~(sp->m.blanks << 1);
    return with_contractions(sp, words | firsts(spaces) | (spaces & ~(spaces >> 1)),
                             words & sp->m.quotes, 0);
}

/* Whether it is worth looking: eight characters of ASCII. */
static inline int is_plain(place p, place end)
{
    uint64_t eight;
    if (end - p < 16) return 0;
    memcpy(&eight, p, 8);
    return !(eight & HIGH_BITS);
}

enum pattern { LLAMA3, QWEN, GPT2 };

static inline uint64_t starts_in(struct span *sp, enum pattern pattern)
{
    uint64_t starts =
        pattern == GPT2 ? gpt2_starts(sp) : llama3_starts(sp, pattern == QWEN ? 1 : 3);
    return starts & sp->sure & ~(uint64_t)1; /* the first piece begins where the span does */
}

static inline place next_piece(const struct scan *s, place p, enum pattern pattern)
{
    return pattern == GPT2 ? gpt2_piece(s, p) : llama3_piece(s, p, pattern == QWEN ? 1 : 3);
}

/* A scanner; `pattern` is a constant wherever this is inlined. */
static inline size_t scan(const char *text, size_t n, size_t at, size_t *ends, size_t max,
                          enum pattern pattern)
{
    const struct scan s = {classes_get(), (place)text + n};
    size_t count = 0;
    while (count < max && at < n) {
        place p = (place)text + at;
        uint64_t starts = 0;
        if (is_plain(p, s.end)) {
            struct span sp;
            span_look(&sp, p, s.end);
            starts = starts_in(&sp, pattern);
        }
        if (!starts) ends[count++] = (size_t)(next_piece(&s, p, pattern) - (place)text);
        for (; starts && count < max; starts &= starts - 1)
            ends[count++] = at + (size_t)__builtin_ctzll(starts);
        at = ends[count - 1];
    }
    return count;
}

static size_t scan_llama3(const char *text, size_t n, size_t at, size_t *ends, size_t max)
{
    return scan(text, n, at, ends, max, LLAMA3);
}

static size_t scan_qwen(const char *text, size_t n, size_t at, size_t *ends, size_t max)
{
    return scan(text, n, at, ends, max, QWEN);
}

static size_t scan_gpt2(const char *text, size_t n, size_t at, size_t *ends, size_t max)
{
    return scan(text, n, at, ends, max, GPT2);
}

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
