#include "data/loader/mix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/store/store.h"

/* Where a document is. */
enum { LEFT_OUT, TRAIN, EVAL };

struct mixing {
    struct mix *m;
    struct store *store;
    const struct mix_options *o;
    int64_t n;
    int32_t *source;     /* [n] */
    unsigned char *side; /* [n] */
    uint64_t *prompts;   /* [n]; NULL: nothing is held out */
    int64_t *list;       /* [n] to work with */
};

static const struct mix_source nothing_asked = {0, 1, 0, 1};

static const struct mix_source *source_of(const struct mixing *x, size_t s)
{
    return x->o->sources ? &x->o->sources[s] : &nothing_asked;
}

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory to mix the datasets");
}

/* ---- prompts ---- */

/* Ids up to the first trained one; all where that is the first that can be. */
static int64_t prompt_length(const float *weights, int64_t n)
{
    int64_t i = 1;
    while (i < n && weights[i] == 0) i++;
    return i > 1 && i < n ? i : n;
}

enum status mix_prompts(struct store *store, uint64_t *out, struct err *e)
{
    const struct store_info *info = store_info(store);
    int64_t longest = 1;
    for (int64_t d = 0; d < info->num_documents; d++)
        if (info->offsets[d + 1] - info->offsets[d] > longest)
            longest = info->offsets[d + 1] - info->offsets[d];
    int32_t *ids = mem_calloc((size_t)longest, sizeof *ids);
    float *weights = mem_calloc((size_t)longest, sizeof *weights);
    enum status s = ids && weights ? OK : no_memory(e);
    for (int64_t d = 0; !s && d < info->num_documents; d++) {
        int64_t n = info->offsets[d + 1] - info->offsets[d];
        int pairs = info->settings.kind != KIND_SFT;
        char hex[HASH_HEX_SIZE];
        s = store_read(store, d, n, ids, pairs ? NULL : weights, e);
        if (s) break;
        hash_hex(ids, (size_t)(pairs ? info->chosen[d] : prompt_length(weights, n)) * sizeof *ids,
                 hex);
        hex[16] = 0;
        out[d] = strtoull(hex, NULL, 16);
    }
    mem_free(ids);
    mem_free(weights);
    return s;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int64_t mix_overlap(const uint64_t *prompts, int64_t n, uint64_t *among, int64_t m)
{
    int64_t found = 0;
    qsort(among, (size_t)m, sizeof *among, compare);
    for (int64_t i = 0; i < n; i++)
        found += bsearch(&prompts[i], among, (size_t)m, sizeof *among, compare) != NULL;
    return found;
}

/* ---- choosing ---- */

/* Keeps `want` of list[0..n) in their order, every such set equally likely (split.h). */
static void choose(int64_t *list, int64_t n, int64_t want, struct rng_key key)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n && kept < want; i++) {
        uint32_t counter[4] = {(uint32_t)i, (uint32_t)((uint64_t)i >> 32), 0, 0}, out[4];
        rng_words(key, counter, out);
        uint64_t left = (uint64_t)(n - i); /* below 2^32 */
        uint64_t drawn = (out[1] * left + ((out[0] * left) >> 32)) >> 32;
        if ((int64_t)drawn < want - kept) list[kept++] = list[i];
    }
}

/* The documents of a source on a side, into the list. */
static int64_t list_source(const struct mixing *x, size_t s, int side)
{
    int64_t n = 0;
    for (int64_t d = 0; d < x->n; d++)
        if (x->source[d] == (int32_t)s && x->side[d] == side) x->list[n++] = d;
    return n;
}

enum { CUT_DOWN, PARTIAL_PASS }; /* what is drawn, of a source */

static struct rng_key key_of(const struct mixing *x, size_t s, int what)
{
    return rng_key(x->o->seed, RNG_MIX, 2 * (uint64_t)s + (uint64_t)what);
}

static void cut_down(struct mixing *x)
{
    for (size_t s = 0; s < x->m->num_sources; s++) {
        const struct mix_source *ask = source_of(x, s);
        int64_t n = list_source(x, s, TRAIN), want = (int64_t)ceil(ask->fraction * (double)n);
        if (ask->max_samples && want > ask->max_samples) want = ask->max_samples;
        x->m->accounts[s].documents = n;
        x->m->accounts[s].left_out = n - want;
        if (want >= n) continue;
        for (int64_t i = 0; i < n; i++) x->side[x->list[i]] = LEFT_OUT;
        choose(x->list, n, want, key_of(x, s, CUT_DOWN));
        for (int64_t i = 0; i < want; i++) x->side[x->list[i]] = TRAIN;
    }
}

