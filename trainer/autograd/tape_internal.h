/* tape_internal.h - the tape's insides, for this room's files only. */
#ifndef CRIA_AUTOGRAD_TAPE_INTERNAL_H
#define CRIA_AUTOGRAD_TAPE_INTERNAL_H

#include "autograd/tape.h"

struct region {
    int32_t first, last; /* nodes [first, last) */
    enum recompute how;
    int32_t away; /* tensor: first of the inputs that go to the host; -1: none. See next_away */
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
    char *host;        /* where offloaded inputs go */
    int32_t *again_at; /* [max_nodes] node before whose backward it runs again; -1: it does not */
    unsigned char *twice; /* [max_tensors] memory has a second life in backward */
    int32_t *next_away; /* [max_tensors] the next input of the same region that goes to the host */
};

/* Each tensor that owns memory has four buffers in a plan. The last lies in the host's memory. */
enum { BUFFER_DATA, BUFFER_AGAIN, BUFFER_GRAD, BUFFER_HOST, BUFFERS_PER_TENSOR };

static inline int32_t tape_buffer_index(const struct tensor *memory, int which)
{
    return memory->id * BUFFERS_PER_TENSOR + which;
}

/* again.c: fills again_at, twice, and what goes away, from the recording. */
void tape_analyse(struct tape *t);

/* Bytes of a tensor that owns memory. */
static inline size_t tape_bytes(const struct tape *t, const struct tensor *memory)
{
    return (size_t)memory->rows * (size_t)memory->cols * tape_element_size(t, memory->element);
}

/* The region of the node that made this memory; -1: none, or a parameter. */
static inline int32_t tape_region_of(const struct tape *t, const struct tensor *memory)
{
    return memory->is_param ? -1 : t->nodes[memory->producer].region;
}

#endif
