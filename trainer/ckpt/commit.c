#include "ckpt/commit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define PREFIX "checkpoint-"

/* The N of "checkpoint-N" written as the writer writes it, else -1. */
static int64_t step_of(const char *name)
{
    char again[40];
    int64_t step;
    if (sscanf(name, PREFIX "%18" SCNd64, &step) != 1 || step < 0) return -1;
    snprintf(again, sizeof again, PREFIX "%" PRId64, step);
    return strcmp(name, again) ? -1 : step;
}

/* dir/.NAME.suffix */
static enum status hidden(char out[IO_PATH_MAX], const char *dir, const char *name,
                          const char *suffix, struct err *e)
{
    char file[COMMIT_NAME_MAX + 8];
    snprintf(file, sizeof file, ".%s.%s", name, suffix);
    return io_join(out, IO_PATH_MAX, dir, file, e);
}

/* --- tidying up --- */

/* A removal that a crash may cut: what is half gone must not carry the name of something whole. */
static enum status remove_dir(const char *dir, const char *name, const char *path, struct err *e)
{
    char doomed[IO_PATH_MAX];
    TRY(hidden(doomed, dir, name, "del", e));
    TRY(io_remove_tree(doomed, e));
    if (rename(path, doomed)) return errno == ENOENT ? OK : err_errno(e, "%s", path);
    return io_remove_tree(doomed, e);
}

/* The former NAME goes back to its place if nothing has taken it. */
static enum status settle_old(const char *dir, const char *name, const char *old, struct err *e)
{
    char path[IO_PATH_MAX];
    TRY(io_join(path, sizeof path, dir, name, e));
    if (io_exists(path)) return remove_dir(dir, name, old, e);
    if (rename(old, path)) return err_errno(e, "%s", old);
    return io_sync_dir(dir, e);
}

/* One entry of dir: does it belong to `name` (NULL: to any checkpoint), and what is to be done? */
static enum status settle(const char *dir, const char *entry, const char *only, struct err *e)
{
    char name[COMMIT_NAME_MAX], path[IO_PATH_MAX];
    size_t n = strlen(entry);
    if (entry[0] != '.' || n < 6 || n - 5 >= sizeof name || entry[n - 4] != '.') return OK;
    memcpy(name, entry + 1, n - 5);
    name[n - 5] = 0;
    if (step_of(name) < 0 && (!only || strcmp(name, only))) return OK;
    TRY(io_join(path, sizeof path, dir, entry, e));
    if (!strcmp(entry + n - 3, "old")) return settle_old(dir, name, path, e);
    if (!strcmp(entry + n - 3, "tmp")) return io_remove_tree(path, e);
    if (!strcmp(entry + n - 3, "del")) return io_remove_tree(path, e);
    return OK;
}

/* Removing while reading a directory is allowed; what rename brings may be seen or not. */
static enum status recover(const char *dir, const char *only, struct err *e)
{
    enum status s = OK;
    DIR *d = opendir(dir);
    if (!d) return errno == ENOENT ? OK : err_errno(e, "%s", dir);
    for (struct dirent *entry; !s && (entry = readdir(d));) s = settle(dir, entry->d_name, only, e);
    closedir(d);
    return s;
}

enum status commit_recover(const char *dir, struct err *e) { return recover(dir, NULL, e); }

/* --- one commit --- */

static enum status no_space_hint(enum status s, struct err *e)
{
    if (s == ERR_DISK_FULL) err_hint(e, "free space there, or keep fewer with save_total_limit");
    return s;
}

enum status commit_begin(struct commit *c, const char *dir, const char *name, struct err *e)
{
    *c = (struct commit){0};
    if (!*name || *name == '.' || strchr(name, '/') || strlen(name) >= sizeof c->name)
        return err_set(e, ERR_CONFIG, "\"%s\" cannot be the name of a checkpoint", name);
    if ((size_t)snprintf(c->dir, sizeof c->dir, "%s", dir) >= sizeof c->dir)
        return err_set(e, ERR_IO, "path too long: %s", dir);
    snprintf(c->name, sizeof c->name, "%s", name);
    TRY(io_make_dirs(dir, e));
    TRY(recover(dir, name, e));
    char aside[IO_PATH_MAX];
    TRY(hidden(aside, dir, name, "tmp", e));
    if (mkdir(aside, 0777)) return no_space_hint(err_errno(e, "%s", aside), e);
    memcpy(c->aside, aside, sizeof aside);
    return OK;
}

static enum status sync_file(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, "%s", path);
    enum status s = fsync(fd) ? err_errno(e, "%s", path) : OK;
    close(fd);
    return s;
}

