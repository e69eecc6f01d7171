#include "data/tokenizer/vocab.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/mem.h"

void vocab_free(struct vocab *v)
{
    mem_free(v->text);
    mem_free(v->entries);
    mem_pages_free(v->slots, v->slot_count * sizeof *v->slots);
    *v = (struct vocab){0};
}

static struct vocab_slot *probe(const struct vocab *v, const char *text, size_t n, uint64_t hash)
{
    size_t mask = v->slot_count - 1, at = hash & mask;
    for (; v->slots[at].id >= 0; at = (at + 1) & mask) {
        if (v->slots[at].tag != hash >> 32) continue;
        const struct vocab_entry *entry = &v->entries[v->slots[at].id];
        if (entry->length == n && !memcmp(v->text + entry->start, text, n)) break;
    }
    return &v->slots[at];
}

static int resize_slots(struct vocab *v, size_t count)
{
    struct vocab_slot *slots = mem_pages(count * sizeof *slots);
    if (!slots) return -1;
    memset(slots, 0xFF, count * sizeof *slots);
    mem_pages_free(v->slots, v->slot_count * sizeof *v->slots);
    v->slots = slots;
    v->slot_count = count;
    for (int32_t id = 0; id < v->size; id++) {
        size_t n;
        const char *text = vocab_text(v, id, &n);
        if (!text) continue;
        uint64_t hash = XXH3_64bits(text, n);
        *probe(v, text, n, hash) = (struct vocab_slot){id, (uint32_t)(hash >> 32)};
    }
    return 0;
}

/* At most half of the slots are taken. */
static int grow_slots(struct vocab *v, size_t n)
{
    size_t count = v->slot_count ? v->slot_count : 1024;
    if (n > (size_t)1 << 30) return -1;
    while (count < n * 2) count *= 2;
    return count > v->slot_count ? resize_slots(v, count) : 0;
}

enum vocab_put vocab_reserve(struct vocab *v, size_t n)
{
    return grow_slots(v, n) ? VOCAB_NO_MEMORY : VOCAB_PUT;
}

static int grow_entries(struct vocab *v, int32_t id)
{
    if (id < v->cap) return 0;
    int32_t cap = id < 1 << 29 ? (id + 512) * 2 : INT32_MAX;
    struct vocab_entry *entries = mem_resize(v->entries, (size_t)cap, sizeof *entries);
    if (!entries) return -1;
    memset(entries + v->cap, 0, (size_t)(cap - v->cap) * sizeof *entries);
    v->entries = entries;
    v->cap = cap;
    return 0;
}

static int grow_text(struct vocab *v, size_t n)
{
    if (n > VOCAB_TEXT_MAX - v->text_len) return -1;
    if (v->text_len + n <= v->text_cap) return 0;
    size_t cap = (v->text_len + n) * 2;
    char *text = mem_resize(v->text, cap, 1);
    if (!text) return -1;
    v->text = text;
    v->text_cap = cap;
    return 0;
}

enum vocab_put vocab_put(struct vocab *v, int32_t id, const char *text, size_t n)
{
    if (grow_slots(v, v->used + 1) || grow_entries(v, id) || grow_text(v, n))
        return VOCAB_NO_MEMORY;
    if (v->entries[id].length) return VOCAB_ID_TAKEN;
    uint64_t hash = XXH3_64bits(text, n);
    struct vocab_slot *slot = probe(v, text, n, hash);
    if (slot->id >= 0) return VOCAB_SPELLING_TAKEN;
    memcpy(v->text + v->text_len, text, n);
    v->entries[id] = (struct vocab_entry){(uint32_t)v->text_len, (uint32_t)n};
    v->text_len += n;
    *slot = (struct vocab_slot){id, (uint32_t)(hash >> 32)};
    v->used++;
    if (id >= v->size) v->size = id + 1;
    return VOCAB_PUT;
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t n)
{
    return v->slot_count && n ? probe(v, text, n, XXH3_64bits(text, n))->id : -1;
}
