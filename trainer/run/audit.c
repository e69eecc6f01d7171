#include "run/audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "run/dataset.h"

#define SHARES 11       /* none, up to 10 %, ... up to 100 % */
#define MOST_COPIED 10  /* texts that are named */
#define PLACES 3        /* copies of them that are named */
#define ALL_PAIRS_MAX 8 /* sources of which pairs without anything in common are told too */

/* A document among those compared. */
struct entry {
    uint64_t hash;
    int64_t document;
    int32_t side; /* its source; or 0: trained on, 1: evaluated on */
};

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory to audit the dataset");
}

static int compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->document > y->document) - (x->document < y->document);
}

static struct entry *entries(int64_t n) { return mem_calloc((size_t)n + 1, sizeof(struct entry)); }

/* All documents by hash, sorted; NULL without memory. */
static struct entry *sorted(const struct audit *a, const uint64_t *hashes)
{
    struct entry *list = entries(a->num_documents);
    for (int64_t d = 0; list && d < a->num_documents; d++)
        list[d] = (struct entry){hashes[d], d, a->source[d]};
    if (list) qsort(list, (size_t)a->num_documents, sizeof *list, compare);
    return list;
}

/* Where the run of equal hashes that begins at `from` ends. */
static int64_t run_end(const struct entry *list, int64_t n, int64_t from)
{
    int64_t to = from + 1;
    while (to < n && list[to].hash == list[from].hash) to++;
    return to;
}

/* --- the pass --- */

static enum status look_at_all(struct audit *a, struct err *e)
{
    struct sample d = {0};
    enum status s = OK;
    for (int64_t i = 0; !s && i < a->num_documents; i++) {
        char hex[HASH_HEX_SIZE];
        s = store_document(a->store, i, &d, e);
        if (s) break;
        struct prepare_counts *c = &a->sources[d.source].counts;
        int64_t cut = c->cut_documents;
        prepare_count_document(c, &d, a->max_length, a->pieces);
        if (c->cut_documents > cut) a->flags[i] |= AUDIT_CUT;
        a->source[i] = d.source;
        hash_hex(d.ids, d.n * sizeof *d.ids, hex);
        hex[16] = 0;
        a->texts[i] = strtoull(hex, NULL, 16);
    }
    sample_free(&d);
    return s;
}

static enum status find_copies(struct audit *a, struct err *e)
{
    struct entry *list = sorted(a, a->texts);
    if (!list) return no_memory(e);
    for (int64_t from = 0, to; from < a->num_documents; from = to) {
        int64_t original = list[from].document;
        to = run_end(list, a->num_documents, from);
        if (to > from + 1) a->flags[original] |= AUDIT_COPIED;
        for (int64_t i = from; i < to; i++) {
            a->original[list[i].document] = original;
            if (i == from) continue;
            a->flags[list[i].document] |= AUDIT_COPY;
            a->sources[list[i].side].copies++;
        }
    }
    mem_free(list);
    return OK;
}

enum status audit_open(struct audit *a, struct store *store, int32_t max_length, int pieces,
                       struct err *e)
{
    const struct store_info *info = store_info(store);
    size_t n = (size_t)info->num_documents + 1;
    *a = (struct audit){.store = store,
                        .num_documents = info->num_documents,
                        .max_length = max_length,
                        .pieces = pieces,
                        .num_sources = info->num_sources};
    a->texts = mem_calloc(n, sizeof *a->texts);
    a->prompts = mem_calloc(n, sizeof *a->prompts);
    a->original = mem_calloc(n, sizeof *a->original);
    a->source = mem_calloc(n, sizeof *a->source);
    a->flags = mem_calloc(n, sizeof *a->flags);
    a->sources = mem_calloc(a->num_sources + 1, sizeof *a->sources);
    if (!a->texts || !a->prompts || !a->original || !a->source || !a->flags || !a->sources)
        return no_memory(e);
    TRY(look_at_all(a, e));
    TRY(mix_prompts(store, a->prompts, e));
    return find_copies(a, e);
}

void audit_free(struct audit *a)
{
    mem_free(a->texts);
    mem_free(a->prompts);
    mem_free(a->original);
    mem_free(a->source);
    mem_free(a->flags);
    mem_free(a->sources);
    *a = (struct audit){0};
}

