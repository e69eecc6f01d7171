#include "base/log.h"

#include <stdio.h>
#include <time.h>

static log_sink *sink_now;

void log_set_sink(log_sink *sink) { sink_now = sink; }

static void say(enum log_level level, const char *fmt, va_list ap)
{
    char line[1024];
    if (!sink_now) return;
    vsnprintf(line, sizeof line, fmt, ap);
    sink_now(level, line);
}

void log_notice(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(LOG_NOTICE, fmt, ap);
    va_end(ap);
}

void log_warning(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(LOG_WARNING, fmt, ap);
    va_end(ap);
}

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
