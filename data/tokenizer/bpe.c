#include "data/tokenizer/bpe.h"

#include <string.h>

#include "base/mem.h"

#define SHORT_MAX 40 /* symbols; a word almost never has more */
#define SYMBOLS_MAX ((size_t)INT32_MAX / 4)

#define FILTER_PER_SLOT 4 /* bits */

void merge_table_free(struct merge_table *m)
{
    mem_pages_free(m->slots, m->slot_count * sizeof *m->slots);
    mem_free(m->filter);
    *m = (struct merge_table){0};
}

static inline uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline uint64_t hash_of(uint64_t pair)
{
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    return (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
}

/* The filter's bit is told by the upper bits of the hash, the slot by the middle ones. */
static inline size_t filter_bit(const struct merge_table *m, uint64_t hash)
{
    return (size_t)(hash >> 20) & (m->slot_count * FILTER_PER_SLOT - 1);
}

static inline size_t first_slot(const struct merge_table *m, uint64_t hash)
{
    return (size_t)(hash >> 32) & (m->slot_count - 1);
}

static inline struct merge *slot_of(const struct merge_table *m, uint64_t pair, uint64_t hash)
{
    size_t mask = m->slot_count - 1, at = first_slot(m, hash);
    while (m->slots[at].pair != MERGE_FREE && m->slots[at].pair != pair) at = (at + 1) & mask;
    return &m->slots[at];
}

static struct merge *occupy(struct merge_table *m, uint64_t pair)
{
    uint64_t hash = hash_of(pair);
    size_t bit = filter_bit(m, hash);
    m->filter[bit / 64] |= (uint64_t)1 << bit % 64;
    return slot_of(m, pair, hash);
}

static enum status resize(struct merge_table *m, size_t slot_count)
{
    struct merge_table bigger = {.slot_count = slot_count, .used = m->used};
    bigger.slots = mem_pages(slot_count * sizeof *bigger.slots);
    bigger.filter = mem_calloc(slot_count * FILTER_PER_SLOT / 64, sizeof *bigger.filter);
    if (!bigger.slots || !bigger.filter) {
        merge_table_free(&bigger);
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < slot_count; i++) bigger.slots[i].pair = MERGE_FREE;
    for (size_t i = 0; i < m->slot_count; i++)
        if (m->slots[i].pair != MERGE_FREE) *occupy(&bigger, m->slots[i].pair) = m->slots[i];
    merge_table_free(m);
    *m = bigger;
    return OK;
}

/* At most two thirds of the slots are taken. */
enum status merge_table_reserve(struct merge_table *m, size_t n)
{
    size_t count = m->slot_count ? m->slot_count : 1024;
    if (n > SYMBOLS_MAX) return ERR_MEMORY;
    while (n * 3 > count * 2) count *= 2;
    return count > m->slot_count ? resize(m, count) : OK;
}

enum status merge_table_put(struct merge_table *m, int32_t left, int32_t right, int32_t rank,
                            int32_t id)
{
    TRY(merge_table_reserve(m, m->used + 1));
    uint64_t pair = pair_of(left, right);
    struct merge *slot = occupy(m, pair);
    if (slot->pair == MERGE_FREE) m->used++;
    *slot = (struct merge){pair, rank, id};
    return OK;
}

static inline const struct merge *find(const struct merge_table *m, int32_t left, int32_t right)
{
    uint64_t pair = pair_of(left, right), hash = hash_of(pair);
    size_t bit = filter_bit(m, hash);
    if (!(m->filter[bit / 64] >> bit % 64 & 1)) return NULL;
    const struct merge *slot = slot_of(m, pair, hash);
    return slot->pair == MERGE_FREE ? NULL : slot;
}

const struct merge *merge_table_find(const struct merge_table *m, int32_t left, int32_t right)
{
    return m->slot_count ? find(m, left, right) : NULL;
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

/* A pair that will be looked up soon: its slot is fetched meanwhile. */
struct question {
    uint64_t pair, hash;
};

static inline struct question ask(const struct merge_table *m, int32_t left, int32_t right)
{
    uint64_t pair = pair_of(left, right), hash = hash_of(pair);
    __builtin_prefetch(&m->slots[first_slot(m, hash)]);
    return (struct question){pair, hash};
}

/* The rank, INT32_MAX for no merge; what the merge gives in *id. */
static inline int32_t answer(const struct merge_table *m, struct question q, int32_t *id)
{
    size_t bit = filter_bit(m, q.hash);
    if (!(m->filter[bit / 64] >> bit % 64 & 1)) return INT32_MAX;
    const struct merge *slot = slot_of(m, q.pair, q.hash);
    if (slot->pair == MERGE_FREE) return INT32_MAX;
    *id = slot->id;
    return slot->rank;
}

/* A short sequence. Symbol i is merged with symbol next[i]; what is merged away has no rank. */
struct row {
    int32_t rank[SHORT_MAX], merged[SHORT_MAX]; /* of the pair that begins here */
    uint8_t next[SHORT_MAX], prev[SHORT_MAX];
};

static void fill_row(const struct merge_table *m, struct row *r, const int32_t *ids, size_t n)
{
    struct question q[SHORT_MAX];
    for (size_t i = 0; i + 1 < n; i++) q[i] = ask(m, ids[i], ids[i + 1]);
    for (size_t i = 0; i < n; i++) {
        r->rank[i] = i + 1 < n ? answer(m, q[i], &r->merged[i]) : INT32_MAX;
        r->next[i] = (uint8_t)(i + 1);
        r->prev[i] = (uint8_t)(i - 1);
    }
}

static size_t merge_short(const struct merge_table *m, int32_t *ids, size_t n)
{
    struct row r;
    fill_row(m, &r, ids, n);
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (r.rank[i] < r.rank[best]) best = i;
        if (r.rank[best] == INT32_MAX) break;
        size_t right = r.next[best], after = r.next[right], before = r.prev[best];
        ids[best] = r.merged[best];
        r.next[best] = (uint8_t)after;
        r.rank[best] = r.rank[right] = INT32_MAX;
        struct question left_q = {0}, right_q = {0};
        if (best) left_q = ask(m, ids[before], ids[best]);
        if (after < n) {
            right_q = ask(m, ids[best], ids[after]);
            r.prev[after] = (uint8_t)best;
            r.rank[best] = answer(m, right_q, &r.merged[best]);
        }
        if (best) r.rank[before] = answer(m, left_q, &r.merged[before]);
    }
    size_t count = 0;
    for (size_t i = 0; i < n; i = r.next[i]) ids[count++] = ids[i];
    return count;
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
    const struct merge *found = find(m, w->links[left].id, w->links[right].id);
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
    const struct merge *now = find(m, l->id, r->id);
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
    if (!m->used) return OK;
    if (w->len > SHORT_MAX) return merge_long(m, w);
    if (w->len > 1) w->len = merge_short(m, w->ids, w->len);
    return OK;
}
