#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum status io_read_at(int fd, void *out, size_t n, uint64_t offset, const char *path,
                       struct err *e)
{
    char *at = out;
    while (n) {
        ssize_t got = pread(fd, at, n, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_errno(e, "%s", path);
        if (!got)
            return err_at(e, ERR_FORMAT, path, 0, 0, "the file ends too early, at byte %llu",
                          (unsigned long long)offset);
        at += got, n -= (size_t)got, offset += (uint64_t)got;
    }
    return OK;
}

enum status io_write_all(int fd, const void *bytes, size_t n, const char *path, struct err *e)
{
    const char *at = bytes;
    while (n) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return err_errno(e, "%s", path);
        at += put, n -= (size_t)put;
    }
    return OK;
}

enum status io_read_file(const char *path, struct buf *out, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, "%s", path);
    enum status s = OK;
    for (;;) {
        s = buf_reserve(out, 1);
        if (s == ERR_FORMAT) s = err_set(e, s, "%s: larger than %zu bytes", path, out->max);
        if (s == ERR_MEMORY) s = err_set(e, s, "no memory to read %s", path);
        if (s) break;
        size_t room = out->cap - out->len - 1;
        ssize_t got = read(fd, out->data + out->len, room);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) s = err_errno(e, "%s", path);
        if (got <= 0) break;
        out->len += (size_t)got;
        out->data[out->len] = 0;
    }
    close(fd);
    return s;
}

static enum status write_new(const char *path, const void *bytes, size_t n, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return err_errno(e, "%s", path);
    enum status s = io_write_all(fd, bytes, n, path, e);
    if (!s && fsync(fd)) s = err_errno(e, "%s", path);
    if (close(fd) && !s) s = err_errno(e, "%s", path);
    return s;
}

enum status io_write_file(const char *path, const void *bytes, size_t n, struct err *e)
{
    char aside[IO_PATH_MAX];
    if ((size_t)snprintf(aside, sizeof aside, "%s.tmp", path) >= sizeof aside)
        return err_set(e, ERR_IO, "path too long: %s", path);
    enum status s = write_new(aside, bytes, n, e);
    if (!s && rename(aside, path)) s = err_errno(e, "%s", path);
    if (s) unlink(aside);
    return s;
}

enum status io_copy_file(const char *from, const char *to, struct err *e)
{
    char block[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) return err_errno(e, "%s", from);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    enum status s = out < 0 ? err_errno(e, "%s", to) : OK;
    while (!s) {
        ssize_t got = read(in, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) s = err_errno(e, "%s", from);
        if (got <= 0) break;
        s = io_write_all(out, block, (size_t)got, to, e);
    }
    if (!s && fsync(out)) s = err_errno(e, "%s", to);
    close(in);
    if (out >= 0 && close(out) && !s) s = err_errno(e, "%s", to);
    return s;
}

enum status io_make_dirs(const char *path, struct err *e)
{
    char part[IO_PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof part) return err_set(e, ERR_IO, "path too long: %s", path);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i]) continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (mkdir(part, 0777) && errno != EEXIST) return err_errno(e, "%s", part);
    }
    if (!io_is_dir(path)) return err_set(e, ERR_IO, "%s: not a directory", path);
    return OK;
}

enum status io_sync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, "%s", path);
    enum status s = fsync(fd) ? err_errno(e, "%s", path) : OK;
    close(fd);
    return s;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

enum status io_remove_tree(const char *path, struct err *e)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
        return err_errno(e, "%s", path);
    return OK;
}

int io_exists(const char *path) { return access(path, F_OK) == 0; }

int io_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int io_is_hub_name(const char *path)
{
    char owner[100];
    size_t n = strcspn(path, "/"), rest = path[n] ? strcspn(path + n + 1, "/") : 0;
    if (strchr(".~", path[0]) || strpbrk(path, "*?") || !n || n >= sizeof owner || !rest ||
        path[n + 1 + rest])
        return 0;
    memcpy(owner, path, n);
    owner[n] = 0;
    return !io_exists(owner);
}

int io_same(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int64_t io_file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}

enum status io_join(char *out, size_t size, const char *dir, const char *name, struct err *e)
{
    size_t n = strlen(dir);
    const char *slash = n && dir[n - 1] == '/' ? "" : "/";
    if ((size_t)snprintf(out, size, "%s%s%s", dir, slash, name) >= size)
        return err_set(e, ERR_IO, "path too long: %s/%s", dir, name);
    return OK;
}