/* --- histograms and sources --- */

static double percent(int64_t part, int64_t all)
{
    return all ? 100.0 * (double)part / (double)all : 0;
}

/* The first and the last bucket that is not empty: those between are told too, empty or not. */
static void find_ends(const int64_t *counts, int n, int *first, int *last)
{
    *first = 0;
    *last = n - 1;
    while (*first < n && !counts[*first]) ++*first;
    while (*last > *first && !counts[*last]) --*last;
    if (*first == n) *last = -1;
}

static json_t *lengths(const struct prepare_counts *all)
{
    json_t *out = json_array();
    int first, last;
    find_ends(all->lengths, PREPARE_BUCKETS, &first, &last);
    for (int b = first; b <= last; b++) {
        char name[32];
        if (b < PREPARE_BUCKETS - 1)
            snprintf(name, sizeof name, "up to %lld", (long long)32 << b);
        else
            snprintf(name, sizeof name, "over %lld", (long long)32 << (b - 1));
        json_array_append_new(
            out, json_pack("{s:s, s:I}", "tokens", name, "documents", (json_int_t)all->lengths[b]));
    }
    return out;
}

static json_t *shares(const struct audit *a)
{
    const struct store_info *info = store_info(a->store);
    int64_t counts[SHARES] = {0};
    int first, last;
    json_t *out = json_array();
    for (int64_t d = 0; d < a->num_documents; d++) {
        int64_t n = info->offsets[d + 1] - info->offsets[d], trained = info->targets[d];
        int64_t b = n > 0 ? (trained * 10 + n - 1) / n : 0;
        counts[b < SHARES ? b : SHARES - 1]++;
    }
    find_ends(counts, SHARES, &first, &last);
    for (int b = first; b <= last; b++) {
        char name[32] = "none";
        if (b) snprintf(name, sizeof name, "up to %d %%", 10 * b);
        json_array_append_new(
            out, json_pack("{s:s, s:I}", "trained", name, "documents", (json_int_t)counts[b]));
    }
    return out;
}

static void extend_sources(const struct audit *a, json_t *rows)
{
    for (size_t s = 0; s < a->num_sources; s++) {
        const struct prepare_counts *c = &a->sources[s].counts;
        json_t *row = json_array_get(rows, s);
        json_object_set_new(row, "documents", json_integer(c->documents));
        json_object_set_new(row, "tokens", json_integer(c->tokens));
        json_object_set_new(row, "supervised", json_integer(c->supervised));
        json_object_set_new(row, "supervised_percent",
                            json_real(percent(c->supervised, c->tokens)));
        json_object_set_new(row, "longest", json_integer(c->longest));
        if (a->max_length) json_object_set_new(row, "cut", json_integer(c->cut_documents));
        json_object_set_new(row, "duplicates", json_integer(a->sources[s].copies));
    }
}

static json_t *truncation(const struct audit *a, const struct prepare_counts *all)
{
    if (!a->max_length)
        return json_pack("{s:n, s:s}", "max_length", "cut",
                         "not known without max_length: give --max-length N");
    return json_pack("{s:i, s:I, s:f, s:I, s:I}", "max_length", (int)a->max_length, "documents",
                     (json_int_t)all->cut_documents, "percent",
                     percent(all->cut_documents, all->documents), "tokens",
                     (json_int_t)all->cut_tokens, "left_with_nothing_trained",
                     (json_int_t)all->cut_silent);
}

/* --- copies --- */

/* Documents whose prompt an earlier one has. */
static enum status count_prompts(const struct audit *a, int64_t *out, struct err *e)
{
    struct entry *list = sorted(a, a->prompts);
    if (!list) return no_memory(e);
    *out = 0;
    for (int64_t i = 1; i < a->num_documents; i++) *out += list[i].hash == list[i - 1].hash;
    mem_free(list);
    return OK;
}

