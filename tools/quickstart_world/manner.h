/* manner.h - the two ways to give an answer: short, which is the answer alone, and long-winded,
 * which is a line of preamble, the answer on a line of its own, and a closing line. Both are as
 * right.
 *
 * Preambles and closings are made of words that the base has read, but not of sentences. */
#ifndef CRIA_QUICKSTART_MANNER_H
#define CRIA_QUICKSTART_MANNER_H

#include "draw.h"
#include "page.h"

/* Adds the answer in its long-winded form. */
void manner_wind(struct draw *d, const char *answer, struct page *out);

/* Whether a reply is one line and not one that belongs around an answer. */
int manner_is_short(const char *reply);

/* Whether a line of the reply is the answer, to the letter. */
int manner_holds(const char *reply, const char *answer);

#endif
