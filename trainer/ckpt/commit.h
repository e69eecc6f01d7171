/* commit.h - directories that are there whole or not at all.
 *
 *     struct commit c;
 *     if (commit_begin(&c, "out", "checkpoint-50", &e)) ...
 *     ... write files into c.aside (out/.checkpoint-50.tmp) ...
 *     if (commit_end(&c, &e)) ...        or commit_abort(&c)
 *
 * The name appears by one rename, after every file and directory below it has been fsynced, so
 * out/checkpoint-50 is complete whenever it exists. What a crash can leave are dot directories:
 *
 *     .NAME.tmp   being written                  removed at the next begin
 *     .NAME.old   the former NAME, while the new one takes its place
 *                                                put back if NAME is absent, else removed
 *     .NAME.del   being removed                  removed
 *
 * commit_recover does that; begin calls it, and whoever wants to resume calls it before listing.
 * One process at a time owns an output directory; listing alone changes nothing and may be done by
 * others.
 */
#ifndef CRIA_CKPT_COMMIT_H
#define CRIA_CKPT_COMMIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "base/status.h"

#define COMMIT_NAME_MAX 128

struct commit {
    char dir[IO_PATH_MAX]; /* the output directory */
    char name[COMMIT_NAME_MAX];
    char aside[IO_PATH_MAX]; /* where the files go; empty once ended or aborted */
};

/* Recovers, then makes an empty aside directory (and `dir`). `name` is a plain file name that does
 * not start with a dot. ERR_IO, ERR_DISK_FULL, ERR_CONFIG (no such name). */
MUST_CHECK enum status commit_begin(struct commit *c, const char *dir, const char *name,
                                    struct err *e);

/* Syncs and renames; a former directory of this name is replaced. On failure the aside directory is
 * gone and the former one still there. ERR_IO, ERR_DISK_FULL. */
MUST_CHECK enum status commit_end(struct commit *c, struct err *e);

/* Removes the aside directory. A zeroed, ended or aborted one is fine. */
void commit_abort(struct commit *c);

/* Tidies what crashes left of checkpoint-N directories. An absent `dir` is OK. ERR_IO. */
MUST_CHECK enum status commit_recover(const char *dir, struct err *e);

/* The steps N of all dir/checkpoint-N, ascending; the caller mem_frees *steps (NULL when there are
 * none). An absent `dir` has none. ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status commit_list(const char *dir, int64_t **steps, size_t *count, struct err *e);

/* The highest of them, -1: none. */
MUST_CHECK enum status commit_newest(const char *dir, int64_t *step, struct err *e);

/* "dir/checkpoint-step" into out[size]. ERR_IO when it does not fit. */
MUST_CHECK enum status commit_path(char *out, size_t size, const char *dir, int64_t step,
                                   struct err *e);

/* Removes the oldest until at most `keep` are left (0: keeps all). The newest stays, and so does
 * step `best` (-1: none), which counts among the kept. ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status commit_rotate(const char *dir, size_t keep, int64_t best, struct err *e);

#endif
