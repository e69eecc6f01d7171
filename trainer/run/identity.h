/* identity.h - what must be the same for a run to go on as if it had never stopped.
 *
 * Machine, weights, data and every key of the config that decides a number, by name, as
 * ckpt/fingerprint.h compares them.
 */
#ifndef CRIA_RUN_IDENTITY_H
#define CRIA_RUN_IDENTITY_H

#include "ckpt/fingerprint.h"
#include "run/session.h"

/* Adds them all to `f`, whose owner frees it after a failure too. ERR_MEMORY. */
MUST_CHECK enum status identity_make(struct session *s, struct fingerprint *f, struct err *e);

#endif
