#include "run/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/sampling.h"

#define LOG2_E 1.44269504088896340736

enum status sampler_init(struct sampler *s, const struct sampler_options *o, int32_t vocab,
                         struct err *e)
{
    *s = (struct sampler){.options = *o, .vocab = vocab};
    if (!(o->temperature >= 0 && o->temperature < 1e6))
        return err_set(e, ERR_CONFIG, "--temperature is %g; it must be 0 or more", o->temperature);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return err_set(e, ERR_CONFIG, "--top-p is %g; it must be above 0 and at most 1", o->top_p);
    if (o->top_k < 0)
        return err_set(e, ERR_CONFIG, "--top-k is %d; it must be 0 or more", o->top_k);
    s->entries = mem_calloc((size_t)vocab, sizeof *s->entries);
    return s->entries ? OK
                      : err_set(e, ERR_MEMORY, "no memory to sample from %d tokens", (int)vocab);
}

void sampler_free(struct sampler *s)
{
    mem_free(s->entries);
    *s = (struct sampler){0};
}

static int32_t largest(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* The order that kernels/sampling.h names. */
static int by_key(const void *a, const void *b)
{
    const struct sampler_entry *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b)
{
    const struct sampler_entry *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* How many of the sorted entries stay; *total is the sum of their weights. */
static int32_t truncate(struct sampler *s, const struct kern_sample *how, uint64_t *total)
{
    int32_t n = how->top_k && how->top_k < s->vocab ? how->top_k : s->vocab, kept = 0;
    uint64_t all = 0;
    float top = sampling_logit(s->entries[0].key);
    for (int32_t i = 0; i < n; i++) {
        struct sampler_entry *e = &s->entries[i];
        e->weight = sampling_weight(sampling_logit(e->key), top, how->scale);
        all += e->weight;
    }
    uint64_t share = sampling_share(how->top_p, all);
    for (*total = 0; *total < share; kept++) *total += s->entries[kept].weight;
    return kept;
}

struct kern_sample sampler_request(const struct sampler *s, uint64_t sequence, uint32_t step)
{
    const struct sampler_options *o = &s->options;
    struct kern_sample how = {.top_p = o->top_p, .top_k = o->top_k};
    uint32_t words[4], counter[4] = {step, 0, 0, 0};
    rng_words(rng_key(o->seed, RNG_SAMPLE, sequence), counter, words);
    how.word = words[0];
    if (o->temperature > 0) how.scale = (float)fmin(LOG2_E / o->temperature, FLT_MAX);
    return how;
}

int32_t sampler_draw(struct sampler *s, const float *logits, uint64_t sequence, uint32_t step)
{
    struct kern_sample how = sampler_request(s, sequence, step);
    if (!(how.scale > 0)) return largest(logits, s->vocab);
    for (int32_t i = 0; i < s->vocab; i++)
        s->entries[i] = (struct sampler_entry){sampling_key(logits[i]), 0, i};
    qsort(s->entries, (size_t)s->vocab, sizeof *s->entries, by_key);
    uint64_t total, sum = 0;
    int32_t kept = truncate(s, &how, &total), i = 0;
    uint64_t target = sampling_target(total, how.word);
    qsort(s->entries, (size_t)kept, sizeof *s->entries, by_id);
    while ((sum += s->entries[i].weight) <= target) i++;
    return s->entries[i].id;
}
