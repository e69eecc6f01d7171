/* What is kept of each document, and what it comes to. */
#include <string.h>

#include "base/mem.h"
#include "data/loader/parts.h"

static int64_t length_of(const struct loader *l, int64_t d)
{
    const struct store_info *info = store_info(l->store);
    return info->offsets[d + 1] - info->offsets[d];
}

static void note_cut(struct loader *l, int64_t d, int64_t tokens)
{
    l->cut[l->report.cut_documents++] = (int32_t)d;
    l->report.cut_tokens += tokens;
}

static void note_dropped(struct loader *l, int64_t d)
{
    l->dropped[l->report.dropped_documents++] = (int32_t)d;
}

/* ---- texts ---- */

enum status loader_read(struct loader *l, int64_t document, int64_t first, int32_t n, int32_t *ids,
                        struct err *e)
{
    if (!first) return store_read(l->store, document, n, ids, l->document_weights, e);
    TRY(store_read_part(l->store, document, first, n, ids, l->document_weights, e));
    l->document_weights[0] = 0;
    return OK;
}

/* What of document d is trained within its first `tokens` ids. Its weights are read only if the
 * cut goes through them. */
static enum status targets_of(struct loader *l, int64_t d, int32_t tokens,
                              struct store_targets *out, struct err *e)
{
    const struct store_info *info = store_info(l->store);
    if (info->last_targets[d] < tokens) {
        *out = (struct store_targets){info->last_targets[d], info->targets[d], info->weights[d]};
        return OK;
    }
    TRY(store_read(l->store, d, tokens, NULL, l->document_weights, e));
    *out = store_count_targets(l->document_weights, tokens);
    return OK;
}

/* Pieces that share their bounds. Each but the first has a key of its own, above the documents'. */
static enum status plan_pieces(struct loader *l, int64_t d, struct err *e)
{
    struct loader_report *r = &l->report;
    int64_t length = length_of(l, d), before = r->documents, first = 0;
    r->cut_documents++;
    for (; first < length - 1; first += l->options.max_length - 1) {
        int64_t left = length - first, i = r->documents;
        int32_t n = left < l->options.max_length ? (int32_t)left : l->options.max_length;
        TRY(loader_read(l, d, first, n, NULL, e));
        struct store_targets t = store_count_targets(l->document_weights, n);
        if (t.last < 1) continue;
        int64_t key = first ? store_info(l->store)->num_documents + i : d;
        l->planned[r->documents++] =
            (struct planned){(int32_t)d, (int32_t)key, first, n, t.last, t.count, 1, 0, t.weight};
    }
    l->cut[r->cut_documents - 1] = (int32_t)d;
    r->pieces += r->documents - before;
    if (r->documents == before) note_dropped(l, d);
    return OK;
}

static enum status plan_text(struct loader *l, int64_t d, struct err *e)
{
    struct loader_report *r = &l->report;
    int64_t length = length_of(l, d);
    if (l->options.pieces && length > l->options.max_length) return plan_pieces(l, d, e);
    int32_t tokens = length < l->options.max_length ? (int32_t)length : l->options.max_length;
    struct store_targets t;
    TRY(targets_of(l, d, tokens, &t, e));
    if (length > tokens) note_cut(l, d, length - tokens);
    if (t.last < 1) {
        note_dropped(l, d);
        return OK;
    }
    l->planned[r->documents++] =
        (struct planned){(int32_t)d, (int32_t)d, 0, tokens, t.last, t.count, 1, 0, t.weight};
    return OK;
}

/* ---- preferences ---- */

static int32_t cut_to(int64_t n, int32_t room) { return n < room ? (int32_t)n : room; }

/* The two replies are the same as far as they are used, which can only be if one was cut. */
static enum status same_replies(struct loader *l, int64_t d, const struct parts *p, int *same,
                                struct err *e)
{
    const struct store_info *info = store_info(l->store);
    int64_t length = length_of(l, d);
    *same = 0;
    if (p->chosen != p->rejected) return OK;
    TRY(store_read(l->store, d, length, l->document_ids, NULL, e));
    *same = !memcmp(l->document_ids + info->chosen[d], l->document_ids + info->rejected[d],
                    (size_t)p->chosen * sizeof *l->document_ids);
    return OK;
}

