/* trace_file.h - a profile that chrome://tracing and ui.perfetto.dev open.
 *
 * The Chrome trace event format: {"displayTimeUnit": "ms", "traceEvents": [...]}, events of the
 * kinds X (a name, from `ts` for `dur`, microseconds with three digits) and M (names of tracks).
 * Events of a track nest: each lies whole in another or beside it. Tracks:
 *
 *   host             scopes (step, data, forward, block 3, ...) and in them the calls of the
 *                    device's entries and what the host does besides; on a CPU a call is the op
 *   compute stream   the same scopes and ops by the device's clock, from their first kernel to
 *                    their last, and in them kernels, products and copies
 *   copy stream      what comes in beside
 *
 * The last two are there for a device with a clock of its own. Ops carry the step, their
 * arithmetic, bytes, and the shape of a base product. A long profile is cut behind a step
 * (TRACE_EVENTS_MAX; the first one is always whole).
 */
#ifndef CRIA_RUN_TRACE_FILE_H
#define CRIA_RUN_TRACE_FILE_H

#include "kernels/profile.h"

#define TRACE_FILE "profile-trace.json"
#define TRACE_EVENTS_MAX 400000 /* some 60 MB */

/* ERR_MEMORY, ERR_IO, ERR_DISK_FULL. *steps: how many whole steps it has. */
MUST_CHECK enum status trace_file_write(const struct profile *p, const char *path, int64_t *steps,
                                        struct err *e);

#endif
