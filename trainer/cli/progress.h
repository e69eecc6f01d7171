/* progress.h - lines on stderr that say how far something is.
 *
 * On a terminal one line is rewritten in place; elsewhere only lasting lines are written, so that
 * logs stay readable. Everything over two seconds shows an estimate of what is left.
 */
#ifndef CRIA_CLI_PROGRESS_H
#define CRIA_CLI_PROGRESS_H

#include "base/status.h"

/* Rewrites the passing line (terminals only; at most ten times a second). */
void progress_show(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Writes a line that stays. */
void progress_say(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Removes the passing line. */
void progress_clear(void);

/* "1:02:03" or "4:05" into out[16]. */
const char *progress_time(double seconds, char out[16]);

#endif
