#include "base/arena.h"

#include <assert.h>

#include "base/size.h"

void arena_measure(struct arena *a) { *a = (struct arena){.size = (size_t)-1}; }

void arena_over(struct arena *a, void *base, size_t size)
{
    *a = (struct arena){.base = base, .size = size};
}

void *arena_take(struct arena *a, size_t bytes)
{
    size_t at = a->used;
    a->used += size_align(bytes, ARENA_ALIGN);
    assert(a->used <= a->size && a->used >= at);
    return a->base ? a->base + at : NULL;
}
