/* recompute.h - gradient_checkpointing: what of which block backward computes again.
 *
 *     recompute_fixed(word, layers)         the words that treat all blocks alike
 *     recompute_choose(&engine, fits, ...)  auto: the least that fits
 *     recompute_print(...)                  "0-9 full, 10-31 selective"
 *
 * What auto takes is ordered by what it computes again, and nothing is timed. A full block costs
 * its forward pass, a selective one a few per cent of that, so there are as few full ones as can
 * be, and with them as few selective ones. Only where all blocks in full are too much do first
 * blocks send their inputs to the host, on a device that can. In each kind of block the first ones
 * come first: see struct model_recompute.
 */
#ifndef CRIA_RUN_RECOMPUTE_H
#define CRIA_RUN_RECOMPUTE_H

#include "base/buf.h"
#include "config/config.h"
#include "run/engine.h"

/* For auto, what recompute_choose begins with: none. */
struct model_recompute recompute_fixed(enum config_gradient_checkpointing word, int32_t layers);

/* Whether a run whose engine has measured itself fits. */
struct recompute_room {
    int (*fits)(const void *context);
    const void *context;
};

/* Leaves the engine, measured and not allocated yet, with the least that fits; where nothing does,
 * with what takes least. Plans some ten times. ERR_MEMORY, ERR_SHAPE. */
MUST_CHECK enum status recompute_choose(struct engine *g, const struct recompute_room *room,
                                        struct err *e);

/* How many blocks are computed as enum recompute says, and which is the first of them. */
struct recompute_span {
    int32_t first, count;
};
void recompute_spans(const struct engine *g, struct recompute_span out[NUM_RECOMPUTE]);
const char *recompute_word(enum recompute how);

/* The blocks from first to last: "0-9 full, 10-31 selective". ERR_MEMORY. */
MUST_CHECK enum status recompute_print(const struct engine *g, struct buf *out);

#endif
