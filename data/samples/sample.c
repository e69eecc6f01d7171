#include "data/samples/sample.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"

static const struct {
    const char *name, *about;
} kinds[NUM_KINDS] = {
    {"sft", "texts to learn"},
    {"pair", "pairs of a chosen and a rejected reply"},
    {"unpaired", "replies with a label"},
};

const char *kind_name(enum record_kind k) { return kinds[k].name; }
const char *kind_about(enum record_kind k) { return kinds[k].about; }

int kind_find(const char *name, enum record_kind *out)
{
    for (int k = 0; k < NUM_KINDS; k++) {
        if (strcmp(name, kinds[k].name) != 0) continue;
        *out = (enum record_kind)k;
        return 1;
    }
    return 0;
}

void sample_clear(struct sample *s)
{
    s->n = s->num_turns = 0;
    s->kind = KIND_SFT;
    s->chosen = s->rejected = 0;
    s->source = 0;
    s->line = 0;
}

void sample_free(struct sample *s)
{
    mem_free(s->ids);
    mem_free(s->weights);
    mem_free(s->turns);
    *s = (struct sample){0};
}

enum status sample_append(struct sample *s, const int32_t *ids, size_t n, float weight)
{
    size_t need;
    if (size_add(s->n, n, &need)) return ERR_MEMORY;
    if (need > s->cap) {
        size_t cap = size_max(need, s->cap > SIZE_MAX / 2 ? need : 2 * s->cap);
        int32_t *i = mem_resize(s->ids, cap, sizeof *i);
        if (!i) return ERR_MEMORY;
        s->ids = i;
        float *w = mem_resize(s->weights, cap, sizeof *w);
        if (!w) return ERR_MEMORY;
        s->weights = w;
        s->cap = cap;
    }
    if (n) memcpy(s->ids + s->n, ids, n * sizeof *ids);
    for (size_t k = s->n; k < need; k++) s->weights[k] = k ? weight : 0;
    s->n = need;
    return OK;
}

enum status sample_begin_turn(struct sample *s, enum role role)
{
    if (s->num_turns && (size_t)s->turns[s->num_turns - 1].start == s->n) {
        s->turns[s->num_turns - 1].role = role; /* the turn before has no tokens */
        return OK;
    }
    if (s->n > INT32_MAX) return ERR_MEMORY;
    if (s->num_turns == s->cap_turns) {
        size_t cap = s->cap_turns ? 2 * s->cap_turns : 8;
        struct sample_turn *t = mem_resize(s->turns, cap, sizeof *t);
        if (!t) return ERR_MEMORY;
        s->turns = t;
        s->cap_turns = cap;
    }
    s->turns[s->num_turns++] = (struct sample_turn){(int32_t)s->n, role};
    return OK;
}
