/* ascii.h - the classes of 64 characters at once, one bit each, bit i for byte i.
 *
 * Bytes of other characters than ASCII are in `high` alone. ascii_look takes the vector
 * instructions of the compiler's baseline where they are known (SSE2, which every x86-64 has);
 * ascii_look_portable is the same in plain words, and what the tests hold it against.
 */
#ifndef CRIA_DATA_TOKENIZER_ASCII_H
#define CRIA_DATA_TOKENIZER_ASCII_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define ASCII_SPAN 64 /* bytes */

struct ascii_masks {
    uint64_t letters, numbers;
    uint64_t spaces, newlines, blanks; /* white space; \n and \r; U+0020 */
    uint64_t quotes;                   /* apostrophes */
    uint64_t high;                     /* bytes of other characters */
};

#define ASCII_EACH 0x0101010101010101u
#define ASCII_HIGH 0x8080808080808080u

/* The high bit of each byte of x (all below 0x80) that is in first..last. */
static inline uint64_t ascii_between(uint64_t x, unsigned first, unsigned last)
{
    return (x + (0x80 - first) * ASCII_EACH) & ~(x + (0x7F - last) * ASCII_EACH) & ASCII_HIGH;
}

/* High bits of bytes, the first byte's lowest, moved to bits at..at+7. */
static inline uint64_t ascii_bits(uint64_t high_bits, int at)
{
    return ((high_bits >> 7) * 0x0102040810204080u >> 56) << at;
}

static inline struct ascii_masks ascii_look_portable(const unsigned char *p)
{
    struct ascii_masks m = {0};
    for (int at = 0; at < ASCII_SPAN; at += 8) {
        uint64_t eight;
        memcpy(&eight, p + at, 8);
        eight = le64toh(eight);
        uint64_t x = eight & ~ASCII_HIGH, low = ~eight & ASCII_HIGH;
        uint64_t blanks = ascii_between(x, ' ', ' ') & low;
        uint64_t lines = ascii_between(x, '\n', '\n') | ascii_between(x, '\r', '\r');
        m.letters |= ascii_bits(ascii_between(x | 0x20 * ASCII_EACH, 'a', 'z') & low, at);
        m.numbers |= ascii_bits(ascii_between(x, '0', '9') & low, at);
        m.spaces |= ascii_bits((ascii_between(x, 9, 13) & low) | blanks, at);
        m.newlines |= ascii_bits(lines & low, at);
        m.blanks |= ascii_bits(blanks, at);
        m.quotes |= ascii_bits(ascii_between(x, '\'', '\'') & low, at);
        m.high |= ascii_bits(eight & ASCII_HIGH, at);
    }
    return m;
}

#ifdef __SSE2__

static inline uint64_t ascii_move(__m128i bytes, int at)
{
    return (uint64_t)(uint32_t)_mm_movemask_epi8(bytes) << at;
}

static inline __m128i ascii_equal(__m128i v, char c) { return _mm_cmpeq_epi8(v, _mm_set1_epi8(c)); }

/* Bytes first..first+count-1: there is no unsigned comparison, so they are moved to the lowest of
 * the signed ones. */
static inline __m128i ascii_range(__m128i v, int first, int count)
{
    __m128i moved = _mm_add_epi8(v, _mm_set1_epi8((char)(-128 - first)));
    return _mm_cmplt_epi8(moved, _mm_set1_epi8((char)(-128 + count)));
}

static inline struct ascii_masks ascii_look(const unsigned char *p)
{
    struct ascii_masks m = {0};
    for (int at = 0; at < ASCII_SPAN; at += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + at));
        __m128i blanks = ascii_equal(v, ' ');
        __m128i lower = _mm_or_si128(v, _mm_set1_epi8(0x20));
        m.letters |= ascii_move(ascii_range(lower, 'a', 26), at);
        m.numbers |= ascii_move(ascii_range(v, '0', 10), at);
        m.spaces |= ascii_move(_mm_or_si128(ascii_range(v, 9, 5), blanks), at);
        m.newlines |= ascii_move(_mm_or_si128(ascii_equal(v, '\n'), ascii_equal(v, '\r')), at);
        m.blanks |= ascii_move(blanks, at);
        m.quotes |= ascii_move(ascii_equal(v, '\''), at);
        m.high |= ascii_move(v, at);
    }
    return m;
}

#else

static inline struct ascii_masks ascii_look(const unsigned char *p)
{
    return ascii_look_portable(p);
}

#endif

#endif
