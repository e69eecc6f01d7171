#include "data/pack/pack.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

struct item {
    int32_t length, index;
};

/* Open bins by the space left in them. A space's bins are a queue, chained through `next`; `tree`
 * is a binary tree over the spaces (leaf `leaves + space`) whose nodes say whether any bin lies
 * below, so that the smallest sufficient space is found by one climb and one descent. */
struct spaces {
    int32_t *head, *tail; /* [capacity + 1] bins; -1: none */
    int32_t *next;        /* [bins] */
    unsigned char *tree;  /* [2 * leaves] */
    int64_t leaves;
};

static void mark(struct spaces *s, int32_t space, int any)
{
    int64_t i = s->leaves + space;
    s->tree[i] = (unsigned char)any;
    for (i /= 2; i >= 1; i /= 2) s->tree[i] = s->tree[2 * i] | s->tree[2 * i + 1];
}

/* The smallest open space of at least `length`, or -1. */
static int32_t find(const struct spaces *s, int32_t length)
{
    int64_t i = s->leaves + length;
    while (!s->tree[i]) {
        while (i & 1) i /= 2; /* right children: nothing larger below their parents */
        if (i == 0) return -1;
        i++;
    }
    while (i < s->leaves) i = s->tree[2 * i] ? 2 * i : 2 * i + 1;
    return (int32_t)(i - s->leaves);
}

static void put(struct spaces *s, int32_t space, int32_t bin)
{
    s->next[bin] = -1;
    if (s->head[space] < 0) {
        s->head[space] = bin;
        mark(s, space, 1);
    } else {
        s->next[s->tail[space]] = bin;
    }
    s->tail[space] = bin;
}

static int32_t take(struct spaces *s, int32_t space)
{
    int32_t bin = s->head[space];
    s->head[space] = s->next[bin];
    if (s->head[space] < 0) mark(s, space, 0);
    return bin;
}

static void spaces_free(struct spaces *s)
{
    mem_free(s->head);
    mem_free(s->tail);
    mem_free(s->next);
    mem_free(s->tree);
}

static int spaces_create(struct spaces *s, int32_t capacity, int64_t bins)
{
    size_t slots = (size_t)capacity + 1;
    s->leaves = 1;
    while (s->leaves < (int64_t)slots) s->leaves *= 2;
    s->head = mem_calloc(slots, sizeof *s->head);
    s->tail = mem_calloc(slots, sizeof *s->tail);
    s->next = mem_calloc((size_t)bins + 1, sizeof *s->next);
    s->tree = mem_calloc((size_t)s->leaves, 2);
    if (!s->head || !s->tail || !s->next || !s->tree) return 1;
    for (size_t i = 0; i < slots; i++) s->head[i] = -1;
    return 0;
}

static int longer_first(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* bins[k]: the bin of the k-th longest item; returns how many bins. */
static int64_t assign(struct spaces *s, const struct item *items, int64_t n, int32_t capacity,
                      int32_t *bins)
{
    int64_t num_bins = 0;
    for (int64_t k = 0; k < n; k++) {
        int32_t space = find(s, items[k].length);
        int32_t bin = space < 0 ? (int32_t)num_bins++ : take(s, space);
        if (space < 0) space = capacity;
        if (space > items[k].length) put(s, space - items[k].length, bin);
        bins[k] = bin;
    }
    return num_bins;
}

/* Groups the items by bin, each bin's in the order they came. */
static enum status group(struct pack *out, const struct item *items, const int32_t *bins, int64_t n)
{
    out->starts = mem_calloc((size_t)out->num_bins + 2, sizeof *out->starts);
    out->items = mem_calloc((size_t)n + 1, sizeof *out->items);
    if (!out->starts || !out->items) return ERR_MEMORY;
    /* Counted two further on, then summed: starts[b + 1] is where bin b's next item goes, and its
     * end, which is the next bin's start, once all are there. */
    for (int64_t k = 0; k < n; k++) out->starts[bins[k] + 2]++;
    for (int64_t b = 1; b <= out->num_bins; b++) out->starts[b] += out->starts[b - 1];
    for (int64_t k = 0; k < n; k++) out->items[out->starts[bins[k] + 1]++] = items[k].index;
    return OK;
}

enum status pack_best_fit(struct pack *out, const int32_t *lengths, int64_t n, int32_t capacity,
                          struct err *e)
{
    assert(capacity >= 1 && n >= 0 && n <= INT32_MAX);
    struct spaces s = {0};
    int64_t count = 0, total = 0;
    *out = (struct pack){0};
    struct item *items = mem_calloc((size_t)n + 1, sizeof *items);
    int32_t *bins = mem_calloc((size_t)n + 1, sizeof *bins);
    enum status st = ERR_MEMORY;
    if (!items || !bins) goto out;
    for (int64_t i = 0; i < n; i++) {
        if (lengths[i] < 1) continue;
        items[count] = (struct item){lengths[i] < capacity ? lengths[i] : capacity, (int32_t)i};
        total += items[count++].length;
    }
    /* All in one bin: the result is that of a capacity of just the total, which bounds the tree. */
    if (capacity > total) capacity = total ? (int32_t)total : 1;
    qsort(items, (size_t)count, sizeof *items, longer_first);
    if (spaces_create(&s, capacity, count)) goto out;
    out->num_bins = assign(&s, items, count, capacity, bins);
    st = group(out, items, bins, count);
out:
    spaces_free(&s);
    mem_free(items);
    mem_free(bins);
    if (st) {
        pack_free(out);
        return err_set(e, st, "packing %lld documents", (long long)n);
    }
    return OK;
}

void pack_free(struct pack *p)
{
    mem_free(p->starts);
    mem_free(p->items);
    *p = (struct pack){0};
}
