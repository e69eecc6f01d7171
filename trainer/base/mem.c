#include "base/mem.h"

#include <pthread.h>
#include <sched.h>
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

enum { TOUCH_THREADS = 32 };
#define TOUCH_EACH ((size_t)64 << 20) /* bytes: for fewer a thread is not worth starting */

struct touch {
    char *from, *to;
    pthread_t thread;
};

/* The kernel clears a page when it is first written to. */
static void *touch_pages(void *context)
{
    const struct touch *t = context;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (char *at = t->from; at < t->to; at += page) *(volatile char *)at = 0;
    return NULL;
}

/* Processors this process may run on. */
static size_t processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : (size_t)CPU_COUNT(&set);
}

/* A part each; parts begin on huge pages, so that no page is two threads' business. */
static void touch_all(char *p, size_t bytes)
{
    struct touch parts[TOUCH_THREADS];
    size_t n = bytes / TOUCH_EACH, most = processors(), started = 0;
    if (n > most) n = most;
    if (n > TOUCH_THREADS) n = TOUCH_THREADS;
    if (n < 1) n = 1;
    size_t each = (bytes / n + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    for (size_t i = 0; i < n; i++) {
        size_t first = i * each < bytes ? i * each : bytes;
        size_t end = first + each < bytes ? first + each : bytes;
        parts[i] = (struct touch){.from = p + first, .to = p + end};
    }
    while (started + 1 < n &&
           !pthread_create(&parts[started].thread, NULL, touch_pages, &parts[started]))
        started++;
    for (size_t i = started; i < n; i++) touch_pages(&parts[i]); /* the rest is this thread's */
    for (size_t i = 0; i < started; i++) pthread_join(parts[i].thread, NULL);
}

void *mem_pages(size_t bytes)
{
    if (refused() || !bytes) return NULL;
    char *p = map_pages(bytes);
    if (p) touch_all(p, bytes);
    return p;
}

void mem_pages_free(void *p, size_t bytes)
{
    if (p) munmap(p, bytes);
}
