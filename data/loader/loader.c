#include "data/loader/loader.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "data/loader/parts.h"

/* What some documents come to together. */
struct extent {
    int64_t rows, targets, segments, tokens;
    int64_t pairs, chosen, rejected, chosen_tokens, prompt_tokens;
    double weight;
};

/* ---- options ---- */

static enum status check_options(const struct loader_options *o, struct err *e)
{
    if (o->max_length < 2)
        return err_set(e, ERR_CONFIG, "max_length %d: a document needs two tokens to learn one",
                       (int)o->max_length);
    if (o->batch_size < 1)
        return err_set(e, ERR_CONFIG, "batch size %d: at least 1", (int)o->batch_size);
    if (o->accumulation < 1)
        return err_set(e, ERR_CONFIG, "gradient accumulation %d: at least 1", (int)o->accumulation);
    return OK;
}

static enum status check_subset(const struct store_info *info, struct loader_subset s,
                                struct err *e)
{
    if (info->num_documents > INT32_MAX)
        return err_set(e, ERR_CONFIG, "%lld documents are more than a run can number",
                       (long long)info->num_documents);
    for (int64_t i = 0; s.documents && i < s.num_documents; i++)
        if (s.documents[i] < 0 || s.documents[i] >= info->num_documents)
            return err_set(e, ERR_CONFIG, "a subset's document is not in the dataset");
    int64_t before = 0, n = s.documents ? s.num_documents : info->num_documents;
    for (int64_t i = 0; i < s.num_stages; before = s.stage_ends[i++])
        if (s.stage_ends[i] < before || (i + 1 == s.num_stages && s.stage_ends[i] != n))
            return err_set(e, ERR_CONFIG, "a subset's stages do not cover it");
    if (s.num_stages > INT32_MAX || n > INT32_MAX)
        return err_set(e, ERR_CONFIG, "an epoch of %lld documents is too long", (long long)n);
    return OK;
}

static enum status check_preferences(const struct loader *l, struct err *e)
{
    const struct loader_options *o = &l->options;
    enum record_kind kind = (enum record_kind)store_info(l->store)->settings.kind;
    if (o->mismatch_chunk < 0 || (o->mismatch_chunk && kind != KIND_UNPAIRED))
        return err_set(e, ERR_CONFIG, "mismatched replies over runs of %d, with %s",
                       (int)o->mismatch_chunk, kind_about(kind));
    if (o->with_prompt && kind != KIND_PAIR)
        return err_set(e, ERR_CONFIG, "prompts as targets, with %s", kind_about(kind));
    return OK;
}

/* ---- units ---- */

/* Appends the bins of planned first ... end-1 to the loader's. */
static enum status pack_stage(struct loader *l, int64_t first, int64_t end, struct err *e)
{
    int64_t n = end - first, bins = l->pack.num_bins;
    struct pack p = {0};
    int32_t *lengths = mem_calloc((size_t)n + 1, sizeof *lengths);
    if (!lengths) return err_set(e, ERR_MEMORY, "packing %lld documents", (long long)n);
    for (int64_t i = 0; i < n; i++) lengths[i] = loader_room(l, first + i);
    enum status s = pack_best_fit(&p, lengths, n, loader_capacity(l), e);
    mem_free(lengths);
    if (s) return s;
    for (int64_t i = 0; i < n; i++) l->pack.items[first + i] = (int32_t)first + p.items[i];
    for (int64_t i = 0; i <= p.num_bins; i++) l->pack.starts[bins + i] = first + p.starts[i];
    l->pack.num_bins += p.num_bins;
    pack_free(&p);
    return OK;
}

/* The planned documents of stage `stage` end here, those of the ones before it being behind
 * `first`. */
static int64_t stage_end(const struct loader *l, int64_t first, int64_t stage)
{
    while (first < l->report.documents && l->planned[first].stage <= stage) first++;
    return first;
}

