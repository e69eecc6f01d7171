#include "data/clean/seen.h"

#include "base/mem.h"

/* The key's place, or the free one where it belongs. */
static size_t place_of(const struct seen *s, uint64_t key)
{
    size_t i = (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & (s->cap - 1);
    while (s->keys[i] && s->keys[i] != key) i = (i + 1) & (s->cap - 1);
    return i;
}

int seen_find(const struct seen *s, uint64_t key, uint32_t *number)
{
    if (!s->cap) return 0;
    size_t i = place_of(s, key ? key : 1);
    if (!s->keys[i]) return 0;
    *number = s->numbers[i];
    return 1;
}

static enum status grow(struct seen *s)
{
    struct seen old = *s;
    size_t cap = old.cap ? 2 * old.cap : 1024;
    uint64_t *keys = mem_calloc(cap, sizeof *keys);
    uint32_t *numbers = mem_calloc(cap, sizeof *numbers);
    if (!keys || !numbers) {
        mem_free(keys);
        mem_free(numbers);
        return ERR_MEMORY;
    }
    *s = (struct seen){keys, numbers, old.n, cap};
    for (size_t i = 0; i < old.cap; i++) {
        if (!old.keys[i]) continue;
        size_t at = place_of(s, old.keys[i]);
        s->keys[at] = old.keys[i];
        s->numbers[at] = old.numbers[i];
    }
    seen_free(&old);
    return OK;
}

enum status seen_add(struct seen *s, uint64_t key, uint32_t number)
{
    if (!key) key = 1;
    if (3 * (s->n + 1) > 2 * s->cap) TRY(grow(s));
    size_t at = place_of(s, key);
    if (s->keys[at]) return OK;
    s->keys[at] = key;
    s->numbers[at] = number;
    s->n++;
    return OK;
}

void seen_free(struct seen *s)
{
    mem_free(s->keys);
    mem_free(s->numbers);
    *s = (struct seen){0};
}

size_t seen_bytes(const struct seen *s) { return s->cap * (sizeof *s->keys + sizeof *s->numbers); }
