/* trainer_state.h - trainer_state.json, in the layout of transformers' TrainerState.
 *
 * What tools of the Hugging Face world look for in a checkpoint: where the run stands and its
 * log. It is a report that can be read back, not the state that makes a resumed run the same:
 * that is in the tensors and the fingerprint.
 */
#ifndef CRIA_CKPT_TRAINER_STATE_H
#define CRIA_CKPT_TRAINER_STATE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "base/status.h"

#define TRAINER_STATE_FILE "trainer_state.json"

struct trainer_state {
    double epoch;
    int64_t global_step, max_steps, num_train_epochs;
    int64_t logging_steps, eval_steps, save_steps;
    int64_t train_batch_size;
    int64_t num_input_tokens_seen;
    double total_flos;
    double best_metric;                      /* meaningful if best_step >= 0 */
    int64_t best_step;                       /* -1: no best one yet */
    char best_model_checkpoint[IO_PATH_MAX]; /* "": null */
    json_t *log_history;                     /* owned; a list of objects */
};

struct log_value {
    const char *key;
    double value;
};

/* Empty: best_step -1, an empty log. ERR_MEMORY. */
MUST_CHECK enum status trainer_state_init(struct trainer_state *s, struct err *e);
void trainer_state_free(struct trainer_state *s); /* a zeroed one is fine */

/* Appends {values..., "epoch", "step"}; not finite values become null. ERR_MEMORY. */
MUST_CHECK enum status trainer_state_log(struct trainer_state *s, const struct log_value *values,
                                         size_t count, struct err *e);

/* The file `path`. Write: ERR_IO, ERR_DISK_FULL, ERR_MEMORY; read: ERR_IO, ERR_MEMORY, ERR_FORMAT,
 * and inits *s, which is zeroed on failure. Absent keys keep their defaults. */
MUST_CHECK enum status trainer_state_write(const struct trainer_state *s, const char *path,
                                           struct err *e);
MUST_CHECK enum status trainer_state_read(struct trainer_state *s, const char *path, struct err *e);

#endif
