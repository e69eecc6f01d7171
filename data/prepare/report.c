#include "data/prepare/prepare.h"

#include <jansson.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

void prepare_report_free(struct prepare_report *r)
{
    for (size_t i = 0; i < r->num_sources; i++) mem_free(r->sources[i].path);
    mem_free(r->sources);
    *r = (struct prepare_report){0};
}

/* ---- counting ---- */

void prepare_tally_add(struct prepare_tally *t, int64_t place, int64_t count)
{
    if (t->num_places < PREPARE_EXAMPLES) t->places[t->num_places++] = place;
    t->count += count;
}

/* The longest length that bucket b counts; the last one has no end. */
static int64_t bucket_end(int b) { return (int64_t)32 << b; }

static void count_length(struct prepare_counts *c, int64_t n)
{
    int b = 0;
    while (b < PREPARE_BUCKETS - 1 && n > bucket_end(b)) b++;
    c->lengths[b]++;
    if (n > c->longest) c->longest = n;
}

static int64_t behind(int64_t n, int32_t max_length) { return n > max_length ? n - max_length : 0; }

static void count_preference(struct prepare_counts *c, const struct sample *s, int32_t max_length)
{
    int64_t prompt = s->chosen, chosen = s->rejected - prompt,
            rejected = (int64_t)s->n - s->rejected;
    c->chosen += chosen > 0;
    c->rejected += rejected > 0;
    c->prompt_tokens += prompt;
    c->chosen_tokens += chosen;
    c->rejected_tokens += rejected;
    c->supervised += chosen + rejected;
    int64_t longer = prompt + (chosen > rejected ? chosen : rejected);
    count_length(c, longer);
    if (max_length <= 0 || longer <= max_length) return;
    c->cut_documents++;
    c->cut_tokens += behind(prompt + chosen, max_length) + behind(prompt + rejected, max_length);
    c->cut_silent += prompt >= max_length;
}

static void count_text(struct prepare_counts *c, const struct sample *s, int32_t max_length,
                       int pieces)
{
    int64_t n = (int64_t)s->n, early = 0;
    for (int64_t i = 0; i < n; i++) {
        c->supervised += s->weights[i] != 0;
        early += s->weights[i] != 0 && i < max_length;
    }
    count_length(c, n);
    if (max_length <= 0 || n <= max_length) return;
    c->cut_documents++;
    if (pieces) return;
    c->cut_tokens += n - max_length;
    c->cut_silent += !early;
}

void prepare_count_document(struct prepare_counts *c, const struct sample *s, int32_t max_length,
                            int pieces)
{
    c->documents++;
    c->tokens += (int64_t)s->n;
    if (s->kind == KIND_SFT)
        count_text(c, s, max_length, pieces);
    else
        count_preference(c, s, max_length);
}

void prepare_counts_add(struct prepare_counts *to, const struct prepare_counts *from)
{
    to->records += from->records;
    to->kept += from->kept;
    to->documents += from->documents;
    to->tokens += from->tokens;
    to->supervised += from->supervised;
    to->chosen += from->chosen;
    to->rejected += from->rejected;
    to->prompt_tokens += from->prompt_tokens;
    to->chosen_tokens += from->chosen_tokens;
    to->rejected_tokens += from->rejected_tokens;
    if (from->longest > to->longest) to->longest = from->longest;
    for (int b = 0; b < PREPARE_BUCKETS; b++) to->lengths[b] += from->lengths[b];
    to->cut_documents += from->cut_documents;
    to->cut_tokens += from->cut_tokens;
    to->cut_silent += from->cut_silent;
}

int64_t prepare_dropped(const struct prepare_source_report *s)
{
    int64_t n = 0;
    for (int r = 1; r < NUM_DROP_REASONS; r++) n += s->dropped[r].count;
    return n;
}

/* ---- for people ---- */

