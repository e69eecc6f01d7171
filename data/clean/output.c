#include "data/clean/output.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/aside.h"

#define PENDING_MAX ((size_t)1 << 20)

void output_init(struct output *o)
{
    *o = (struct output){.fd = -1};
    buf_init(&o->pending, PENDING_MAX);
}

enum status output_open(struct output *o, const char *path, struct err *e)
{
    o->path = path;
    if ((size_t)snprintf(o->aside, sizeof o->aside, "%s.tmp", path) >= sizeof o->aside) {
        o->aside[0] = 0;
        return err_set(e, ERR_IO, "path too long: %s", path);
    }
    aside_begin(o->aside);
    o->fd = open(o->aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return o->fd < 0 ? err_errno(e, "cannot write %s", o->aside) : OK;
}

static enum status flush(struct output *o, struct err *e)
{
    TRY(io_write_all(o->fd, o->pending.data, o->pending.len, o->aside, e));
    buf_clear(&o->pending);
    return OK;
}

enum status output_write(struct output *o, const char *lines, size_t n, struct err *e)
{
    if (o->pending.len + n > PENDING_MAX && o->pending.len) TRY(flush(o, e));
    if (n > PENDING_MAX) return io_write_all(o->fd, lines, n, o->aside, e);
    return buf_append(&o->pending, lines, n) ? err_set(e, ERR_MEMORY, "no memory to write") : OK;
}

/* The folder of a path, "." for none. */
static void folder_of(const char *path, char out[IO_PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    int n = slash ? slash == path ? 1 : (int)(slash - path) : 1;
    snprintf(out, IO_PATH_MAX, "%.*s", n, slash ? path : ".");
}

enum status output_commit(struct output *o, struct err *e)
{
    char folder[IO_PATH_MAX];
    TRY(flush(o, e));
    if (fsync(o->fd)) return err_errno(e, "%s", o->aside);
    int failed = close(o->fd);
    o->fd = -1;
    if (failed) return err_errno(e, "%s", o->aside);
    if (rename(o->aside, o->path)) return err_errno(e, "cannot write %s", o->path);
    aside_end(o->aside);
    o->aside[0] = 0;
    folder_of(o->path, folder);
    return io_sync_dir(folder, e);
}

void output_close(struct output *o)
{
    buf_free(&o->pending);
    if (o->fd >= 0) close(o->fd);
    if (o->aside[0]) unlink(o->aside), aside_end(o->aside);
}
