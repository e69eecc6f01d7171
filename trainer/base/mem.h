/* mem.h - the heap, through one door that tests can close.
 *
 * Everything on the heap comes from here, so that an allocation-failure sweep
 * (fail the 1st, the 2nd, ... allocation) reaches every path. Nothing in a
 * training step calls these; a step lives in its arenas.
 */
#ifndef CRIA_BASE_MEM_H
#define CRIA_BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t bytes);                          /* NULL on failure; not cleared */
void *mem_calloc(size_t count, size_t each);            /* NULL on failure or overflow; cleared */
void *mem_resize(void *old, size_t count, size_t each); /* NULL on failure or overflow; old stays */
void mem_free(void *p);                                 /* NULL is fine */
char *mem_strdup(const char *s);                        /* NULL on failure */
char *mem_strndup(const char *s, size_t n);             /* n bytes and a zero; NULL on failure */

/* `bytes` rounded up to a page multiple, 64-byte aligned and cleared; NULL on failure. The pages
 * are there when it returns: what was promised cannot turn out to be missing hours later. Large
 * blocks are touched by as many threads as there are processors. */
void *mem_pages(size_t bytes);
void mem_pages_free(void *p, size_t bytes);

/* Whether an allocation of this thread failed since the last time it was asked: for libraries that
 * do not tell why they gave up. */
int mem_failed(void);

/* Tests: the n-th allocation from now on (1-based) and all after it fail; 0 ends that.
 * mem_allocations counts allocations since the last call to mem_fail_after. Process-wide. */
void mem_fail_after(long n);
long mem_allocations(void);

#endif
