/* saved.h - modules of the base that are trained whole beside an adapter (PEFT's modules_to_save).
 *
 * A name stands for every module whose path ends with it, as PEFT has it: "norm" for all norms,
 * "embed_tokens", "lm_head". They are trained in place, with the optimiser's state of any weight,
 * and saved with the adapter as base_model.model.<path>.weight. A linear of the blocks is not for
 * this: it has an adapter.
 *
 * Where head and embedding are one table, either name means that table; it is saved under both.
 */
#ifndef CRIA_ADAPTER_SAVED_H
#define CRIA_ADAPTER_SAVED_H

#include "autograd/param.h"

/* Marks the parameters PARAM_SAVED. `head` is the index of the head's table. ERR_CONFIG: a name
 * that no module ends with, or that of a linear. */
MUST_CHECK enum status saved_mark(struct param_set *params, int32_t head, const char *const *names,
                                  size_t n, struct err *e);

#endif
