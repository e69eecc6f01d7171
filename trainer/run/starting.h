/* starting.h - the weights a run starts from: base, adapter, and the reference they are held to.
 *
 * A run of stage dpo or kto has two models. The reference is, in this order:
 *
 *     ref_model               another model of the base's shape
 *     ref_adapter             the base with that adapter; "base": without any
 *     adapter_name_or_path    the base with the adapter that the run goes on from
 *     otherwise               the base
 *
 * Unless its log-probabilities are computed beforehand (precompute_ref_log_probs), the engine keeps
 * what differs from the policy beside it. Beforehand they are computed with the reference in the
 * policy's place, so that no second copy is ever held, and kept in a sidecar beside the datasets'
 * cache, whose name is a hash of all they depend on.
 */
#ifndef CRIA_RUN_STARTING_H
#define CRIA_RUN_STARTING_H

#include "run/session.h"

/* Opens what the config names as adapter to go on from and looks at ref_model. ERR_CONFIG,
 * ERR_IO, ERR_FORMAT, ERR_SHAPE, ERR_UNSUPPORTED, ERR_MEMORY. */
MUST_CHECK enum status starting_open(struct session *s, struct err *e);

/* s->trained_tokens, where the adapter to go on from has some. ERR_CONFIG, ERR_MEMORY. */
MUST_CHECK enum status starting_tokens(struct session *s, struct err *e);

/* s->lora, from the config and that adapter. ERR_CONFIG: they differ. */
MUST_CHECK enum status starting_lora(struct session *s, struct err *e);

/* Which reference the engine is to have. */
enum engine_reference starting_reference(const struct session *s);

/* All weights as they are before the first step; the reference kept, or its log-probabilities in
 * s->known and s->eval_known. ERR_IO, ERR_FORMAT, ERR_SHAPE, ERR_MEMORY, ERR_DISK_FULL, ERR_DATA,
 * ERR_DEVICE. */
MUST_CHECK enum status starting_load(struct session *s, struct err *e);

/* The adapter that the config's reference has, NULL: none. */
const char *starting_reference_adapter(const struct config *c);

/* Whether weights of one are weights of the other. */
int starting_same_shape(const struct model_config *a, const struct model_config *b);

/* A word for what the reference is, for people: "the base, without the adapter". */
const char *starting_reference_text(const struct session *s);

#endif