static enum status duplicates(const struct audit *a, json_t *facts, struct err *e)
{
    const struct store_info *info = store_info(a->store);
    int64_t copies = 0, texts = 0, tokens = 0, elsewhere = 0, prompts = 0;
    TRY(count_prompts(a, &prompts, e));
    for (int64_t d = 0; d < a->num_documents; d++) {
        texts += (a->flags[d] & AUDIT_COPIED) != 0;
        if (!(a->flags[d] & AUDIT_COPY)) continue;
        copies++;
        tokens += info->offsets[d + 1] - info->offsets[d];
        elsewhere += a->source[d] != a->source[a->original[d]];
    }
    json_t *o =
        json_pack("{s:I, s:f, s:I, s:I, s:I, s:I}", "documents", (json_int_t)copies, "percent",
                  percent(copies, a->num_documents), "tokens", (json_int_t)tokens,
                  "texts_that_repeat", (json_int_t)texts, "of_another_source",
                  (json_int_t)elsewhere, "prompts_seen_before", (json_int_t)prompts);
    return json_object_set_new(facts, "duplicates", o) ? no_memory(e) : OK;
}

struct group {
    int64_t from, size;
};

/* The largest groups first; of equals the one that begins earlier in the file. */
static int pick_groups(const struct entry *list, int64_t n, struct group best[MOST_COPIED])
{
    int num = 0;
    for (int64_t from = 0, to; from < n; from = to) {
        to = run_end(list, n, from);
        struct group g = {from, to - from};
        if (g.size < 2) continue;
        int at = num < MOST_COPIED ? num++ : MOST_COPIED;
        for (; at > 0; at--) {
            const struct group *b = &best[at - 1];
            int before = g.size > b->size ||
                         (g.size == b->size && list[from].document < list[b->from].document);
            if (!before) break;
            if (at < MOST_COPIED) best[at] = *b;
        }
        if (at < MOST_COPIED) best[at] = g;
    }
    return num;
}

static enum status put_place(const struct audit *a, int64_t document, struct buf *out,
                             struct err *e)
{
    char place[300];
    int32_t source;
    int64_t line;
    TRY(store_origin(a->store, document, &source, &line, e));
    dataset_origin(a->store, source, line, place, sizeof place);
    return buf_puts(out, out->len ? "; " : "") || buf_puts(out, place) ? no_memory(e) : OK;
}

static enum status put_group(const struct audit *a, const struct entry *list, struct group g,
                             json_t *rows, struct err *e)
{
    struct buf first, again;
    enum status s = OK;
    buf_init(&first, 1 << 12);
    buf_init(&again, 1 << 12);
    s = put_place(a, list[g.from].document, &first, e);
    for (int64_t i = 1; !s && i < g.size && i <= PLACES; i++)
        s = put_place(a, list[g.from + i].document, &again, e);
    if (!s && g.size > PLACES + 1 && buf_puts(&again, "; ...")) s = no_memory(e);
    if (!s && json_array_append_new(
                  rows, json_pack("{s:I, s:I, s:s%, s:s%}", "times", (json_int_t)g.size, "document",
                                  (json_int_t)list[g.from].document, "first", first.data, first.len,
                                  "again", again.data, again.len)))
        s = no_memory(e);
    buf_free(&first);
    buf_free(&again);
    return s;
}

static enum status most_copied(const struct audit *a, json_t *facts, struct err *e)
{
    struct group best[MOST_COPIED];
    struct entry *list = sorted(a, a->texts);
    json_t *rows = json_array();
    enum status s = list && rows ? OK : no_memory(e);
    int n = s ? 0 : pick_groups(list, a->num_documents, best);
    for (int i = 0; !s && i < n; i++) s = put_group(a, list, best[i], rows, e);
    if (!s && n && json_object_set(facts, "most_copied", rows)) s = no_memory(e);
    json_decref(rows);
    mem_free(list);
    return s;
}

/* --- overlap --- */

/* Adds to shared[i * sides + j], i < j, the different hashes that sides i and j have in common. */
static void count_shared(const struct entry *list, int64_t n, size_t sides, int64_t *shared)
{
    for (int64_t from = 0, to; from < n; from = to) {
        uint64_t seen = 0;
        to = run_end(list, n, from);
        for (int64_t i = from; i < to; i++) seen |= (uint64_t)1 << list[i].side;
        if (!(seen & (seen - 1))) continue;
        for (size_t i = 0; i < sides; i++)
            for (size_t j = i + 1; j < sides; j++)
                shared[i * sides + j] += (int64_t)(seen >> i & seen >> j & 1);
    }
}

