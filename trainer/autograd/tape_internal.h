/* tape_internal.h - the tape's insides, for this room's files only. */
#ifndef CRIA_AUTOGRAD_TAPE_INTERNAL_H
#define CRIA_AUTOGRAD_TAPE_INTERNAL_H

#include "autograd/tape.h"

struct region {
    int32_t first, last; /* nodes [first, last) */
    int checkpointed;
};

struct tape {
    struct device *device;
    struct tape_hooks hooks;
    int with_backward;
    struct node *nodes;
    struct tensor *tensors;
    struct region *regions;
    char *attrs;
    int32_t num_nodes, num_tensors, num_regions, max_nodes, max_tensors;
    size_t attrs_used, attrs_size;
    int32_t open_region; /* -1: none */
    struct err error;    /* of the recording */
    const struct tape_plan *plan;
    char *step;
    void *scratch;
    unsigned char *rerun;   /* [max_nodes] bit 0: runs again in its region's backward */
    unsigned char *escapes; /* [max_tensors] memory crosses its region's border */
    unsigned char *needed;  /* [max_tensors] tape_analyse's own */
};

/* Each tensor that owns memory has three buffers in a plan. */
enum { BUFFER_DATA, BUFFER_AGAIN, BUFFER_GRAD, BUFFERS_PER_TENSOR };

static inline int32_t tape_buffer_index(const struct tensor *memory, int which)
{
    return memory->id * BUFFERS_PER_TENSOR + which;
}

/* Whether this memory has a second life when its region is run again. */
static inline int tape_lives_twice(const struct tape *t, const struct tensor *memory)
{
    if (memory->is_param || !t->with_backward) return 0;
    int32_t region = t->nodes[memory->producer].region;
    return region >= 0 && t->regions[region].checkpointed && !t->escapes[memory->id];
}

/* Fills t->escapes and t->rerun from the recording. */
void tape_analyse(struct tape *t);

#endif
