#include "data/tokenizer/vocab.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/mem.h"

void vocab_free(struct vocab *v)
{
    mem_free(v->text);
    mem_free(v->entries);
    mem_free(v->slots);
    *v = (struct vocab){0};
}

/* The slot that holds the spelling, or the free one where it would go. */
static size_t slot_of(const struct vocab *v, const char *text, size_t n)
{
    size_t mask = v->slot_count - 1, at = XXH3_64bits(text, n) & mask;
    for (; v->slots[at] >= 0; at = (at + 1) & mask) {
        const struct vocab_entry *entry = &v->entries[v->slots[at]];
        if (entry->length == n && !memcmp(v->text + entry->start, text, n)) break;
    }
    return at;
}

static int grow_slots(struct vocab *v)
{
    if (v->slot_count && v->used * 2 < v->slot_count) return 0;
    size_t count = v->slot_count ? v->slot_count * 2 : 1024;
    int32_t *slots = mem_resize(NULL, count, sizeof *slots);
    if (!slots) return -1;
    memset(slots, 0xFF, count * sizeof *slots);
    mem_free(v->slots);
    v->slots = slots;
    v->slot_count = count;
    for (int32_t id = 0; id < v->size; id++) {
        size_t n;
        const char *text = vocab_text(v, id, &n);
        if (text) slots[slot_of(v, text, n)] = id;
    }
    return 0;
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
    if (grow_slots(v) || grow_entries(v, id) || grow_text(v, n)) return VOCAB_NO_MEMORY;
    if (v->entries[id].length) return VOCAB_ID_TAKEN;
    size_t slot = slot_of(v, text, n);
    if (v->slots[slot] >= 0) return VOCAB_SPELLING_TAKEN;
    memcpy(v->text + v->text_len, text, n);
    v->entries[id] = (struct vocab_entry){(uint32_t)v->text_len, (uint32_t)n};
    v->text_len += n;
    v->slots[slot] = id;
    v->used++;
    if (id >= v->size) v->size = id + 1;
    return VOCAB_PUT;
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t n)
{
    return v->slot_count && n ? v->slots[slot_of(v, text, n)] : -1;
}
