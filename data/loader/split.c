#include "data/loader/split.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"

/* u in [0, bound): the high word of a 64-bit random number times the bound; the bias, below
 * bound / 2^64, is of no account. */
static int64_t draw(struct rng_key key, int64_t i, int64_t bound)
{
    uint32_t counter[4] = {(uint32_t)i, (uint32_t)((uint64_t)i >> 32), 0, 0}, out[4];
    rng_words(key, counter, out);
    uint64_t b = (uint64_t)bound; /* below 2^32: a document is counted by an int32_t */
    return (int64_t)((out[1] * b + ((out[0] * b) >> 32)) >> 32);
}

enum status loader_split(struct loader_split *out, int64_t n, double val_size, uint64_t seed,
                         struct err *e)
{
    *out = (struct loader_split){0};
    if (n < 0 || n > INT32_MAX)
        return err_set(e, ERR_CONFIG, "%lld documents cannot be split", (long long)n);
    if (!(val_size >= 0) || (val_size >= 1 && val_size != floor(val_size)))
        return err_set(e, ERR_CONFIG, "val_size %g: a share below 1 or a whole number", val_size);
    double want = val_size < 1 ? ceil(val_size * (double)n) : val_size;
    if (want > 0 && want >= (double)n) {
        err_set(e, ERR_CONFIG, "%g held out of %lld documents leaves none to train on", val_size,
                (long long)n);
        return err_hint(e, "lower val_size");
    }
    out->documents = mem_calloc((size_t)n + 1, sizeof *out->documents);
    if (!out->documents) return err_set(e, ERR_MEMORY, "splitting %lld documents", (long long)n);
    struct rng_key key = rng_key(seed, RNG_SPLIT, 0);
    int64_t left = (int64_t)want, num_train = n - left;
    int64_t *train = out->documents, *eval = out->documents + num_train;
    for (int64_t i = 0; i < n; i++) {
        int chosen = draw(key, i, n - i) < left;
        if (chosen) left--;
        *(chosen ? eval++ : train++) = i;
    }
    out->train = (struct loader_subset){.documents = out->documents, .num_documents = num_train};
    out->eval = (struct loader_subset){.documents = out->documents + num_train,
                                       .num_documents = n - num_train};
    return OK;
}

void loader_split_free(struct loader_split *s)
{
    mem_free(s->documents);
    *s = (struct loader_split){0};
}