/* ---- holding out ---- */

static int64_t list_side(const struct mixing *x, int side)
{
    int64_t n = 0;
    for (int64_t d = 0; d < x->n; d++)
        if (x->side[d] == side) x->list[n++] = d;
    return n;
}

static enum status hold_out_by_hash(struct mixing *x, struct err *e)
{
    struct rng_key key = rng_key(x->o->seed, RNG_SPLIT, 1);
    if (x->o->val_size >= 1) {
        err_set(e, ERR_CONFIG, "val_size %g: by hash a share is held out, not a count",
                x->o->val_size);
        return err_hint(e, "write a number below 1, or val_split: document");
    }
    for (int64_t d = 0; d < x->n; d++) {
        uint64_t p = x->prompts[d];
        uint32_t counter[4] = {(uint32_t)p, (uint32_t)(p >> 32), 0, 0}, out[4];
        if (x->side[d] != TRAIN) continue;
        rng_words(key, counter, out);
        if ((double)out[0] / 4294967296.0 < x->o->val_size) x->side[d] = EVAL;
    }
    return OK;
}

static enum status hold_out_by_document(struct mixing *x, struct err *e)
{
    struct loader_split split;
    int64_t n = list_side(x, TRAIN), held = 0;
    TRY(loader_split(&split, n, x->o->val_size, x->o->seed, e));
    uint64_t *prompts = mem_calloc((size_t)split.eval.num_documents + 1, sizeof *prompts);
    if (!prompts) {
        loader_split_free(&split);
        return no_memory(e);
    }
    for (int64_t i = 0; i < split.eval.num_documents; i++) {
        int64_t d = x->list[split.eval.documents[i]];
        x->side[d] = EVAL;
        prompts[held++] = x->prompts[d];
    }
    qsort(prompts, (size_t)split.eval.num_documents, sizeof *prompts, compare);
    for (int64_t i = 0; i < n; i++) {
        int64_t d = x->list[i];
        if (x->side[d] != TRAIN ||
            !bsearch(&x->prompts[d], prompts, (size_t)split.eval.num_documents, sizeof *prompts,
                     compare))
            continue;
        x->side[d] = EVAL;
        x->m->moved++;
    }
    mem_free(prompts);
    loader_split_free(&split);
    return OK;
}

static enum status hold_out(struct mixing *x, struct err *e)
{
    struct loader_split checked;
    if (x->o->val_size == 0) return OK;
    if (!x->o->by_hash) { /* refuses what is no size before anything is read */
        TRY(loader_split(&checked, list_side(x, TRAIN), x->o->val_size, x->o->seed, e));
        loader_split_free(&checked);
    }
    x->prompts = mem_calloc((size_t)x->n + 1, sizeof *x->prompts);
    if (!x->prompts) return no_memory(e);
    TRY(mix_prompts(x->store, x->prompts, e));
    TRY(x->o->by_hash ? hold_out_by_hash(x, e) : hold_out_by_document(x, e));
    for (int64_t d = 0; d < x->n; d++) x->m->accounts[x->source[d]].held_out += x->side[d] == EVAL;
    if (list_side(x, TRAIN)) return OK;
    err_set(e, ERR_CONFIG, "%g held out leaves none to train on%s", x->o->val_size,
            x->m->moved ? ", since the documents share their prompts" : "");
    return err_hint(e, "lower val_size, or name an eval_dataset");
}

/* ---- weighing ---- */