static enum status make_units(struct loader *l, struct err *e)
{
    int64_t n = l->report.documents, first = 0;
    l->report.units = n;
    l->stage_units = mem_calloc((size_t)l->num_stages, sizeof *l->stage_units);
    if (!l->stage_units) return err_set(e, ERR_MEMORY, "the stages of an epoch");
    if (l->options.packing) {
        l->pack.starts = mem_calloc((size_t)n + 1, sizeof *l->pack.starts);
        l->pack.items = mem_calloc((size_t)n + 1, sizeof *l->pack.items);
        if (!l->pack.starts || !l->pack.items)
            return err_set(e, ERR_MEMORY, "packing %lld documents", (long long)n);
    }
    for (int64_t stage = 0; stage < l->num_stages; stage++) {
        int64_t end = stage_end(l, first, stage);
        if (l->options.packing && end > first) TRY(pack_stage(l, first, end, e));
        l->stage_units[stage] = l->options.packing ? l->pack.num_bins : end;
        first = end;
    }
    if (l->options.packing) l->report.units = l->pack.num_bins;
    return OK;
}

static int64_t unit_size(const struct loader *l, int64_t unit)
{
    return l->options.packing ? l->pack.starts[unit + 1] - l->pack.starts[unit] : 1;
}

/* Index in planned of the unit's i-th document. */
static int64_t unit_document(const struct loader *l, int64_t unit, int64_t i)
{
    return l->options.packing ? l->pack.items[l->pack.starts[unit] + i] : unit;
}

static void extent_add_record(struct extent *x, const struct parts *p)
{
    x->pairs++;
    x->chosen += p->chosen > 0;
    x->rejected += p->rejected > 0;
    x->chosen_tokens += p->chosen;
    x->prompt_tokens += p->chosen ? p->prompt - 1 : 0;
}

static void extent_add_unit(struct extent *x, const struct loader *l, int64_t unit)
{
    int64_t n = unit_size(l, unit);
    for (int64_t i = 0; i < n; i++) {
        int64_t k = unit_document(l, unit, i);
        const struct planned *p = &l->planned[k];
        x->rows += p->rows;
        x->targets += p->targets;
        x->segments += p->segments;
        x->tokens += p->tokens;
        x->weight += p->weight;
        if (l->parts) extent_add_record(x, &l->parts[k]);
    }
}

static void extent_max(struct extent *x, const struct extent *y)
{
    if (y->rows > x->rows) x->rows = y->rows;
    if (y->targets > x->targets) x->targets = y->targets;
    if (y->segments > x->segments) x->segments = y->segments;
    if (y->pairs > x->pairs) x->pairs = y->pairs;
}

static void extent_add_tail(struct extent *x, int32_t multiple)
{
    struct batch_tail t = loader_tail(multiple, x->rows, x->targets, x->segments);
    x->rows += t.rows;
    x->targets += t.supervised;
    x->segments += t.segments;
}

/* Units first ... end-1 of the epoch's order are micro-batch `micro` of the epoch. */
static void micro_units(const struct loader *l, int64_t micro, int64_t *first, int64_t *end)
{
    *first = micro * l->options.batch_size;
    *end = *first + l->options.batch_size;
    if (*end > l->report.units) *end = l->report.units;
}

static struct extent micro_extent(const struct loader *l, int64_t micro)
{
    struct extent x = {0};
    int64_t first, end;
    micro_units(l, micro, &first, &end);
    for (int64_t u = first; u < end; u++) extent_add_unit(&x, l, l->order[u]);
    return x;
}

#define STAGE_SEED 1000003 /* between two stages */

static void draw_order(struct loader *l, int64_t epoch)
{
    int64_t first = 0;
    if (l->order_epoch == epoch) return;
    for (int64_t stage = 0; stage < l->num_stages; first = l->stage_units[stage++]) {
        int64_t n = l->stage_units[stage] - first, *order = l->order + first;
        uint64_t seed = l->options.seed + (uint64_t)epoch + STAGE_SEED * (uint64_t)stage;
        if (l->options.shuffle)
            rng_torch_permutation(seed, n, order);
        else
            for (int64_t u = 0; u < n; u++) order[u] = u;
        for (int64_t u = 0; u < n; u++) order[u] += first;
    }
    l->order_epoch = epoch;
}

