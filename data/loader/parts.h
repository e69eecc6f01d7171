/* parts.h - what the files of the loader share; private to data/loader.
 *
 * plan.c decides what is kept of each document and what it comes to, loader.c makes units and
 * orders of that, lay.c writes the rows of a micro-batch.
 */
#ifndef CRIA_DATA_LOADER_PARTS_H
#define CRIA_DATA_LOADER_PARTS_H

#include "data/loader/loader.h"
#include "data/pack/pack.h"
#include "data/store/store.h"

/* A kept document or record, after the cut. */
struct planned {
    int32_t document; /* in the store */
    int32_t key;      /* batch.keys */
    int64_t first;    /* of a piece: where it starts in the document */
    int32_t tokens;   /* as peers count them */
    int32_t rows;     /* of a text: up to the one that predicts the last trained target */
    int32_t targets, segments;
    int32_t stage;
    double weight;
};

/* Ids of a preference record's parts, after the cut; 0: no such reply. */
struct parts {
    int32_t prompt, chosen, rejected, mismatch;
    int32_t partner; /* whose reply the mismatch is: document in the store; -1 */
};

struct loader {
    struct store *store;
    struct loader_options options;
    struct loader_report report;
    struct planned *planned; /* [report.documents] */
    struct parts *parts;     /* [report.documents]; NULL: no preferences */
    struct pack pack;        /* indices into planned; empty without packing */
    int64_t *stage_units;    /* [num_stages] where each ends among the units */
    int64_t num_stages;
    int64_t *order;      /* [report.units] of order_epoch */
    int64_t order_epoch; /* -1: none drawn */
    int64_t micros_per_epoch;
    int32_t multiple; /* of rows, by a dead tail; 0: none */
    int32_t *cut, *dropped;
    /* One micro-batch, at the largest any order could give. */
    int32_t *ids, *positions, *documents, *keys, *rows, *targets;
    float *weights;
    struct segment *segments;
    struct batch_pair *pairs;
    /* One document, and one whose reply is a mismatch. */
    int32_t *document_ids, *partner_ids;
    float *document_weights;
};

/* Fills planned, parts, cut, dropped, the report but for its units, and makes room for one
 * document. Errors as loader_open. */
MUST_CHECK enum status loader_plan(struct loader *l, struct loader_subset subset, struct err *e);

/* n ids of a text from `first` on into `ids` (may be NULL), their weights into document_weights.
 * The first one's is 0: it is no target, or the one of the piece before. As store_read. */
MUST_CHECK enum status loader_read(struct loader *l, int64_t document, int64_t first, int32_t n,
                                   int32_t *ids, struct err *e);

/* Ids a record takes up in a row of a packed batch, and how many such a row has. */
int32_t loader_room(const struct loader *l, int64_t planned);
int32_t loader_capacity(const struct loader *l);

/* Appends the rows of a planned document or record. Errors as loader_batch. */
MUST_CHECK enum status loader_lay(struct loader *l, int64_t planned, struct batch *b,
                                  struct err *e);
/* Writes the dead tail behind all of them. */
void loader_lay_tail(struct loader *l, struct batch *b);

#endif