/* How many documents an epoch takes of each source, into the accounts. */
static enum status weigh(struct mixing *x, struct err *e)
{
    double length = x->o->strategy == MIX_UNDER ? INFINITY : 0, all = 0;
    for (size_t s = 0; s < x->m->num_sources; s++) {
        struct mix_account *a = &x->m->accounts[s];
        a->taken = (a->documents - a->left_out - a->held_out) * source_of(x, s)->repeat;
        double alone = (double)a->taken / source_of(x, s)->weight;
        if (x->o->strategy == MIX_CONCAT || !a->taken) continue;
        if ((alone < length) == (x->o->strategy == MIX_UNDER)) length = alone;
    }
    for (size_t s = 0; s < x->m->num_sources; s++) {
        struct mix_account *a = &x->m->accounts[s];
        double taken = source_of(x, s)->weight * length;
        if (x->o->strategy != MIX_CONCAT && a->taken)
            a->taken = taken < 1 ? 1 : (int64_t)llround(fmin(taken, 1e15));
        all += (double)a->taken;
    }
    if (all <= INT32_MAX) return OK;
    err_set(e, ERR_CONFIG, "an epoch of %.0f documents is too long", all);
    return err_hint(e, "bring the weights nearer to the sources' sizes, lower repeat, or set "
                       "mix_strategy: interleave_under");
}

/* ---- ordering ---- */

/* The documents of a source's pass, behind those already there; 0: it has no such pass. */
static int64_t append_pass(struct mixing *x, size_t s, int64_t pass)
{
    struct loader_subset *train = &x->m->train;
    int64_t n = list_source(x, s, TRAIN), taken = x->m->accounts[s].taken;
    if (!n || pass * n >= taken) return 0;
    int64_t want = taken - pass * n < n ? taken - pass * n : n;
    if (want < n) choose(x->list, n, want, key_of(x, s, PARTIAL_PASS));
    memcpy(x->m->own + train->num_documents, x->list, (size_t)want * sizeof *x->list);
    train->num_documents += want;
    return want;
}

/* First passes first, so that a document is far from itself; or source by source, each pass a
 * stage. */
static enum status arrange(struct mixing *x, struct err *e)
{
    struct mix *m = x->m;
    int64_t all = 0, passes = 0, stages = 0, more = 1;
    for (size_t s = 0; s < m->num_sources; s++) {
        int64_t n = list_source(x, s, TRAIN);
        all += m->accounts[s].taken;
        passes += n ? (m->accounts[s].taken + n - 1) / n : 0;
    }
    int64_t held = list_side(x, EVAL);
    m->own = mem_calloc((size_t)(all + held) + 1, sizeof *m->own);
    m->ends = mem_calloc((size_t)passes + 1, sizeof *m->ends);
    if (!m->own || !m->ends) return no_memory(e);
    memcpy(m->own + all, x->list, (size_t)held * sizeof *m->own);
    m->eval = (struct loader_subset){.documents = m->own + all, .num_documents = held};
    m->train.documents = m->own;
    if (x->o->order == MIX_PROGRESSIVE) {
        for (size_t s = 0; s < m->num_sources; s++)
            for (int64_t pass = 0; append_pass(x, s, pass); pass++)
                m->ends[stages++] = m->train.num_documents;
        m->train.stage_ends = m->ends;
        m->train.num_stages = stages;
        return OK;
    }
    for (int64_t pass = 0; more; pass++) {
        more = 0;
        for (size_t s = 0; s < m->num_sources; s++) more += append_pass(x, s, pass);
    }
    return OK;
}

/* ---- all ---- */

static enum status begin(struct mixing *x, struct err *e)
{
    size_t n = (size_t)x->n + 1;
    x->source = mem_calloc(n, sizeof *x->source);
    x->side = mem_calloc(n, 1);
    x->list = mem_calloc(n, sizeof *x->list);
    x->m->accounts = mem_calloc(x->m->num_sources + 1, sizeof *x->m->accounts);
    if (!x->source || !x->side || !x->list || !x->m->accounts) return no_memory(e);
    memset(x->side, TRAIN, n);
    return store_sources(x->store, x->source, e);
}

enum status mix_make(struct mix *out, struct store *store, const struct mix_options *o,
                     struct err *e)
{
    const struct store_info *info = store_info(store);
    *out = (struct mix){.num_sources = info->num_sources};
    struct mixing x = {.m = out, .store = store, .o = o, .n = info->num_documents};
    enum status s = begin(&x, e);
    if (!s) cut_down(&x);
    if (!s) s = hold_out(&x, e);
    if (!s) s = weigh(&x, e);
    if (!s) s = arrange(&x, e);
    mem_free(x.source);
    mem_free(x.side);
    mem_free(x.prompts);
    mem_free(x.list);
    if (s) mix_free(out);
    return s;
}

void mix_free(struct mix *m)
{
    mem_free(m->accounts);
    mem_free(m->own);
    mem_free(m->ends);
    *m = (struct mix){0};
}