static enum status plan_record(struct loader *l, int64_t d, struct err *e)
{
    const struct store_info *info = store_info(l->store);
    struct loader_report *r = &l->report;
    int64_t chosen = info->rejected[d] - info->chosen[d],
            rejected = length_of(l, d) - info->rejected[d];
    int32_t prompt = info->chosen[d], room = l->options.max_length - prompt;
    int same = 0;
    if (room <= 0) {
        note_cut(l, d, length_of(l, d) - l->options.max_length);
        note_dropped(l, d);
        r->dropped_prompts++;
        return OK;
    }
    struct parts p = {prompt, cut_to(chosen, room), cut_to(rejected, room), 0, -1};
    int64_t behind = chosen - p.chosen + rejected - p.rejected;
    if (behind) note_cut(l, d, behind);
    if (behind && p.chosen && p.rejected) TRY(same_replies(l, d, &p, &same, e));
    if (same) {
        note_dropped(l, d);
        r->dropped_identical++;
        return OK;
    }
    l->planned[r->documents] = (struct planned){.document = (int32_t)d};
    l->parts[r->documents++] = p;
    r->chosen += p.chosen > 0;
    r->rejected += p.rejected > 0;
    return OK;
}

/* TRL's rule: in each run of kept records, a record has the reply of the one before it, the first
 * that of the last. */
static void pair_mismatches(struct loader *l)
{
    const struct store_info *info = store_info(l->store);
    int64_t chunk = l->options.mismatch_chunk, n = l->report.documents;
    for (int64_t i = 0; chunk && i < n; i++) {
        int64_t first = i / chunk * chunk, last = first + chunk < n ? first + chunk - 1 : n - 1;
        int32_t partner = l->planned[i > first ? i - 1 : last].document;
        struct parts *p = &l->parts[i];
        p->partner = partner;
        p->mismatch = cut_to(length_of(l, partner) - info->chosen[partner],
                             l->options.max_length - p->prompt);
    }
}

/* What a record comes to in the form it is laid in. */
static enum status measure(struct loader *l, int64_t i, struct err *e)
{
    const struct parts *p = &l->parts[i];
    struct planned *x = &l->planned[i];
    int64_t own = (p->chosen > 0) + (p->rejected > 0), replies = own + (p->mismatch > 0);
    int64_t before = p->prompt - 1, targets = (int64_t)p->chosen + p->rejected + p->mismatch;
    int64_t rows = targets + (l->options.prefix_sharing ? 1 : replies) * before;
    int64_t tokens = own * p->prompt + p->chosen + p->rejected;
    if (rows > INT32_MAX / 2 || tokens > INT32_MAX / 2)
        return err_set(e, ERR_CONFIG, "%s: document %d has more tokens than a batch can",
                       store_path(l->store), (int)x->document);
    if (l->options.with_prompt && p->chosen) targets += before;
    x->tokens = (int32_t)tokens;
    x->rows = (int32_t)rows;
    x->targets = (int32_t)targets;
    x->segments = (int32_t)(replies + (l->options.prefix_sharing && before > 0));
    x->weight = (double)targets;
    return OK;
}

int32_t loader_room(const struct loader *l, int64_t planned)
{
    const struct parts *p = l->parts ? &l->parts[planned] : NULL;
    if (!p) return l->planned[planned].tokens;
    int64_t replies = (p->chosen > 0) + (p->rejected > 0) + (p->mismatch > 0);
    int64_t prompts = l->options.prefix_sharing ? 1 : replies;
    return (int32_t)(prompts * p->prompt + p->chosen + p->rejected + p->mismatch);
}

int32_t loader_capacity(const struct loader *l)
{
    int two =
        l->parts && (store_info(l->store)->settings.kind == KIND_PAIR || l->options.mismatch_chunk);
    if (!two) return l->options.max_length;
    return l->options.max_length < INT32_MAX / 2 ? 2 * l->options.max_length : INT32_MAX;
}

