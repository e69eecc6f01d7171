/* saver.h - a checkpoint written while training goes on.
 *
 *     saver_open(&v, s)                   takes the copy's memory, if the run has one
 *     saver_start(&v, s)                  copies what is saved, lets a thread write it
 *     saver_collect(&v, wait, &saved)     how it ended, if it has
 *     saver_close(&v)                     waits
 *
 * The copy holds the trainable parameters and the moments in fp32, and the session's own numbers
 * (step, best, guard) as they are at that step; all else the writer reads does not change while a
 * run goes on. It calls nothing of the device. The files, their order, fsyncs and the rename are
 * save_checkpoint's, so what a kill leaves is the same, and so are the bytes. One at a time: the
 * next start waits for the one before.
 */
#ifndef CRIA_RUN_SAVER_H
#define CRIA_RUN_SAVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "run/session.h"

/* What became of a checkpoint. */
struct saver_result {
    enum status status; /* as save_checkpoint's; its error is in collect's `e` */
    int64_t step;
    char path[IO_PATH_MAX];
};

struct saver {
    float *copy; /* NULL: the run saves in its own thread */
    size_t bytes;
    struct session *session; /* heap: as it was at the step */
    pthread_t thread;
    int running;      /* started and not collected */
    atomic_int ended; /* the writer has nothing left to do */
    struct saver_result result;
    struct err err;
};

/* Bytes of the copy; 0: this run saves in its own thread (`async_save`). */
size_t saver_memory(const struct session *s);

/* ERR_MEMORY. A zeroed or failed one is fine to close. */
MUST_CHECK enum status saver_open(struct saver *v, const struct session *s, struct err *e);

/* Nothing may be running: collect with `wait` first. ERR_MEMORY, ERR_DEVICE. */
MUST_CHECK enum status saver_start(struct saver *v, struct session *s, struct err *e);

/* 1: one has ended, and `out` and `e` say how; 0: none has, or with `wait` none was running. */
int saver_collect(struct saver *v, int wait, struct saver_result *out, struct err *e);

void saver_close(struct saver *v);

#endif
