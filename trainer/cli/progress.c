#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/log.h"

#define INTERVAL 0.1 /* seconds between two rewritings */

static double shown_at;
static int shown;

void progress_clear(void)
{
    if (shown) fputs("\r\033[K", stderr);
    shown = 0;
}

void progress_show(const char *fmt, ...)
{
    double now = clock_seconds();
    va_list ap;
    if (!isatty(STDERR_FILENO) || now - shown_at < INTERVAL) return;
    shown_at = now;
    progress_clear();
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fflush(stderr);
    shown = 1;
}

void progress_say(const char *fmt, ...)
{
    va_list ap;
    progress_clear();
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

const char *progress_time(double seconds, char out[16])
{
    long s = seconds > 0 && seconds < 1e8 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, 16, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 16, "%ld:%02ld", s / 60, s % 60);
    return out;
}
