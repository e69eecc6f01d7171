/* write.h - the segments of a cleaned conversation as lines of JSON; private to data/clean. */
#ifndef CRIA_DATA_CLEAN_WRITE_H
#define CRIA_DATA_CLEAN_WRITE_H

#include "data/clean/record.h"

/* Splits the turns of the record at hand (CLEAN_SPLIT), leaves out segments (CLEAN_NUMBERING) and
 * appends the others to `lines`. ERR_DATA, ERR_MEMORY. */
MUST_CHECK enum status clean_write(struct clean_maker *m, const struct clean_place *place,
                                   const json_t *record, struct clean_result *out,
                                   struct buf *lines, struct err *e);

struct text clean_turn_text(const struct clean_maker *m, size_t turn);

#endif
