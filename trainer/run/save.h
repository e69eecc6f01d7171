/* save.h - what a run leaves on disk, in the layouts of Transformers and PEFT.
 *
 * output_dir/                     the final model or adapter, tokenizer, cria.json,
 * trainer_state.json, metrics.jsonl, config.resolved.yaml output_dir/checkpoint-N/        the same
 * after N steps, and state.safetensors and cria_state.json, from which the run goes on bit for bit
 *
 * A checkpoint is written aside and renamed (ckpt/commit.h): at any instant the previous one
 * stands whole.
 */
#ifndef CRIA_RUN_SAVE_H
#define CRIA_RUN_SAVE_H

#include "run/session.h"

/* Makes output_dir and writes the resolved config. ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status save_begin(struct session *s, struct err *e);

/* checkpoint-<done>, and rotation by save_total_limit. Its path to out[size]. */
MUST_CHECK enum status save_checkpoint(struct session *s, char *out, size_t size, struct err *e);

MUST_CHECK enum status save_final(struct session *s, struct err *e);

/* Reads trainable weights, moments and the step from the checkpoint s->resume; it must belong to
 * this very run (ERR_CONFIG names what differs). */
MUST_CHECK enum status save_resume(struct session *s, struct err *e);

/* ERR_CONFIG if output_dir holds an earlier run that is neither resumed nor to be overwritten.
 * Finds the checkpoint for s->resume. */
MUST_CHECK enum status save_check_output(struct session *s, struct err *e);

/* With overwrite_output_dir removes what a run left there, when nothing can refuse the new one any
 * more. ERR_IO. */
MUST_CHECK enum status save_clear_output(struct session *s, struct err *e);

#endif
