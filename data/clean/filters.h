/* filters.h - what a conversation is left out for by its text alone, as FastChat's scripts do.
 * Texts are well-formed UTF-8. */
#ifndef CRIA_DATA_CLEAN_FILTERS_H
#define CRIA_DATA_CLEAN_FILTERS_H

#include "data/formats/conversation.h"

/* One of the words (lower-case ASCII) occurs, whatever the case. */
int filter_blocked(struct text t, const char *const *words, size_t num_words);

/* A digit nine times in a row: (\d)\1{8} */
int filter_repeats(struct text t);

/* A list whose first two items are both numbered 1: \n1\. [^2]*\n1\.  and a space. */
int filter_numbering(struct text t);

/* A reply that is ChatGPT's refusal to go on: it starts with "Too many requests in 1 hour. Try
 * again later." */
int filter_refusal(struct text t);

#endif
