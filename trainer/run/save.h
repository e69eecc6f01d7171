/* save.h - what a run leaves on disk, in the layouts of Transformers and PEFT.
 *
 * output_dir/                     the final model or adapter, tokenizer, cria.json,
 * trainer_state.json, metrics.jsonl, config.resolved.yaml output_dir/checkpoint-N/        the same
 * after N steps, and state.safetensors and cria_state.json, from which the run goes on bit for bit
 *
 * It may be written by a thread beside training (saver.h): then the session is a copy.
 *
 * A checkpoint is written aside and renamed (ckpt/commit.h): at any instant the previous one
 * stands whole.
 */
#ifndef CRIA_RUN_SAVE_H
#define CRIA_RUN_SAVE_H

#include "run/session.h"

/* Makes output_dir and writes the resolved config. ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status save_begin(struct session *s, struct err *e);

/* checkpoint-<done>, and rotation by save_total_limit, which spares the best. Its path to
 * out[size]. On failure the earlier checkpoints stand and the half-written one is gone. */
MUST_CHECK enum status save_checkpoint(struct session *s, char *out, size_t size, struct err *e);

MUST_CHECK enum status save_final(struct session *s, struct err *e);

/* The weights of the best evaluation into the engine, from its checkpoint. ERR_IO, ERR_FORMAT, ...
 */
MUST_CHECK enum status save_load_best(struct session *s, struct err *e);

/* Under on_disk_full: continue, ERR_DISK_FULL becomes a warning and OK; all else is as given. For
 * whatever can be written again later or done without. */
MUST_CHECK enum status save_tolerate(const struct session *s, enum status status, struct err *e);

/* Reads trainable weights, moments, the step, the guard's and the best evaluation's state from the
 * checkpoint s->resume; it must belong to this very run (ERR_CONFIG names what differs). A damaged
 * file is named, and the checkpoint before it, if any. */
MUST_CHECK enum status save_resume(struct session *s, struct err *e);

#endif