/* ---- opening ---- */

/* Room for batch_size copies of the largest unit: enough for every order. */
static enum status make_batch(struct loader *l, struct err *e)
{
    struct extent most = {0};
    int64_t units = l->options.batch_size;
    for (int64_t u = 0; u < l->report.units; u++) {
        struct extent x = {0};
        extent_add_unit(&x, l, u);
        extent_max(&most, &x);
    }
    if (units > l->report.units) units = l->report.units;
    if (most.rows > (INT32_MAX - l->multiple) / units) {
        err_set(e, ERR_CONFIG, "a batch of %lld times %lld tokens is too large", (long long)units,
                (long long)most.rows);
        return err_hint(e, "lower the batch size or max_length");
    }
    size_t rows = (size_t)(most.rows * units), targets = (size_t)(most.targets * units);
    size_t segments = (size_t)(most.segments * units);
    if (l->multiple) { /* more than any tail */
        rows += (size_t)l->multiple;
        targets += targets / 16 + 16;
        segments += segments / 4 + 2;
    }
    l->ids = mem_calloc(rows, sizeof *l->ids);
    l->positions = mem_calloc(rows, sizeof *l->positions);
    l->documents = mem_calloc(rows, sizeof *l->documents);
    l->keys = mem_calloc(rows, sizeof *l->keys);
    l->rows = mem_calloc(targets, sizeof *l->rows);
    l->targets = mem_calloc(targets, sizeof *l->targets);
    l->weights = mem_calloc(targets, sizeof *l->weights);
    l->segments = mem_calloc(segments, sizeof *l->segments);
    l->pairs = mem_calloc((size_t)(most.pairs * units) + 1, sizeof *l->pairs);
    if (!l->ids || !l->positions || !l->documents || !l->keys || !l->rows || !l->targets ||
        !l->weights || !l->segments || !l->pairs)
        return err_set(e, ERR_MEMORY, "a micro-batch of %zu tokens", rows);
    return OK;
}

static void free_batch(struct loader *l)
{
    mem_free(l->ids);
    mem_free(l->positions);
    mem_free(l->documents);
    mem_free(l->keys);
    mem_free(l->rows);
    mem_free(l->targets);
    mem_free(l->weights);
    mem_free(l->segments);
    mem_free(l->pairs);
    l->ids = l->positions = l->documents = l->keys = l->rows = l->targets = NULL;
    l->weights = NULL;
    l->segments = NULL;
    l->pairs = NULL;
}

enum status loader_round(struct loader *l, int32_t rows, struct err *e)
{
    assert(rows >= 0);
    if (rows == l->multiple) return OK;
    free_batch(l);
    l->multiple = rows;
    return make_batch(l, e);
}

static enum status open_parts(struct loader *l, struct loader_subset subset, struct err *e)
{
    TRY(check_options(&l->options, e));
    TRY(check_subset(store_info(l->store), subset, e));
    TRY(check_preferences(l, e));
    TRY(loader_plan(l, subset, e));
    TRY(make_units(l, e));
    int64_t batch = l->options.batch_size, micros = (l->report.units + batch - 1) / batch;
    l->micros_per_epoch = micros;
    l->report.steps_per_epoch =
        (micros + l->options.accumulation - 1) / (int64_t)l->options.accumulation;
    l->order = mem_calloc((size_t)l->report.units, sizeof *l->order);
    if (!l->order) return err_set(e, ERR_MEMORY, "the order of an epoch");
    return make_batch(l, e);
}

enum status loader_open(struct loader **out, struct store *store, struct loader_subset subset,
                        const struct loader_options *options, struct err *e)
{
    *out = NULL;
    struct loader *l = mem_calloc(1, sizeof *l);
    if (!l) return err_set(e, ERR_MEMORY, "loader");
    l->store = store;
    l->options = *options;
    l->order_epoch = -1;
    enum status s = open_parts(l, subset, e);
    if (s)
        loader_close(l);
    else
        *out = l;
    return s;
}

