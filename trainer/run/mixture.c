#include "run/mixture.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- from the config ---- */

static int asks(const struct config_dataset *d)
{
    return d->weight > 0 || d->fraction < 1 || d->max_samples || d->repeat > 1;
}

/* The weight of the i-th dataset; 0: none is given. */
static enum status weight_of(const struct config *c, size_t i, double *out, struct err *e)
{
    const struct config_list *probs = &c->interleave_probs;
    char *end;
    *out = c->datasets.items[i].weight;
    if (!probs->n) return OK;
    if (*out > 0)
        return config_fail(c, KEY_interleave_probs, e, "says what weight says in the datasets");
    if (probs->n != c->datasets.n)
        return config_fail(c, KEY_interleave_probs, e, "%zu weights for %zu datasets", probs->n,
                           c->datasets.n);
    *out = strtod(probs->items[i], &end);
    if (!(*out > 0) || *out > 1e6 || *end)
        return config_fail(c, KEY_interleave_probs, e, "'%.40s' is no number above 0",
                           probs->items[i]);
    return OK;
}

static enum status uneven(const struct config *c, struct err *e)
{
    config_fail(c, KEY_datasets, e, "some datasets have a weight, others none");
    return err_hint(e, "give a weight to each, or to none");
}

/* Which strategy the weights come to. */
static enum status strategy_of(const struct config *c, size_t weighed, enum mix_strategy *out,
                               struct err *e)
{
    *out = (enum mix_strategy)c->mix_strategy;
    if (weighed && weighed < c->datasets.n) return uneven(c, e);
    if (!weighed || *out != MIX_CONCAT) return OK;
    if (!config_is_set(c, KEY_mix_strategy)) {
        *out = MIX_UNDER;
        return OK;
    }
    config_fail(c, KEY_mix_strategy, e, "concat takes every document, so weights have no effect");
    return err_hint(e, "set interleave_under or interleave_over, or leave the weights out");
}

static enum status fill(struct mix_source *sources, size_t n, const struct config *c,
                        enum mix_strategy *strategy, struct err *e)
{
    size_t weighed = 0;
    for (size_t i = 0; i < c->datasets.n; i++) {
        const struct config_dataset *d = &c->datasets.items[i];
        struct mix_source *s = &sources[i < n ? i : 0];
        if (c->datasets.n != n && asks(d)) {
            config_fail(c, KEY_datasets, e, "%s holds %zu sources, which cannot be mixed anew",
                        d->path, n);
            return err_hint(e, "list the raw files to weigh them");
        }
        TRY(weight_of(c, i, &s->weight, e));
        weighed += s->weight > 0;
        s->fraction = d->fraction;
        s->max_samples = d->max_samples;
        s->repeat = d->repeat;
    }
    TRY(strategy_of(c, weighed, strategy, e));
    for (size_t i = 0; i < n; i++) {
        if (c->datasets.n != n) sources[i] = (struct mix_source){0, 1, 0, 1};
        if (!weighed) sources[i].weight = 1;
        if (!sources[i].max_samples) sources[i].max_samples = c->max_samples;
    }
    return OK;
}

enum status mixture_make(struct mix *out, const struct config *c, struct store *store,
                         struct err *e)
{
    size_t n = store_info(store)->num_sources;
    struct mix_options o = {.order = (enum mix_order)c->order,
                            .by_hash = c->val_split == CONFIG_VAL_HASH,
                            .val_size = c->val_size,
                            .seed = (uint64_t)c->seed};
    *out = (struct mix){0};
    struct mix_source *sources = mem_calloc(n, sizeof *sources);
    if (!sources) return err_set(e, ERR_MEMORY, "no memory to mix %zu datasets", n);
    enum status s = fill(sources, n, c, &o.strategy, e);
    o.sources = sources;
    if (!s) {
        s = mix_make(out, store, &o, e);
        if (s == ERR_CONFIG) config_blame(c, c->val_size > 0 ? KEY_val_size : KEY_datasets, e);
    }
    mem_free(sources);
    if (!s && out->moved)
        log_notice("val_size: %lld more documents are held out, whose prompts are",
                   (long long)out->moved);
    return s;
}

