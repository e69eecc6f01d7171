/* products.h - the algorithms that a library chose for products, in a checkpoint and back.
 *
 * cuBLASLt names an algorithm by a rule of its own, so the same version on the same GPU names the
 * same; what it named is kept all the same, in cria_state.json's "state": {"products": {shape:
 * algorithm}}, and a run that goes on asks again for each shape before its first step.
 */
#ifndef CRIA_RUN_PRODUCTS_H
#define CRIA_RUN_PRODUCTS_H

#include <jansson.h>

#include "kernels/kernels.h"

/* Adds them to `state`; nothing where the device's products are nobody's choice. ERR_MEMORY. */
MUST_CHECK enum status products_to_json(const struct device *d, json_t *state, struct err *e);

/* Those in `state`, of the file at `path`, against what they would get now. A state without any is
 * fine. ERR_CONFIG: another algorithm; ERR_FORMAT, ERR_DEVICE. */
MUST_CHECK enum status products_check(struct device *d, const json_t *state, const char *path,
                                      struct err *e);

#endif
