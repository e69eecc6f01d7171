/* arena.h - one block of memory handed out front to back.
 *
 * Three of them hold all that a run computes with: `run` (weights, gradients,
 * optimiser states), `step` (activations; its offsets come from the memory plan)
 * and `scratch` (what one kernel needs while it runs). Sizes are known before
 * the first byte is taken, so arena_take cannot fail in a step: running over
 * is a bug of ours.
 */
#ifndef CRIA_BASE_ARENA_H
#define CRIA_BASE_ARENA_H

#include <stddef.h>

#define ARENA_ALIGN ((size_t)256) /* bytes; every take starts on such a bound */

struct arena {
    char *base; /* NULL while measuring */
    size_t used, size;
};

/* An arena without memory: takes return NULL and `used` tells what is needed. */
void arena_measure(struct arena *a);

/* Over `size` bytes at `base`, owned by the caller, aligned to ARENA_ALIGN. */
void arena_over(struct arena *a, void *base, size_t size);

/* The next `bytes` bytes. Content is as the memory was. */
void *arena_take(struct arena *a, size_t bytes);

#endif
