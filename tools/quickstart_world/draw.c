#include "draw.h"

#include <assert.h>

void draw_init(struct draw *d, uint32_t seed) { mt19937_seed(&d->numbers, seed); }

int draw_below(struct draw *d, int n)
{
    assert(n > 0);
    return (int)((uint64_t)mt19937_next(&d->numbers) * (uint64_t)n >> 32);
}

int draw_between(struct draw *d, int low, int high) { return low + draw_below(d, high - low + 1); }

int draw_chance(struct draw *d, int percent) { return draw_below(d, 100) < percent; }

void draw_shuffle(struct draw *d, int *items, int n)
{
    for (int i = n - 1; i > 0; i--) {
        int j = draw_below(d, i + 1), kept = items[i];
        items[i] = items[j], items[j] = kept;
    }
}

void draw_distinct(struct draw *d, int *out, int k, int n)
{
    int all[DRAW_MAX];
    assert(k <= n && n <= DRAW_MAX);
    for (int i = 0; i < n; i++) all[i] = i;
    for (int i = 0; i < k; i++) {
        int j = draw_between(d, i, n - 1);
        out[i] = all[j], all[j] = all[i];
    }
}
