/* check_trace.h - a trace file against the rules of the Chrome trace event format. */
#ifndef CRIA_TESTS_SUPPORT_CHECK_TRACE_H
#define CRIA_TESTS_SUPPORT_CHECK_TRACE_H

#include "base/json.h"

/* Reads the file; fails unless it is an object with traceEvents, each of kind M (a process's or a
 * thread's name or place) or X with a name, a track that has a name, times that are not negative,
 * and the events of a track lie within or beside each other. The caller json_decref's it. */
json_t *check_trace(const char *path);

/* How many events of this name the named track has; `within` (may be NULL): that lie in an event of
 * that name. */
int trace_count(const json_t *trace, const char *track, const char *name, const char *within);

#endif