void loader_close(struct loader *l)
{
    if (!l) return;
    void *owned[] = {l->planned,      l->parts,       l->order,
                     l->cut,          l->dropped,     l->stage_units,
                     l->document_ids, l->partner_ids, l->document_weights};
    free_batch(l);
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) mem_free(owned[i]);
    pack_free(&l->pack);
    mem_free(l);
}

const struct loader_report *loader_report(const struct loader *l) { return &l->report; }

enum status loader_limits(struct loader *l, int32_t epochs, struct loader_limits *out,
                          struct err *e)
{
    if (epochs < 1) return err_set(e, ERR_CONFIG, "%d epochs: at least 1", (int)epochs);
    struct extent most = {0};
    for (int32_t epoch = 0; epoch < epochs; epoch++) {
        draw_order(l, epoch);
        for (int64_t m = 0; m < l->micros_per_epoch; m++) {
            struct extent x = micro_extent(l, m);
            extent_add_tail(&x, l->multiple);
            extent_max(&most, &x);
        }
        if (!l->options.shuffle) break;
    }
    *out = (struct loader_limits){(int32_t)most.rows, (int32_t)most.targets, (int32_t)most.segments,
                                  (int32_t)most.pairs};
    return OK;
}

/* ---- steps ---- */

/* The epoch's micro-batches first ... first+count-1 are this step's. */
static void step_micros(const struct loader *l, int64_t step, int64_t *epoch, int64_t *first,
                        int32_t *count)
{
    assert(step >= 0);
    *epoch = step / l->report.steps_per_epoch;
    *first = step % l->report.steps_per_epoch * l->options.accumulation;
    int64_t left = l->micros_per_epoch - *first;
    *count = left < l->options.accumulation ? (int32_t)left : l->options.accumulation;
}

enum status loader_step(struct loader *l, int64_t step, struct loader_step *out, struct err *e)
{
    int64_t first;
    (void)e;
    *out = (struct loader_step){0};
    step_micros(l, step, &out->epoch, &first, &out->micro_batches);
    draw_order(l, out->epoch);
    for (int32_t m = 0; m < out->micro_batches; m++) {
        struct extent x = micro_extent(l, first + m);
        out->weight += x.weight;
        out->num_tokens += x.tokens;
        out->pairs += x.pairs;
        out->chosen += x.chosen;
        out->rejected += x.rejected;
        out->chosen_tokens += x.chosen_tokens;
        out->prompt_tokens += x.prompt_tokens;
    }
    return OK;
}

enum status loader_batch(struct loader *l, int64_t step, int32_t micro, struct batch *out,
                         struct err *e)
{
    int64_t epoch, micros, first, end;
    int32_t count;
    step_micros(l, step, &epoch, &micros, &count);
    assert(micro >= 0 && micro < count);
    draw_order(l, epoch);
    micro_units(l, micros + micro, &first, &end);
    *out = (struct batch){.ids = l->ids,
                          .positions = l->positions,
                          .documents = l->documents,
                          .keys = l->keys,
                          .segments = l->segments,
                          .rows = l->rows,
                          .targets = l->targets,
                          .weights = l->weights,
                          .pairs = l->pairs};
    for (int64_t u = first; u < end; u++)
        for (int64_t i = 0; i < unit_size(l, l->order[u]); i++)
            TRY(loader_lay(l, unit_document(l, l->order[u], i), out, e));
    if (l->multiple) loader_lay_tail(l, out);
    return OK;
}

void loader_describe(const struct loader *l, int64_t document, char *out, size_t size)
{
    struct err ignored = {0};
    int32_t source;
    int64_t line;
    if (store_origin(l->store, document, &source, &line, &ignored)) {
        snprintf(out, size, "document %lld", (long long)document);
        return;
    }
    const char *name = store_info(l->store)->sources[source].name;
    const char *dot = strrchr(name, '.');
    snprintf(out, size, "%s, %s %lld", name, dot && !strcmp(dot, ".json") ? "record" : "line",
             (long long)line);
}