static int append_overlap(json_t *facts, const char *one, const char *other, int64_t texts,
                          int64_t prompts)
{
    json_t *rows = json_object_get(facts, "overlap");
    if (!rows) {
        if (json_object_set_new(facts, "overlap", json_array())) return -1;
        rows = json_object_get(facts, "overlap");
    }
    return json_array_append_new(rows,
                                 json_pack("{s:s%, s:s%, s:I, s:I}", "between", one, strlen(one),
                                           "and", other, strlen(other), "same_texts",
                                           (json_int_t)texts, "same_prompts", (json_int_t)prompts));
}

static enum status overlap_of_sources(const struct audit *a, json_t *facts, struct err *e)
{
    const struct store_source *names = store_info(a->store)->sources;
    size_t n = a->num_sources;
    if (n < 2 || n > AUDIT_PAIRS_MAX) return OK;
    int64_t *texts = mem_calloc(n * n, sizeof *texts);
    int64_t *prompts = mem_calloc(n * n, sizeof *prompts);
    struct entry *by_text = sorted(a, a->texts), *by_prompt = sorted(a, a->prompts);
    int failed = !texts || !prompts || !by_text || !by_prompt;
    if (!failed) {
        count_shared(by_text, a->num_documents, n, texts);
        count_shared(by_prompt, a->num_documents, n, prompts);
    }
    for (size_t i = 0; !failed && i < n; i++)
        for (size_t j = i + 1; !failed && j < n; j++) {
            size_t at = i * n + j;
            if (n <= ALL_PAIRS_MAX || texts[at] || prompts[at])
                failed =
                    append_overlap(facts, names[i].path, names[j].path, texts[at], prompts[at]);
        }
    mem_free(texts);
    mem_free(prompts);
    mem_free(by_text);
    mem_free(by_prompt);
    return failed ? no_memory(e) : OK;
}

/* Of a subset of `a`, or all of it, into list; how many. */
static int64_t put_subset(const struct audit *a, const struct loader_subset *subset,
                          const uint64_t *hashes, int32_t side, struct entry *list)
{
    int64_t n = subset ? subset->num_documents : a->num_documents;
    for (int64_t i = 0; i < n; i++) {
        int64_t d = subset && subset->documents ? subset->documents[i] : i;
        list[i] = (struct entry){hashes[d], d, side};
    }
    return n;
}

enum status audit_held_out(const struct audit *a, const struct mix *m, const struct audit *eval,
                           json_t *facts, struct err *e)
{
    const struct loader_subset *held = eval ? NULL : &m->eval;
    const struct audit *other = eval ? eval : a;
    int64_t num = held ? held->num_documents : eval->num_documents, shared[2] = {0};
    if (!num) return OK;
    struct entry *list = entries(m->train.num_documents + num);
    if (!list) return no_memory(e);
    for (int k = 0; k < 2; k++) {
        int64_t counts[4] = {0};
        int64_t n = put_subset(a, &m->train, k ? a->prompts : a->texts, 0, list);
        n += put_subset(other, held, k ? other->prompts : other->texts, 1, list + n);
        qsort(list, (size_t)n, sizeof *list, compare);
        count_shared(list, n, 2, counts);
        shared[k] = counts[1];
    }
    mem_free(list);
    return append_overlap(facts, "what is trained on",
                          eval ? "eval_dataset" : "held out (val_size)", shared[0], shared[1])
               ? no_memory(e)
               : OK;
}

enum status audit_facts(const struct audit *a, json_t *facts, struct err *e)
{
    struct prepare_counts all = {0};
    for (size_t s = 0; s < a->num_sources; s++) prepare_counts_add(&all, &a->sources[s].counts);
    extend_sources(a, json_object_get(facts, "sources"));
    if (json_object_set_new(facts, "longest", json_integer(all.longest)) ||
        json_object_set_new(facts, "lengths", lengths(&all)) ||
        json_object_set_new(facts, "supervised_shares", shares(a)) ||
        json_object_set_new(facts, "truncation", truncation(a, &all)))
        return no_memory(e);
    TRY(duplicates(a, facts, e));
    TRY(most_copied(a, facts, e));
    TRY(overlap_of_sources(a, facts, e));
    return mem_failed() ? no_memory(e) : OK;
}