/* ---- what came of it ---- */

enum status mixture_check_overlap(const struct mix *m, struct store *store,
                                  struct store *eval_store, struct err *e)
{
    int64_t n = store_info(eval_store)->num_documents, all = store_info(store)->num_documents;
    uint64_t *theirs = mem_calloc((size_t)n + 1, sizeof *theirs);
    uint64_t *ours = mem_calloc((size_t)all + 1, sizeof *ours), *trained = NULL;
    trained = mem_calloc((size_t)m->train.num_documents + 1, sizeof *trained);
    enum status s =
        theirs && ours && trained ? OK : err_set(e, ERR_MEMORY, "no memory for prompts");
    if (!s) s = mix_prompts(eval_store, theirs, e);
    if (!s) s = mix_prompts(store, ours, e);
    for (int64_t i = 0; !s && i < m->train.num_documents; i++)
        trained[i] = ours[m->train.documents[i]];
    int64_t both = s ? 0 : mix_overlap(theirs, n, trained, m->train.num_documents);
    if (both)
        log_warning("eval_dataset: %lld of its %lld documents have a prompt that is trained on",
                    (long long)both, (long long)n);
    mem_free(theirs);
    mem_free(ours);
    mem_free(trained);
    return s;
}

enum status mixture_hash(const struct mix *m, char out[HASH_HEX_SIZE], struct err *e)
{
    struct hasher *h = hasher_create();
    if (!h) return err_set(e, ERR_MEMORY, "no memory for the mixture's hash");
    const struct loader_subset *parts[] = {&m->train, &m->eval};
    for (int k = 0; k < 2; k++) {
        hasher_u64(h, (uint64_t)parts[k]->num_documents);
        hasher_bytes(h, parts[k]->documents, (size_t)parts[k]->num_documents * sizeof(int64_t));
    }
    for (int64_t i = 0; i < m->train.num_stages; i++)
        hasher_u64(h, (uint64_t)m->train.stage_ends[i]);
    hasher_hex(h, out);
    hasher_destroy(h);
    return OK;
}

static double share_of(const struct mix *m, size_t s)
{
    int64_t all = m->train.num_documents;
    return all ? (double)m->accounts[s].taken / (double)all : 0;
}

/* How often an epoch passes over what a source has to train. */
static double passes_of(const struct mix_account *a)
{
    int64_t n = a->documents - a->left_out - a->held_out;
    return n ? (double)a->taken / (double)n : 0;
}

json_t *mixture_json(const struct mix *m, const struct store *store)
{
    json_t *list = json_array();
    for (size_t s = 0; s < m->num_sources; s++) {
        const struct mix_account *a = &m->accounts[s];
        const char *name = store_info(store)->sources[s].name;
        json_array_append_new(list,
                              json_pack("{s:s%, s:I, s:I, s:I, s:I, s:f, s:f}", "source", name,
                                        strlen(name), "documents", (json_int_t)a->documents,
                                        "left_out", (json_int_t)a->left_out, "held_out",
                                        (json_int_t)a->held_out, "an_epoch", (json_int_t)a->taken,
                                        "share", share_of(m, s), "passes", passes_of(a)));
    }
    return list;
}

enum status mixture_print(const struct mix *m, const struct store *store, struct buf *out)
{
    if (m->num_sources == 1 && m->accounts[0].taken == m->accounts[0].documents) return OK;
    TRY(buf_puts(out, "mixture, documents of\n"));
    for (size_t s = 0; s < m->num_sources; s++) {
        const struct mix_account *a = &m->accounts[s];
        TRY(buf_printf(out,
                       "  %-28.60s %8" PRId64 ", held out %" PRId64 ", an epoch takes %" PRId64
                       " (%.1f %%, %.2f passes)\n",
                       store_info(store)->sources[s].name, a->documents, a->held_out, a->taken,
                       100 * share_of(m, s), passes_of(a)));
    }
    return OK;
}
