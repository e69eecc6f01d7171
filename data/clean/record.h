/* record.h - a record's conversation on its way through the steps; private to data/clean.
 *
 * clean_record does all that does not depend on other records. Who settles the records in their
 * order looks for duplicates (`exact` stands before some of the steps that were done here already,
 * so a verdict of those counts only if the record is no duplicate), and writes `lines`.
 */
#ifndef CRIA_DATA_CLEAN_RECORD_H
#define CRIA_DATA_CLEAN_RECORD_H

#include <jansson.h>

#include "data/clean/clean.h"
#include "data/clean/message.h"
#include "data/clean/near.h"

struct clean_turn {
    enum role role;
    float weight;
    size_t at, n; /* in maker.texts */
};

/* What one thread cleans with. Zero-initialise, then clean_maker_open. */
struct clean_maker {
    const struct clean_options *options;
    struct message_tools tools;
    struct conversation conversation;
    struct buf texts, line;
    struct clean_turn *turns; /* of the record at hand; a system turn among them comes first */
    size_t num_turns, cap_turns;
    int32_t *lengths; /* [cap_turns] */
    size_t characters;
    struct word_list words;
    struct tokenizer_scratch *scratch;
    struct id_list ids;
};

/* How a source's records are to be taken. */
struct clean_place {
    const struct format *format;
    int is_html;
    const char *stem; /* of the file, for ids */
    int64_t number;   /* of the record */
    size_t part;      /* which of its conversations */
};

struct clean_result {
    enum clean_reason reason; /* the first step that leaves it out, but for duplicates */
    unsigned changes;         /* 1 << enum clean_change */
    uint64_t id_key, pair_key;
    int has_id;
    struct near_signature signature;
    size_t from, to; /* its lines */
    int32_t segments, written, turns;
    int32_t numbered; /* segments that `numbering` left out */
    uint32_t item;    /* CLEAN_CONTAMINATED: of the evaluation files */
    char detail[32];
    char excerpt[CLEAN_EXCERPT];
};

MUST_CHECK enum status clean_maker_open(struct clean_maker *m, const struct clean_options *o,
                                        struct err *e);
void clean_maker_close(struct clean_maker *m);

/* The conversation place->part of a record, which has more where m->conversation.more says so.
 * Appends what is to be written to `lines`. ERR_FORMAT (a field is missing or of the wrong type),
 * ERR_DATA (the tokenizer has no token for a character), ERR_MEMORY. */
MUST_CHECK enum status clean_record(struct clean_maker *m, const struct clean_place *place,
                                    const json_t *record, struct clean_result *out,
                                    struct buf *lines, struct err *e);

#endif