/* ---- all ---- */

/* How many planned ones a document can become. */
static int64_t most_of(const struct loader *l, int64_t length)
{
    int64_t step = l->options.max_length - 1;
    if (!l->options.pieces || length <= l->options.max_length) return 1;
    return (length - 1 + step - 1) / step;
}

static enum status too_many(const struct loader *l, int64_t n, struct err *e)
{
    err_set(e, ERR_CONFIG,
            "%s: %lld documents and pieces of documents are more than a run can "
            "number",
            store_path(l->store), (long long)n);
    return err_hint(e, "raise max_length, or train on a part of them");
}

/* For n documents that become `most` planned ones; `longest` ids are the most that are read of one
 * at once. */
static enum status make_room(struct loader *l, int64_t n, int64_t most, int64_t longest,
                             struct err *e)
{
    int preferences = store_info(l->store)->settings.kind != KIND_SFT;
    size_t documents = (size_t)n + 1, ids = (size_t)longest + 1;
    l->planned = mem_calloc((size_t)most + 1, sizeof *l->planned);
    l->cut = mem_calloc(documents, sizeof *l->cut);
    l->dropped = mem_calloc(documents, sizeof *l->dropped);
    l->document_ids = mem_calloc(ids, sizeof *l->document_ids);
    int failed = !l->planned || !l->cut || !l->dropped || !l->document_ids;
    if (preferences) {
        l->parts = mem_calloc(documents, sizeof *l->parts);
        l->partner_ids = mem_calloc(l->options.mismatch_chunk ? ids : 1, sizeof *l->partner_ids);
        failed |= !l->parts || !l->partner_ids;
    } else {
        l->document_weights = mem_calloc(ids, sizeof *l->document_weights);
        failed |= !l->document_weights;
    }
    if (failed) return err_set(e, ERR_MEMORY, "planning %lld documents", (long long)n);
    l->report.cut = l->cut;
    l->report.dropped = l->dropped;
    return OK;
}

static enum status nothing_kept(const struct loader *l, int64_t n, struct err *e)
{
    err_set(e, ERR_DATA, "%s: none of %lld documents has anything to train on within %d tokens",
            store_path(l->store), (long long)n, (int)l->options.max_length);
    return err_hint(e, l->parts ? "raise max_length above the prompts' lengths"
                                : "raise max_length, or see with `cria inspect` what is trained");
}

enum status loader_plan(struct loader *l, struct loader_subset subset, struct err *e)
{
    const struct store_info *info = store_info(l->store);
    int preferences = info->settings.kind != KIND_SFT;
    int64_t n = subset.documents ? subset.num_documents : info->num_documents, longest = 0,
            most = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t length = length_of(l, subset.documents ? subset.documents[i] : i);
        if (length > longest) longest = length;
        most += most_of(l, length);
    }
    if (!preferences && longest > l->options.max_length) longest = l->options.max_length;
    if (info->num_documents > INT32_MAX - most) return too_many(l, most, e);
    TRY(make_room(l, n, most, longest, e));
    int64_t stage = 0;
    l->num_stages = subset.num_stages ? subset.num_stages : 1;
    for (int64_t i = 0; i < n; i++) {
        int64_t d = subset.documents ? subset.documents[i] : i, kept = l->report.documents;
        while (subset.num_stages && i >= subset.stage_ends[stage]) stage++;
        TRY(preferences ? plan_record(l, d, e) : plan_text(l, d, e));
        for (; kept < l->report.documents; kept++) l->planned[kept].stage = (int32_t)stage;
    }
    if (!l->report.documents) return nothing_kept(l, n, e);
    if (preferences) pair_mismatches(l);
    for (int64_t i = 0; i < l->report.documents; i++) {
        if (preferences) TRY(measure(l, i, e));
        l->report.tokens += l->planned[i].tokens;
        l->report.supervised += l->planned[i].targets;
    }
    return OK;
}
