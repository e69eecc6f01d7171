#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long count, fail_from;
static _Thread_local int failed;

void mem_fail_after(long n)
{
    atomic_store(&count, 0);
    atomic_store(&fail_from, n);
}

long mem_allocations(void) { return atomic_load(&count); }

static int refused(void)
{
    long n = atomic_fetch_add(&count, 1) + 1, limit = atomic_load(&fail_from);
    return limit && n >= limit;
}

int mem_failed(void)
{
    int was = failed;
    failed = 0;
    return was;
}

static void *noted(void *p)
{
    if (!p) failed = 1;
    return p;
}

void *mem_alloc(size_t bytes) { return noted(refused() ? NULL : malloc(bytes ? bytes : 1)); }

void *mem_calloc(size_t n, size_t each)
{
    return noted(refused() ? NULL : calloc(n ? n : 1, each ? each : 1));
}

void *mem_resize(void *old, size_t n, size_t each)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, each, &bytes) || refused()) return noted(NULL);
    return noted(realloc(old, bytes ? bytes : 1));
}

void mem_free(void *p) { free(p); }

char *mem_strdup(const char *s) { return mem_strndup(s, strlen(s)); }

char *mem_strndup(const char *s, size_t n)
{
    char *copy = n == SIZE_MAX ? NULL : mem_alloc(n + 1);
    if (!copy) return NULL;
    memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}

void *mem_pages(size_t bytes)
{
    if (refused() || !bytes) return NULL;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void mem_pages_free(void *p, size_t bytes)
{
    if (p) munmap(p, bytes);
}
