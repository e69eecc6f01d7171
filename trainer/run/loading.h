/* loading.h - tensors of files into an engine's memory.
 *
 *     loading_begin(&l, g, files, most, &e)
 *     loading_param(&l, t, p) ...              what goes where
 *     loading_run(&l, &e)                      reads all of it (ckpt/tensor_load.h)
 *     ... loading_digest(&l, i)                what was read, by the order of adding
 *     loading_free(&l)
 *
 * Where the device's memory is the host's (no copy_in), threads read straight to where tensors lie.
 * A device with memory of its own is sent them from a ring of pinned slots, two for each thread:
 * while one is copied, the next are read. What stands in the file as it shall stand in memory
 * passes untouched; the rest is converted by the thread that read it, and weights that have an fp32
 * master are sent once, as the master, and rounded on the device.
 */
#ifndef CRIA_RUN_LOADING_H
#define CRIA_RUN_LOADING_H

#include "ckpt/tensor_load.h"
#include "run/engine.h"

struct loading_target {
    char *to;              /* device; NULL: nowhere */
    const struct param *p; /* whose data is rounded from the master that is loaded; NULL: none */
};

struct loading {
    struct engine *g;
    const struct tensor_files *files;
    struct tensor_load *loads;      /* heap */
    struct loading_target *targets; /* heap, [count] as well */
    size_t count, room;
    uint64_t bytes;                 /* of all of them, in the files */
    double began;                   /* clock_seconds */
    const struct tensor_ring *ring; /* while it runs; NULL: none */
};

/* Room for `most` tensors. ERR_MEMORY. */
MUST_CHECK enum status loading_begin(struct loading *l, struct engine *g,
                                     const struct tensor_files *files, size_t most, struct err *e);
void loading_free(struct loading *l); /* zeroed is fine */

/* A tensor of real numbers to a parameter's data and master, from its first row on. */
void loading_param(struct loading *l, const struct tensor_info *t, const struct param *p);
/* Its elements as `as` to device memory; NULL: they are only looked at. */
void loading_raw(struct loading *l, const struct tensor_info *t, enum file_type as, void *to);

/* Reads what was added. Behind it the device's kernels see all of it. A load of more than two
 * seconds shows how far it is (engine_options.loading), and how fast it was in a line. Errors as
 * tensor_load_all; ERR_MEMORY also for the ring. */
MUST_CHECK enum status loading_run(struct loading *l, struct err *e);

/* Of the i-th tensor added. */
const uint64_t *loading_digest(const struct loading *l, size_t i);

/* Memory of the host that loading takes for so many tensors and bytes, the ring included. */
size_t loading_memory(const struct engine *g, size_t tensors, uint64_t bytes);

#endif
