#include "data/tokenizer/bpe.h"

#include <string.h>

#include "base/mem.h"

#define SHORT_MAX 40 /* symbols; a word almost never has more */
#define SYMBOLS_MAX ((size_t)INT32_MAX / 4)

void merge_table_free(struct merge_table *m)
{
    mem_free(m->slots);
    *m = (struct merge_table){0};
}

static inline uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline size_t slot_of(const struct merge_table *m, uint64_t pair)
{
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    size_t mask = m->slot_count - 1, at = (h ^ h >> 32) & mask;
    while (m->slots[at].pair != MERGE_FREE && m->slots[at].pair != pair) at = (at + 1) & mask;
    return at;
}

static enum status grow_slots(struct merge_table *m)
{
    if (m->slot_count && m->used * 2 < m->slot_count) return OK;
    struct merge_table bigger = {.slot_count = m->slot_count ? m->slot_count * 2 : 1024,
                                 .used = m->used};
    bigger.slots = mem_resize(NULL, bigger.slot_count, sizeof *bigger.slots);
    if (!bigger.slots) return ERR_MEMORY;
    for (size_t i = 0; i < bigger.slot_count; i++) bigger.slots[i].pair = MERGE_FREE;
    for (size_t i = 0; i < m->slot_count; i++)
        if (m->slots[i].pair != MERGE_FREE)
            bigger.slots[slot_of(&bigger, m->slots[i].pair)] = m->slots[i];
    mem_free(m->slots);
    *m = bigger;
    return OK;
}

enum status merge_table_put(struct merge_table *m, int32_t left, int32_t right, int32_t rank,
                            int32_t id)
{
    TRY(grow_slots(m));
    uint64_t pair = pair_of(left, right);
    struct merge *slot = &m->slots[slot_of(m, pair)];
    if (slot->pair == MERGE_FREE) m->used++;
    *slot = (struct merge){pair, rank, id};
    return OK;
}

const struct merge *merge_table_find(const struct merge_table *m, int32_t left, int32_t right)
{
    if (!m->slot_count) return NULL;
    const struct merge *slot = &m->slots[slot_of(m, pair_of(left, right))];
    return slot->pair == MERGE_FREE ? NULL : slot;
}

struct bpe_link {
    int32_t id; /* -1: merged into the one on its left */
    int32_t prev, next;
};

struct bpe_candidate {
    uint64_t order; /* rank in the upper half, position of the left symbol in the lower */
    int32_t id;     /* what the merge gives; tells whether the candidate is still what it was */
};

void bpe_work_free(struct bpe_work *w)
{
    mem_free(w->ids);
    mem_free(w->links);
    mem_free(w->heap);
    *w = (struct bpe_work){0};
}

/* Grows an array to hold `need` elements, by half more than that. */
static void *grown(void *old, size_t need, size_t each, size_t *cap)
{
    void *p = mem_resize(old, need + need / 2 + 64, each);
    if (p) *cap = need + need / 2 + 64;
    return p;
}

enum status bpe_reserve(struct bpe_work *w, size_t n)
{
    if (n > SYMBOLS_MAX) return ERR_DATA;
    if (n <= w->cap) return OK;
    int32_t *ids = grown(w->ids, n, sizeof *ids, &w->cap);
    if (!ids) return ERR_MEMORY;
    w->ids = ids;
    return OK;
}

static inline int32_t rank_of(const struct merge_table *m, int32_t left, int32_t right, int32_t *id)
{
    const struct merge *found = merge_table_find(m, left, right);
    if (!found) return INT32_MAX;
    *id = found->id;
    return found->rank;
}

