#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int exit_code;
} rows[] = {
#define X(name, exit_code, text) {#name, exit_code},
    STATUS_TABLE(X)
#undef X
};

int status_exit_code(enum status code) { return rows[code].exit_code; }
const char *status_name(enum status code) { return rows[code].name; }

static void err_begin(struct err *e, enum status code, const char *fmt, va_list ap)
{
    char text[sizeof e->message]; /* arguments may point into e itself */
    vsnprintf(text, sizeof text, fmt, ap);
    *e = (struct err){.code = code};
    memcpy(e->message, text, sizeof text);
}

enum status err_set(struct err *e, enum status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_begin(e, code, fmt, ap);
    va_end(ap);
    return code;
}

enum status err_at(struct err *e, enum status code, const char *file, long line, long column,
                   const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_begin(e, code, fmt, ap);
    va_end(ap);
    snprintf(e->file, sizeof e->file, "%s", file ? file : "");
    e->line = line;
    e->column = column;
    return code;
}

enum status err_errno(struct err *e, const char *fmt, ...)
{
    int saved = errno;
    int full = saved == ENOSPC || saved == EDQUOT || saved == EFBIG;
    enum status code = full ? ERR_DISK_FULL : saved == ENOMEM ? ERR_MEMORY : ERR_IO;
    va_list ap;
    va_start(ap, fmt);
    err_begin(e, code, fmt, ap);
    va_end(ap);
    size_t used = strlen(e->message);
    snprintf(e->message + used, sizeof e->message - used, ": %s", strerror(saved));
    return code;
}

enum status err_wrap(struct err *e, const char *fmt, ...)
{
    char text[sizeof e->message];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, ": %s", e->message);
    memcpy(e->message, text, sizeof text);
    return e->code;
}

enum status err_hint(struct err *e, const char *fmt, ...)
{
    if (!e->hint[0]) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(e->hint, sizeof e->hint, fmt, ap);
        va_end(ap);
    }
    return e->code;
}

void err_format(const struct err *e, char *out, unsigned long size)
{
    char place[sizeof e->file + 48] = "";
    if (e->file[0] && e->line && e->column)
        snprintf(place, sizeof place, "%s:%ld:%ld: ", e->file, e->line, e->column);
    else if (e->file[0] && e->line)
        snprintf(place, sizeof place, "%s:%ld: ", e->file, e->line);
    else if (e->file[0])
        snprintf(place, sizeof place, "%s: ", e->file);
    snprintf(out, size, "%s%s%s%s%s", place, e->message, e->hint[0] ? " (" : "", e->hint,
             e->hint[0] ? ")" : "");
}
