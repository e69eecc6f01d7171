#include "run/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"

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

static int by_logit(const void *a, const void *b)
{
    const struct sampler_entry *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* How many of the sorted entries stay; their weights relative to the first are in `logit` then. */
static int32_t truncate(struct sampler *s, double *total)
{
    int32_t n = s->vocab, kept = 0;
    double all = 0, top = s->entries[0].logit;
    if (s->options.top_k && s->options.top_k < n) n = s->options.top_k;
    for (int32_t i = 0; i < n; i++) {
        s->entries[i].logit = (float)exp((s->entries[i].logit - top) / s->options.temperature);
        all += s->entries[i].logit;
    }
    for (*total = 0; kept < n; kept++) {
        if (kept && *total >= s->options.top_p * all) break;
        *total += s->entries[kept].logit;
    }
    return kept;
}

int32_t sampler_draw(struct sampler *s, const float *logits, uint64_t sequence, uint32_t step)
{
    if (s->options.temperature == 0) return largest(logits, s->vocab);
    for (int32_t i = 0; i < s->vocab; i++) s->entries[i] = (struct sampler_entry){logits[i], i};
    qsort(s->entries, (size_t)s->vocab, sizeof *s->entries, by_logit);
    double total, sum = 0;
    int32_t kept = truncate(s, &total);
    uint32_t words[4], counter[4] = {step, 0, 0, 0};
    rng_words(rng_key(s->options.seed, RNG_SAMPLE, sequence), counter, words);
    double target = rng_unit(words[0]) * total;
    for (int32_t i = 0; i < kept; i++) {
        sum += s->entries[i].logit;
        if (sum > target) return s->entries[i].id;
    }
    return s->entries[kept - 1].id;
}
