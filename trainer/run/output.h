/* output.h - output_dir before a run: whether it may be used, and what an earlier run left there.
 */
#ifndef CRIA_RUN_OUTPUT_H
#define CRIA_RUN_OUTPUT_H

#include "run/session.h"

#define RESOLVED_FILE "config.resolved.yaml"
#define METRICS_FILE "metrics.jsonl"
#define BASE_DIR "base" /* in output_dir: the base with a larger vocabulary */

/* ERR_CONFIG if output_dir holds an earlier run that is neither resumed nor to be overwritten.
 * Finds the checkpoint for s->resume; `auto` also takes a run that ended before its first
 * checkpoint, which then starts anew. */
MUST_CHECK enum status output_check(struct session *s, struct err *e);

/* Removes what such a run, or with overwrite_output_dir any, left there, when nothing can refuse
 * the new one any more. ERR_IO. */
MUST_CHECK enum status output_clear(struct session *s, struct err *e);

/* Whether there is a file of this name in `dir`. */
int output_has_file(const char *dir, const char *name);

#endif
