/* status.h - what a call can come to, and the note it leaves when it fails.
 *
 * Every function that can fail returns an `enum status` that must be looked at
 * and fills a caller-owned `struct err`. Libraries never print and never exit;
 * the command line turns a status into an exit code and the err into text.
 *
 *     struct err e = {0};
 *     if (store_open(&s, path, &e)) { err_wrap(&e, "dataset 2"); goto out; }
 *
 * A parser fills file, line and column. Each boundary may put context before
 * the message (err_wrap) and one hint that names the fix (err_hint); the first
 * hint stays, since it was given nearest to the cause.
 */
#ifndef CRIA_BASE_STATUS_H
#define CRIA_BASE_STATUS_H

#include <stdarg.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* name, exit code of the command line, what it stands for */
#define STATUS_TABLE(X)                                           \
    X(OK, 0, "done")                                              \
    X(ERR_MEMORY, 1, "the host is out of memory")                 \
    X(ERR_IO, 1, "a file could not be read or written")           \
    X(ERR_DISK_FULL, 1, "no space left to write to")              \
    X(ERR_FORMAT, 4, "a file's content is not what it should be") \
    X(ERR_DATA, 4, "a dataset holds nothing usable")              \
    X(ERR_CONFIG, 2, "a configuration or command line is wrong")  \
    X(ERR_SHAPE, 2, "shapes do not agree")                        \
    X(ERR_UNSUPPORTED, 2, "asked for something cria does not do") \
    X(ERR_FIT, 3, "does not fit in memory")                       \
    X(ERR_NUMERIC, 1, "a loss or gradient is not finite")         \
    X(ERR_DEVICE, 1, "the accelerator failed")                    \
    X(ERR_STOPPED, 75, "stopped by a signal after saving")

enum status {
#define X(name, exit_code, text) name,
    STATUS_TABLE(X)
#undef X
};

/* Zero-initialise before use. Strings are cut, never overrun. */
struct err {
    enum status code;
    long line, column; /* 1-based; 0 = not known */
    char file[256];
    char message[768];
    char hint[384];
};

/* Sets code and message, forgets place and hint; returns code. */
enum status err_set(struct err *e, enum status code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Same as err_set, with the place in a text. line and column 0: unknown. */
enum status err_at(struct err *e, enum status code, const char *file, long line, long column,
                   const char *fmt, ...) PRINTF_LIKE(6, 7);

/* Same, with strerror(errno) appended; ENOSPC, EDQUOT and EFBIG (a limit on the size of files) give
 * ERR_DISK_FULL, the rest ERR_IO. */
enum status err_errno(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Puts "context: " before the message; returns e->code. */
enum status err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Says what to do about it; kept only if no hint was given before. Returns e->code. */
enum status err_hint(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* "file:line:column: message (hint)" into `out`, always terminated. */
void err_format(const struct err *e, char *out, unsigned long size);

int status_exit_code(enum status code);
const char *status_name(enum status code); /* "ERR_IO" */

/* Leaves the function on failure; for functions that own nothing yet. */
#define TRY(call)                          \
    do {                                   \
        enum status try_status = (call);   \
        if (try_status) return try_status; \
    } while (0)

#endif