static enum status print_tally(const char *indent, const struct prepare_tally *t, const char *text,
                               int is_array, struct buf *out)
{
    if (!t->count) return OK;
    TRY(buf_printf(out, "%s%lld %s (%s", indent, (long long)t->count, text,
                   is_array ? "record" : "line"));
    if (t->count > 1) TRY(buf_putc(out, 's'));
    for (int i = 0; i < t->num_places; i++)
        TRY(buf_printf(out, "%s%lld", i ? ", " : " ", (long long)t->places[i]));
    return buf_puts(out, t->count > t->num_places ? ", ...)\n" : ")\n");
}

static double mean(int64_t sum, int64_t n) { return n ? (double)sum / (double)n : 0; }

/* What preference records are made of. */
static enum status print_replies(const struct prepare_counts *c, struct buf *out)
{
    if (!c->chosen && !c->rejected) return OK;
    return buf_printf(out,
                      "  %lld chosen and %lld rejected replies; mean tokens: prompt %.1f, chosen "
                      "%.1f, rejected %.1f\n",
                      (long long)c->chosen, (long long)c->rejected,
                      mean(c->prompt_tokens, c->documents), mean(c->chosen_tokens, c->chosen),
                      mean(c->rejected_tokens, c->rejected));
}

static enum status print_counts(const struct prepare_counts *c, const struct prepare_report *r,
                                struct buf *out)
{
    int preference = c->chosen || c->rejected;
    double share = c->tokens ? 100.0 * (double)c->supervised / (double)c->tokens : 0;
    TRY(buf_printf(out,
                   "  %lld records, %lld documents, %lld tokens, %lld of them supervised "
                   "(%.1f %%)\n",
                   (long long)c->records, (long long)c->documents, (long long)c->tokens,
                   (long long)c->supervised, share));
    if (!c->documents) return OK;
    TRY(print_replies(c, out));
    if (preference)
        TRY(buf_printf(out, "  prompt and longer reply: longest %lld;", (long long)c->longest));
    else
        TRY(buf_printf(out, "  lengths: mean %.1f, longest %lld;", mean(c->tokens, c->documents),
                       (long long)c->longest));
    const char *comma = "";
    for (int b = 0; b < PREPARE_BUCKETS; b++) {
        if (!c->lengths[b]) continue;
        int last = b == PREPARE_BUCKETS - 1;
        TRY(buf_printf(out, "%s %lld %s %lld", comma, (long long)c->lengths[b],
                       last ? "over" : "up to", (long long)bucket_end(last ? b - 1 : b)));
        comma = ",";
    }
    TRY(buf_putc(out, '\n'));
    if (!c->cut_documents) return OK;
    if (r->pieces)
        return buf_printf(
            out, "  %lld documents are longer than max_length %d and will be cut into pieces\n",
            (long long)c->cut_documents, (int)r->max_length);
    return buf_printf(
        out, "  max_length %d will cut %lld documents by %lld tokens; %lld of them %s\n",
        (int)r->max_length, (long long)c->cut_documents, (long long)c->cut_tokens,
        (long long)c->cut_silent,
        preference ? "have a prompt as long as that and are left out" : "keep nothing trained");
}

static enum status print_source(const struct prepare_source_report *s,
                                const struct prepare_report *r, struct buf *out)
{
    TRY(buf_printf(out, "%s: %s%s\n", s->path, s->format ? s->format->name : "no format",
                   s->detected ? " (detected)" : ""));
    TRY(print_counts(&s->counts, r, out));
    int64_t dropped = prepare_dropped(s);
    if (dropped) TRY(buf_printf(out, "  dropped %lld:\n", (long long)dropped));
    for (int d = 1; d < NUM_DROP_REASONS; d++)
        TRY(print_tally("    ", &s->dropped[d], drop_text((enum drop_reason)d), s->is_array, out));
    if (s->first_bad[0]) TRY(buf_printf(out, "  the first invalid one: %s\n", s->first_bad));
    TRY(print_tally("  ", &s->leading, "kept without a reply that nobody asked for", s->is_array,
                    out));
    TRY(print_tally("  ", &s->trailing, "kept without a last question that has no reply",
                    s->is_array, out));
    return print_tally("  ", &s->left_out, "messages or examples left out of records that are kept",
                       s->is_array, out);
}

