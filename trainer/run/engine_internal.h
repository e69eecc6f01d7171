/* engine_internal.h - what the engine's files share:
 *
 *     engine.c         describing, updates, FLOPs
 *     engine_memory.c  arenas and plans
 *     engine_record.c  a micro-batch on the device, and on the tape
 *     engine_pass.c    recorded and queued, or replayed
 *     engine_train.c   training and evaluation
 *     engine_pairs.c   preferences
 *     engine_decode.c  generation
 */
#ifndef CRIA_RUN_ENGINE_INTERNAL_H
#define CRIA_RUN_ENGINE_INTERNAL_H

#include "run/engine.h"

/* The micro-batch's arrays in the run arena. */
struct tokens engine_device_tokens(const struct engine *g, int32_t rows, int32_t segments);
struct tokens engine_batch_tokens(const struct engine *g, const struct batch *b);

/* Rows of a micro-batch as the device computes it: with its dead tail. */
static inline int32_t engine_rows(const struct batch *b) { return b->N + b->tail.rows; }
static inline int32_t engine_supervised(const struct batch *b) { return b->S + b->tail.supervised; }

/* Queues a pass over a micro-batch that has been uploaded; its numbers are in g->results[pass].
 * ENGINE_BACKWARD follows ENGINE_SCORE of the same one. ERR_SHAPE (larger than the limits). */
MUST_CHECK enum status engine_pass(struct engine *g, enum engine_pass pass, const struct batch *b,
                                   struct err *e);

void engine_upload(struct engine *g, void *to, const void *from, int64_t count, size_t each);
void engine_upload_batch(struct engine *g, const struct batch *b);
/* What dropout of this step is keyed by. */
void engine_upload_dropout(struct engine *g, uint64_t seed, int64_t step);

/* Records a training or evaluation micro-batch of this size. */
struct head_result engine_record(struct engine *g, int backward, const struct tokens *tokens,
                                 int32_t supervised);
/* The reference's forward. The copies must be in use. */
struct head_result engine_record_reference(struct engine *g, const struct tokens *tokens,
                                           int32_t supervised);
struct tensor *engine_record_decode(struct engine *g, const struct tokens *tokens);

#endif
