/* explain.h - what a run will do and why, in plain words: `cria train CONFIG --explain`. */
#ifndef CRIA_RUN_EXPLAIN_H
#define CRIA_RUN_EXPLAIN_H

#include "base/buf.h"
#include "run/plan.h"

/* Of a prepared session and its plan. ERR_MEMORY, ERR_FORMAT (over the cap). */
MUST_CHECK enum status explain_print(const struct session *s, const struct plan *p,
                                     struct buf *out);

#endif
