/* codes.h - optimiser states in 8 bits: the two maps of 256 numbers, and the way into them.
 *
 * A state is cut into blocks of 256 elements. A block keeps its largest magnitude in fp32 and one
 * code an element; element = number(code) * largest. The numbers are those of bitsandbytes'
 * create_dynamic_map (arXiv 1511.04561): seven decades 10^-6, ..., 1 of 1, 2, 4, ..., 64 numbers,
 * twice as many without a sign, each decade the middles of so many equal parts of [0.1, 1]; and 0
 * and 1. Counted by rank, the decade that begins at rank n has n numbers:
 *
 *     number(rank) = 10^(i-6) (0.1 + 0.9 (rank - n + 1/2) / n),  n = 2^i, unsigned 2^(i+1), i =
 * 0..6 signed:   code 127 is 0; 127 + rank and 127 - rank are +-number(rank), rank 1 ... 127; 255:
 * 1 unsigned: code 0 is 0; rank - 1 is number(rank), rank 2 ... 255; 255: 1
 *
 * There is no -1: a block whose largest magnitude is negative gets -0.993 of it back.
 *
 * The way in takes the nearest number: by comparing with the middle between two decades, one row
 * of a map applies, and within a decade ranks lie evenly. On a tie, and within 1e-4 of a step of
 * one, either side may be taken. bitsandbytes on a GPU does not let a negative number become 0, but
 * -5.5e-7 of the largest; its other backends do, and so does this.
 */
#ifndef CRIA_KERNELS_CODES_H
#define CRIA_KERNELS_CODES_H

#include <stdint.h>

enum { CODES_BLOCK = 256, CODES_DECADES = 7, CODES_ROWS = CODES_DECADES + 2 };
enum codes_kind { CODES_SIGNED, CODES_UNSIGNED };

/* Of x above `above` (and not above the next row's): rank = gain x + 8/9 first, cut off, within
 * [first, 2 first - 1/2]. */
struct codes_row {
    float above, gain, first;
};

struct codes_map {
    float number[256];                /* by code */
    struct codes_row row[CODES_ROWS]; /* zero, the decades, one */
};

#ifndef CODES_FUNCTION /* a kernel file says what makes a function the device's */
#define CODES_FUNCTION static inline
#endif

CODES_FUNCTION double codes_ten(int decade) /* 10^(decade-6) */
{
    double ten = 1;
    for (; decade < CODES_DECADES - 1; decade++) ten *= 10;
    return 1 / ten;
}

/* The number in the place x (1/2: the first) of a decade of n. */
CODES_FUNCTION double codes_place(int decade, int n, double x)
{
    return codes_ten(decade) * (0.1 + 0.9 * x / n);
}

CODES_FUNCTION float codes_number(enum codes_kind kind, int code)
{
    int rank = kind == CODES_UNSIGNED ? code + 1 : code < 127 ? 127 - code : code - 127;
    int decade = 0, n = 1 << kind;
    if (rank < n) return 0;
    if (code == 255) return 1;
    for (; rank >= 2 * n; n *= 2) decade++;
    double x = codes_place(decade, n, rank - n + 0.5);
    return (float)(kind == CODES_SIGNED && code < 127 ? -x : x);
}

CODES_FUNCTION struct codes_row codes_make_row(enum codes_kind kind, int number)
{
    int decade = number - 1, n = 1 << (kind + (decade > 0 ? decade : 0));
    double below = decade > 0 ? codes_place(decade - 1, n / 2, n / 2 - 0.5) : 0;
    struct codes_row r = {-1, 0, (float)kind};
    if (number == 0) return r;
    double from = decade == CODES_DECADES ? 1 : codes_place(decade, n, 0.5);
    r.above = (float)((below + from) / 2);
    r.gain = decade == CODES_DECADES ? 0 : (float)(n / (0.9 * codes_ten(decade)));
    r.first = (float)n;
    return r;
}

/* x in [0, 1]; what is no number is taken for 0. */
CODES_FUNCTION int codes_rank(float x, float gain, float first)
{
    float rank = gain * (x > 0 ? x : 0) + first * (8 / 9.f), last = 2 * first - 0.5f;
    rank = rank < first ? first : rank;
    return (int)(rank > last ? last : rank);
}

#endif
