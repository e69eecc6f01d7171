/* mixture.h - the config's word on how the datasets are mixed (data/loader/mix.h does it), and what
 * came of it, for people and programs. */
#ifndef CRIA_RUN_MIXTURE_H
#define CRIA_RUN_MIXTURE_H

#include <jansson.h>

#include "base/buf.h"
#include "base/hash.h"
#include "config/config.h"
#include "data/loader/mix.h"
#include "data/store/store.h"

/* ERR_CONFIG: weights that do not go with mix_strategy, or not for all datasets; and as mix_make.
 */
MUST_CHECK enum status mixture_make(struct mix *out, const struct config *c, struct store *store,
                                    struct err *e);

/* Warns where prompts of the training part are in the dataset evaluated on. ERR_IO, ERR_FORMAT,
 * ERR_MEMORY. */
MUST_CHECK enum status mixture_check_overlap(const struct mix *m, struct store *store,
                                             struct store *eval_store, struct err *e);

/* What of it would change a run: 32 digits. */
MUST_CHECK enum status mixture_hash(const struct mix *m, char out[HASH_HEX_SIZE], struct err *e);

/* [{"source", "documents", "left_out", "held_out", "an_epoch", "share", "passes"}], a new
 * reference; NULL without memory. */
json_t *mixture_json(const struct mix *m, const struct store *store);

/* A line a source, under a heading; nothing where one source is taken whole. ERR_MEMORY,
 * ERR_FORMAT. */
MUST_CHECK enum status mixture_print(const struct mix *m, const struct store *store,
                                     struct buf *out);

#endif
