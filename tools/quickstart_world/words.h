/* words.h - the little world's vocabulary. No word means two things, and what follows "a" begins
 * with a consonant. */
#ifndef CRIA_QUICKSTART_WORDS_H
#define CRIA_QUICKSTART_WORDS_H

#include "draw.h"

struct words {
    const char *const *items;
    int n;
};

extern const struct words words_people, words_cities, words_jobs, words_colors, words_objects,
    words_food, words_pets;
extern const struct words words_listed; /* what lists are made of */
extern const struct words words_filler; /* what sentences without a meaning are made of; among them
                                           every word of the template and of the instructions */

const char *words_any(struct draw *d, const struct words *w);

/* One of all the words above but the filler. */
const char *words_of_any_kind(struct draw *d);

#endif
