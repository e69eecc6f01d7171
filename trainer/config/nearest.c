#include <ctype.h>
#include <string.h>

#include "config/config.h"

#define LONGEST 64 /* longer names are never near */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Optimal string alignment distance (Damerau-Levenshtein without editing a swap again). */
static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t rows[3][LONGEST + 1], *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= nb; j++) last[j] = before[j] = j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            now[j] = least(last[j - 1] + (x != y), least(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]))
                now[j] = least(now[j], before[j - 2] + 1);
        }
        size_t *spare = before;
        before = last, last = now, now = spare;
    }
    return last[nb];
}

const char *config_nearest(const char *text, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t length = strlen(text), best = length < 3 ? 2 : 2 + length / 4;
    if (length > LONGEST || length < 2) return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t other = strlen(names[i]);
        if (other > LONGEST) continue;
        size_t d = distance(text, length, names[i], other);
        if (d < best && d < other) best = d, nearest = names[i];
    }
    return nearest;
}