enum status prepare_report_print(const struct prepare_report *r, struct buf *out)
{
    for (size_t i = 0; i < r->num_sources; i++) TRY(print_source(&r->sources[i], r, out));
    if (r->num_sources < 2) return OK;
    TRY(buf_printf(out, "all %zu sources:\n", r->num_sources));
    return print_counts(&r->total, r, out);
}

/* ---- for programs ---- */

static json_t *tally_json(const struct prepare_tally *t)
{
    json_t *places = json_array();
    for (int i = 0; i < t->num_places; i++)
        json_array_append_new(places, json_integer(t->places[i]));
    return json_pack("{s:I, s:o}", "count", (json_int_t)t->count, "places", places);
}

/* Members common to a source and the total, put into `to`. */
static int put_counts(json_t *to, const struct prepare_counts *c)
{
    json_t *lengths = json_array();
    for (int b = 0; b < PREPARE_BUCKETS; b++)
        json_array_append_new(
            lengths, json_pack("{s:o, s:I}", "up_to",
                               b < PREPARE_BUCKETS - 1 ? json_integer(bucket_end(b)) : json_null(),
                               "documents", (json_int_t)c->lengths[b]));
    json_t *counts = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:I}", "records", (json_int_t)c->records,
        "kept", (json_int_t)c->kept, "documents", (json_int_t)c->documents, "tokens",
        (json_int_t)c->tokens, "supervised", (json_int_t)c->supervised, "longest",
        (json_int_t)c->longest, "lengths", lengths, "cut_documents", (json_int_t)c->cut_documents,
        "cut_tokens", (json_int_t)c->cut_tokens, "cut_silent", (json_int_t)c->cut_silent);
    int failed = !counts || json_object_update(to, counts);
    json_decref(counts);
    if (failed || (!c->chosen && !c->rejected)) return failed;
    counts = json_pack("{s:I, s:I, s:I, s:I, s:I}", "chosen", (json_int_t)c->chosen, "rejected",
                       (json_int_t)c->rejected, "prompt_tokens", (json_int_t)c->prompt_tokens,
                       "chosen_tokens", (json_int_t)c->chosen_tokens, "rejected_tokens",
                       (json_int_t)c->rejected_tokens);
    failed = !counts || json_object_update(to, counts);
    json_decref(counts);
    return failed;
}

static json_t *source_json(const struct prepare_source_report *s)
{
    json_t *dropped = json_object();
    for (int r = 1; r < NUM_DROP_REASONS; r++)
        if (s->dropped[r].count)
            json_object_set_new(dropped, drop_name((enum drop_reason)r),
                                tally_json(&s->dropped[r]));
    json_t *out = json_pack(
        "{s:s%, s:s, s:s, s:b, s:s, s:o, s:o, s:o, s:o}", "path", s->path, strlen(s->path), "hash",
        s->hash, "format", s->format ? s->format->name : "", "detected", s->detected, "places",
        s->is_array ? "records" : "lines", "dropped", dropped, "left_out_leading_reply",
        tally_json(&s->leading), "left_out_trailing_question", tally_json(&s->trailing), "left_out",
        tally_json(&s->left_out));
    if (out && put_counts(out, &s->counts)) {
        json_decref(out);
        return NULL;
    }
    return out;
}

enum status prepare_report_json(const struct prepare_report *r, struct buf *out)
{
    enum status st = ERR_MEMORY;
    struct err ignored;
    json_t *sources = json_array(), *total = json_object(), *all = NULL;
    for (size_t i = 0; i < r->num_sources; i++)
        if (json_array_append_new(sources, source_json(&r->sources[i]))) goto out;
    if (put_counts(total, &r->total)) goto out;
    all = json_pack("{s:s, s:i, s:b, s:O, s:O}", "kind", kind_name(r->kind), "max_length",
                    (int)r->max_length, "pieces", r->pieces, "total", total, "sources", sources);
    st = json_append_text(all, out, &ignored);
out:
    json_decref(all);
    json_decref(total);
    json_decref(sources);
    return st;
}
