#include "data/clean/near.h"

#include <string.h>

#include "base/mem.h"

struct near {
    double similarity;
    size_t rows, bands; /* bands * rows <= NEAR_HASHES */
    struct near_signature *signatures;
    uint32_t *numbers;
    size_t n, cap;
    uint32_t *slots; /* index of a signature, plus one; 0: free */
    size_t used, num_slots;
};

/* ---- signatures ---- */

/* The least of each of NEAR_HASHES hashes of one shingle. */
static void take_least(uint64_t shingle, uint32_t least[NEAR_HASHES])
{
    uint32_t x = (uint32_t)(shingle ^ shingle >> 32), a = (uint32_t)(shingle >> 17) | 1;
    for (uint32_t i = 0; i < NEAR_HASHES; i++) {
        uint32_t h = (x + i * a) * 0x9e3779b1u;
        h = (h ^ h >> 15 ^ i * 0x85ebca77u) * 0xc2b2ae3du;
        h ^= h >> 16;
        if (h < least[i]) least[i] = h;
    }
}

void near_sign(const struct word_list *w, struct near_signature *out)
{
    uint32_t least[NEAR_HASHES];
    size_t size = w->n < NEAR_SHINGLE ? w->n : NEAR_SHINGLE;
    memset(least, 0xff, sizeof least);
    for (size_t i = 0; i + size <= w->n; i++) {
        uint64_t h = size;
        for (size_t k = 0; k < size; k++) h = words_mix(h * 31 + w->hashes[i + k]);
        take_least(h, least);
    }
    for (size_t i = 0; i < NEAR_HASHES; i++) out->rows[i] = (uint16_t)least[i];
}

static double similarity(const struct near_signature *a, const struct near_signature *b)
{
    int same = 0;
    for (size_t i = 0; i < NEAR_HASHES; i++) same += a->rows[i] == b->rows[i];
    return (double)same / NEAR_HASHES;
}

/* ---- the index ---- */

enum status near_open(struct near **out, double wanted)
{
    struct near *n = mem_calloc(1, sizeof *n);
    *out = n;
    if (!n) return ERR_MEMORY;
    n->similarity = wanted;
    n->rows = wanted < 0.65 ? 3 : 5;
    n->bands = NEAR_HASHES / n->rows;
    return OK;
}

void near_close(struct near *n)
{
    if (!n) return;
    mem_free(n->signatures);
    mem_free(n->numbers);
    mem_free(n->slots);
    mem_free(n);
}

/* Where the first signature with these rows in this band stands, or the free slot for it. */
static size_t slot_of(const struct near *n, const struct near_signature *s, size_t band)
{
    const uint16_t *rows = s->rows + band * n->rows;
    uint64_t h = band + 1;
    for (size_t i = 0; i < n->rows; i++) h = words_mix(h * 31 + rows[i]);
    size_t at = (size_t)h & (n->num_slots - 1);
    for (; n->slots[at]; at = (at + 1) & (n->num_slots - 1)) {
        const uint16_t *there = n->signatures[n->slots[at] - 1].rows + band * n->rows;
        if (!memcmp(there, rows, n->rows * sizeof *rows)) break;
    }
    return at;
}

int near_find(const struct near *n, const struct near_signature *s, uint32_t *number)
{
    for (size_t band = 0; n->num_slots && band < n->bands; band++) {
        uint32_t there = n->slots[slot_of(n, s, band)];
        if (!there || similarity(&n->signatures[there - 1], s) < n->similarity) continue;
        *number = n->numbers[there - 1];
        return 1;
    }
    return 0;
}

static void enter(struct near *n, size_t index)
{
    for (size_t band = 0; band < n->bands; band++) {
        size_t at = slot_of(n, &n->signatures[index], band);
        if (n->slots[at]) continue;
        n->slots[at] = (uint32_t)index + 1;
        n->used++;
    }
}

static enum status grow_slots(struct near *n)
{
    size_t count = n->num_slots ? 2 * n->num_slots : 4096;
    uint32_t *slots = mem_calloc(count, sizeof *slots);
    if (!slots) return ERR_MEMORY;
    mem_free(n->slots);
    n->slots = slots;
    n->num_slots = count;
    n->used = 0;
    for (size_t i = 0; i < n->n; i++) enter(n, i);
    return OK;
}

enum status near_add(struct near *n, const struct near_signature *s, uint32_t number)
{
    if (n->n == n->cap) {
        size_t cap = n->cap ? n->cap + n->cap / 2 : 1024;
        struct near_signature *p = mem_resize(n->signatures, cap, sizeof *p);
        if (!p) return ERR_MEMORY;
        n->signatures = p;
        uint32_t *q = mem_resize(n->numbers, cap, sizeof *q);
        if (!q) return ERR_MEMORY;
        n->numbers = q;
        n->cap = cap;
    }
    if (4 * (n->used + n->bands) > 3 * n->num_slots) TRY(grow_slots(n));
    n->signatures[n->n] = *s;
    n->numbers[n->n] = number;
    enter(n, n->n++);
    return OK;
}

size_t near_bytes(const struct near *n)
{
    return n->cap * (sizeof *n->signatures + sizeof *n->numbers) + n->num_slots * sizeof *n->slots;
}
