/* crew.h - blocks of work done by several threads, in an order that does not depend on them.
 *
 * A block is filled, worked on, and settled. Blocks are filled one after the other and settled one
 * after the other, in the same order; work on several goes on at once. No thread has a fixed
 * part: each does what is most needed, so that all are busy whether reading, working or writing
 * takes longest, and one thread alone does everything. What settling sees is the same for any
 * number of threads.
 *
 * Blocks live in a ring of crew_slots; memory is bounded by that, however much there is to do.
 */
#ifndef CRIA_DATA_PREPARE_CREW_H
#define CRIA_DATA_PREPARE_CREW_H

#include <stddef.h>

#include "base/status.h"

#define CREW_THREADS_MAX 256

struct crew_job {
    void *ctx;
    /* Fills a slot; 0 when there was nothing left to put into it. What goes wrong is for settle to
     * tell, behind what is in the block. */
    int (*fill)(void *ctx, size_t slot);
    /* Works on a filled slot. `thread` is below the number of threads; no other call has it. */
    void (*work)(void *ctx, size_t slot, size_t thread);
    /* Takes over the results. A failure ends all. */
    enum status (*settle)(void *ctx, size_t slot, struct err *e);
};

/* How many slots `threads` threads need. */
size_t crew_slots(size_t threads);

/* How many threads to use: `wanted`, or for 0 as many cores as the process may use, but no more
 * than can be fed by one that reads and one that writes. */
size_t crew_threads(size_t wanted);

/* Does it all, the calling thread being one of them; goes on with fewer where the system gives no
 * more. What settle returned. */
MUST_CHECK enum status crew_run(const struct crew_job *job, size_t threads, struct err *e);

#endif
