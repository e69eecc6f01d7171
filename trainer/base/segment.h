/* segment.h - how a flat micro-batch is cut into documents.
 *
 * N rows of several documents lie end to end. A document is one or more
 * segments; a row of a segment sees the rows of its own segment up to itself, and
 * the segment's prefix. Masks go by position, never by row index:
 *
 *   row r of segment s has position  s.position + (r - s.start)
 *   it sees row c of s itself        when pos(c) <= pos(r)
 *   it sees prefix row s.prefix_start + j (position j, j < s.prefix_length)
 *   with a window W also             pos(c) > pos(r) - W
 *
 * A plain document is one segment {start, length, 0, 0, 0}. A reply that shares
 * its prompt has the prompt's rows but the last as prefix, and starts with its own
 * copy of the prompt's last token. Decoding with a cache is the same thing:
 * the new rows are a reply to the cached ones.
 */
#ifndef CRIA_BASE_SEGMENT_H
#define CRIA_BASE_SEGMENT_H

#include <stdint.h>

struct segment {
    int32_t start, length;               /* rows */
    int32_t position;                    /* of the first row */
    int32_t prefix_start, prefix_length; /* rows; positions 0 ... prefix_length-1 */
    int32_t document;                    /* segments of one document are adjacent and share this;
                                            0, 1, 2, ... within the micro-batch */
};

/* What struct kern_attention wants of segments that the host knows: rows of the longest; 0 where
 * one has a prefix. */
static inline int32_t segments_longest(const struct segment *segments, int32_t n)
{
    int32_t longest = 0;
    for (int32_t i = 0; i < n; i++) {
        if (segments[i].prefix_length) return 0;
        if (segments[i].length > longest) longest = segments[i].length;
    }
    return longest;
}

/* How many pairs of a row and a row that it sees there are; window 0: all. */
double segment_pairs(const struct segment *segments, int32_t count, int32_t window);

#endif