/* rank[i], merged[i]: of the pair (i, i+1). */
static size_t merge_short(const struct merge_table *m, int32_t *ids, size_t n)
{
    int32_t rank[SHORT_MAX], merged[SHORT_MAX];
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(m, ids[i], ids[i + 1], &merged[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == INT32_MAX) break;
        ids[best] = merged[best];
        size_t after = n - best - 2; /* symbols behind the pair */
        memmove(ids + best + 1, ids + best + 2, after * sizeof *ids);
        if (after) {
            memmove(rank + best + 1, rank + best + 2, (after - 1) * sizeof *rank);
            memmove(merged + best + 1, merged + best + 2, (after - 1) * sizeof *merged);
        }
        n--;
        if (best + 1 < n) rank[best] = rank_of(m, ids[best], ids[best + 1], &merged[best]);
        if (best) rank[best - 1] = rank_of(m, ids[best - 1], ids[best], &merged[best - 1]);
    }
    return n;
}

/* Each merge takes one symbol away and adds at most two candidates, so the heap holds fewer than
 * three times the symbols. */
static enum status reserve_long(struct bpe_work *w)
{
    if (w->len > w->link_cap) {
        struct bpe_link *links = grown(w->links, w->len, sizeof *links, &w->link_cap);
        if (!links) return ERR_MEMORY;
        w->links = links;
    }
    if (w->len * 3 > w->heap_cap) {
        struct bpe_candidate *heap = grown(w->heap, w->len * 3, sizeof *heap, &w->heap_cap);
        if (!heap) return ERR_MEMORY;
        w->heap = heap;
    }
    return OK;
}

static void sift_down(struct bpe_candidate *heap, size_t n, size_t at)
{
    struct bpe_candidate moving = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child + 1].order < heap[child].order) child++;
        if (heap[child].order >= moving.order) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void push(struct bpe_work *w, const struct merge_table *m, int32_t left, int32_t right)
{
    const struct merge *found = merge_table_find(m, w->links[left].id, w->links[right].id);
    if (!found) return;
    struct bpe_candidate add = {pair_of(found->rank, left), found->id};
    size_t at = w->heap_len++;
    for (; at && w->heap[(at - 1) / 2].order > add.order; at = (at - 1) / 2)
        w->heap[at] = w->heap[(at - 1) / 2];
    w->heap[at] = add;
}

/* Applies a candidate unless its symbols have changed since it was pushed. */
static void apply(struct bpe_work *w, const struct merge_table *m, struct bpe_candidate top)
{
    int32_t left = (int32_t)(uint32_t)top.order;
    struct bpe_link *l = &w->links[left];
    if (l->id < 0 || l->next < 0) return;
    int32_t right = l->next;
    struct bpe_link *r = &w->links[right];
    const struct merge *now = merge_table_find(m, l->id, r->id);
    if (!now || now->id != top.id) return;
    l->id = top.id;
    l->next = r->next;
    r->id = -1;
    if (l->next >= 0) w->links[l->next].prev = left;
    if (l->prev >= 0) push(w, m, l->prev, left);
    if (l->next >= 0) push(w, m, left, l->next);
}

static enum status merge_long(const struct merge_table *m, struct bpe_work *w)
{
    TRY(reserve_long(w));
    int32_t n = (int32_t)w->len;
    for (int32_t i = 0; i < n; i++)
        w->links[i] = (struct bpe_link){w->ids[i], i - 1, i + 1 < n ? i + 1 : -1};
    w->heap_len = 0;
    for (int32_t i = 0; i + 1 < n; i++) push(w, m, i, i + 1);
    while (w->heap_len) {
        struct bpe_candidate top = w->heap[0];
        w->heap[0] = w->heap[--w->heap_len];
        if (w->heap_len) sift_down(w->heap, w->heap_len, 0);
        apply(w, m, top);
    }
    w->len = 0;
    for (int32_t i = 0; i >= 0; i = w->links[i].next) w->ids[w->len++] = w->links[i].id;
    return OK;
}

enum status bpe_merge(const struct merge_table *m, struct bpe_work *w)
{
    if (w->len > SHORT_MAX) return merge_long(m, w);
    if (w->len > 1) w->len = merge_short(m, w->ids, w->len);
    return OK;
}
