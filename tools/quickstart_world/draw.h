/* draw.h - what the little world leaves to chance: one stream of numbers from one seed. */
#ifndef CRIA_QUICKSTART_DRAW_H
#define CRIA_QUICKSTART_DRAW_H

#include "base/rng.h"

struct draw {
    struct mt19937 numbers;
};

void draw_init(struct draw *d, uint32_t seed);

int draw_below(struct draw *d, int n);               /* 0 ... n-1 */
int draw_between(struct draw *d, int low, int high); /* low ... high */
int draw_chance(struct draw *d, int percent);        /* 1 that often, else 0 */

void draw_shuffle(struct draw *d, int *items, int n);

/* `k` distinct numbers below n (at most DRAW_MAX), in random order. */
#define DRAW_MAX 128
void draw_distinct(struct draw *d, int *out, int k, int n);

/* One of an array. */
#define DRAW_FROM(d, array) ((array)[draw_below((d), (int)(sizeof(array) / sizeof *(array)))])

#endif
