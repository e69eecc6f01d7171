#include "base/segment.h"

double segment_pairs(const struct segment *segments, int32_t count, int32_t window)
{
    double pairs = 0;
    for (const struct segment *s = segments; s < segments + count; s++) {
        double rows = s->length, before = s->prefix_length, free = window - before;
        if (!window || free > rows) free = rows; /* rows whose window reaches all there is */
        if (free < 0) free = 0;
        pairs += free * before + free * (free + 1) / 2 + (rows - free) * window;
    }
    return pairs;
}
