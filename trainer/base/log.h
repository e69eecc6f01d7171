/* log.h - how libraries say something without printing.
 *
 * One sink for the process, set by the command line before anything else runs.
 * Without a sink nothing is said. Lines carry no newline.
 */
#ifndef CRIA_BASE_LOG_H
#define CRIA_BASE_LOG_H

#include "base/status.h"

enum log_level { LOG_NOTICE, LOG_WARNING };

typedef void log_sink(enum log_level level, const char *line);

void log_set_sink(log_sink *sink); /* NULL: silence */
void log_notice(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Seconds on a clock that never jumps. */
double clock_seconds(void);

#endif