/* Every file and directory below and at `path`, children first. */
static enum status sync_tree(const char *path, struct err *e)
{
    char inner[IO_PATH_MAX];
    enum status s = OK;
    struct stat st;
    DIR *d = opendir(path);
    if (!d) return err_errno(e, "%s", path);
    for (struct dirent *entry; !s && (entry = readdir(d));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        s = io_join(inner, sizeof inner, path, entry->d_name, e);
        if (!s && lstat(inner, &st)) s = err_errno(e, "%s", inner);
        if (!s && S_ISDIR(st.st_mode)) s = sync_tree(inner, e);
        if (!s && S_ISREG(st.st_mode)) s = sync_file(inner, e);
    }
    closedir(d);
    return s ? s : io_sync_dir(path, e);
}

/* Puts aside where the name is; a former directory is out of the way only between two renames. */
static enum status take_place(const struct commit *c, struct err *e)
{
    char path[IO_PATH_MAX], old[IO_PATH_MAX];
    TRY(io_join(path, sizeof path, c->dir, c->name, e));
    TRY(hidden(old, c->dir, c->name, "old", e));
    int replaces = io_exists(path);
    if (replaces && rename(path, old)) return err_errno(e, "%s", path);
    if (rename(c->aside, path)) {
        enum status s = err_errno(e, "%s", path);
        if (replaces && rename(old, path)) err_hint(e, "the former one is now %s", old);
        return s;
    }
    TRY(io_sync_dir(c->dir, e));
    return replaces ? remove_dir(c->dir, c->name, old, e) : OK;
}

enum status commit_end(struct commit *c, struct err *e)
{
    enum status s = sync_tree(c->aside, e);
    if (!s) s = take_place(c, e);
    if (s)
        commit_abort(c);
    else
        c->aside[0] = 0;
    return no_space_hint(s, e);
}

void commit_abort(struct commit *c)
{
    struct err ignored = {0};
    /* What cannot be removed now is removed at the next begin. */
    if (c->aside[0] && io_remove_tree(c->aside, &ignored)) return;
    c->aside[0] = 0;
}

/* --- those that are there --- */

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

enum status commit_path(char *out, size_t size, const char *dir, int64_t step, struct err *e)
{
    char name[40];
    snprintf(name, sizeof name, PREFIX "%" PRId64, step);
    return io_join(out, size, dir, name, e);
}

enum status commit_list(const char *dir, int64_t **steps, size_t *count, struct err *e)
{
    char path[IO_PATH_MAX];
    enum status s = OK;
    size_t cap = 0;
    *steps = NULL;
    *count = 0;
    DIR *d = opendir(dir);
    if (!d) return errno == ENOENT ? OK : err_errno(e, "%s", dir);
    for (struct dirent *entry; !s && (entry = readdir(d));) {
        int64_t step = step_of(entry->d_name);
        if (step < 0) continue;
        s = io_join(path, sizeof path, dir, entry->d_name, e);
        if (s || !io_is_dir(path)) continue;
        if (*count == cap) {
            cap = cap ? 2 * cap : 16;
            void *more = mem_resize(*steps, cap, sizeof **steps);
            if (more)
                *steps = more;
            else
                s = err_set(e, ERR_MEMORY, "no memory to list %s", dir);
        }
        if (!s) (*steps)[(*count)++] = step;
    }
    closedir(d);
    if (s) {
        mem_free(*steps);
        *steps = NULL;
        *count = 0;
    }
    if (*count) qsort(*steps, *count, sizeof **steps, ascending);
    return s;
}

enum status commit_newest(const char *dir, int64_t *step, struct err *e)
{
    int64_t *steps;
    size_t n;
    *step = -1;
    TRY(commit_list(dir, &steps, &n, e));
    if (n) *step = steps[n - 1];
    mem_free(steps);
    return OK;
}

enum status commit_rotate(const char *dir, size_t keep, int64_t best, struct err *e)
{
    char path[IO_PATH_MAX];
    int64_t *steps;
    size_t n;
    if (!keep) return OK;
    TRY(commit_list(dir, &steps, &n, e));
    enum status s = OK;
    size_t left = n;
    for (size_t i = 0; i + 1 < n && left > keep && !s; i++) {
        if (steps[i] == best) continue;
        s = commit_path(path, sizeof path, dir, steps[i], e);
        if (!s) s = remove_dir(dir, strrchr(path, '/') + 1, path, e);
        left--;
    }
    mem_free(steps);
    return s;
}
