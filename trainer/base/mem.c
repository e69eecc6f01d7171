#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

#define HUGE_PAGE ((size_t)2 << 20)

/* Large blocks begin on a huge page and ask for them: a product walks weights in strides of a row,
 * and with small pages of a virtual machine every other step is a walk through page tables. */
static void *map_pages(size_t bytes)
{
    size_t spare = bytes >= HUGE_PAGE ? HUGE_PAGE : 0, total = bytes + spare;
    if (total < bytes) return NULL;
    char *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || !spare) return p == MAP_FAILED ? NULL : p;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), end = (bytes + page - 1) / page * page;
    size_t head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (head) munmap(p, head);
    if (total > head + end) munmap(p + head + end, total - head - end);
    madvise(p + head, bytes, MADV_HUGEPAGE); /* a wish: small pages do as well, slower */
    return p + head;
}

void *mem_pages(size_t bytes)
{
    if (refused() || !bytes) return NULL;
    char *p = map_pages(bytes);
    if (!p) return NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < bytes; at += page) *(volatile char *)(p + at) = 0;
    return p;
}

void mem_pages_free(void *p, size_t bytes)
{
    if (p) munmap(p, bytes);
}
