/* size.h - sizes that cannot wrap. Each returns nonzero on overflow and leaves *out alone then. */
#ifndef CRIA_BASE_SIZE_H
#define CRIA_BASE_SIZE_H

#include <stddef.h>

static inline int size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return 1;
    *out = r;
    return 0;
}

static inline int size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return 1;
    *out = r;
    return 0;
}

/* `n` rounded up to a multiple of `align` (a power of two); the caller knows that it cannot wrap.
 */
static inline size_t size_align(size_t n, size_t align) { return (n + align - 1) & ~(align - 1); }

static inline size_t size_max(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t size_min(size_t a, size_t b) { return a < b ? a : b; }

#endif
