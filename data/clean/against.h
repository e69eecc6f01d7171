/* against.h - evaluation files, so that what is trained holds nothing of them.
 *
 * As FreeWilly's makers did, and GPT-3's: a record goes when `ngram` words in a row (words.h) stand
 * in an evaluation item too. An item is one text: every string of a JSON record, wherever it stands
 * in it, or a line of any other file (CSV, plain text). Of items with fewer words than that, and
 * half as many at least, all words must occur, in a row; shorter ones (the answer "Paris") cannot
 * be told from chance and are not looked for. 12 to 18 bytes a word of the files are kept.
 */
#ifndef CRIA_DATA_CLEAN_AGAINST_H
#define CRIA_DATA_CLEAN_AGAINST_H

#include <stdint.h>

#include "base/status.h"
#include "data/clean/words.h"

#define AGAINST_NGRAM 13
#define AGAINST_NGRAM_MAX 64

struct against; /* heap; const once filled: threads may share it */

/* ngram: 2 to AGAINST_NGRAM_MAX. ERR_MEMORY. */
MUST_CHECK enum status against_open(struct against **out, int ngram);
void against_close(struct against *a); /* NULL is fine */

/* Takes in a file. ERR_IO, ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status against_add_file(struct against *a, const char *path, struct err *e);

/* Takes in one item. ERR_MEMORY. */
MUST_CHECK enum status against_add(struct against *a, struct text item);

/* Whether the words hold a piece of an item, whose number (from 0, in the order taken in) is *item.
 */
int against_find(const struct against *a, const struct word_list *w, uint32_t *item);

/* The file and number (of its items, 1-based) of an item. */
const char *against_origin(const struct against *a, uint32_t item, int64_t *number);

int64_t against_items(const struct against *a);   /* all of them */
int64_t against_skipped(const struct against *a); /* items too short to be looked for */

#endif
