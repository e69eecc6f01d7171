#include "data/clean/clean.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/clean/language.h"
#include "data/clean/near.h"
#include "data/clean/output.h"
#include "data/clean/record.h"
#include "data/clean/seen.h"
#include "data/jsonl/jsonl.h"
#include "data/prepare/block.h"
#include "data/prepare/crew.h"
#include "data/prepare/feed.h"

#define HTML_LOOK 64                 /* records looked at for markup, */
#define HTML_SHARE 10                /* and one message in so many has it */
#define KEPT_LINES ((size_t)4 << 20) /* a block's larger memory is given back */
#define LINES_MAX (SIZE_MAX / 4)

struct slot {
    struct block block;
    struct clean_result *results; /* of a record those from starts[i] to starts[i + 1] */
    size_t num_results, cap_results, starts[BLOCK_RECORDS + 1];
    enum status states[BLOCK_RECORDS];
    struct err *first; /* what is wrong with the first record that has something wrong */
    struct buf lines;
};

/* Where a record that others may repeat came from. */
struct origin {
    uint32_t source;
    int64_t place;
};

struct pass {
    const struct clean_options *options;
    struct clean_report *report;
    clean_watcher *watch;
    void *ctx;
    size_t source;
    char stem[256];
    struct jsonl *file;
    struct feed feed;
    int64_t bytes_before, total_bytes;
    double next_tell;
    struct clean_maker *makers; /* [threads] */
    struct slot *slots;
    size_t threads, num_slots;
    struct seen seen; /* ids and pairs; numbers are indices of origins */
    struct near *near;
    struct origin *origins;
    size_t num_origins, cap_origins;
    struct output out;
};

static int has(const struct pass *p, enum clean_step s)
{
    return (p->options->steps & CLEAN_BIT(s)) != 0;
}

/* ---- the output ---- */

static enum status open_output(struct pass *p, const char *out, struct err *e)
{
    for (size_t i = 0; i < p->options->num_sources; i++) {
        if (!io_same(p->options->sources[i], out)) continue;
        err_set(e, ERR_CONFIG, "%s is a source: it would be replaced", out);
        return err_hint(e, "write to another file");
    }
    return output_open(&p->out, out, e);
}

static enum status commit(struct pass *p, struct err *e)
{
    if (p->report->written) return output_commit(&p->out, e);
    err_set(e, ERR_DATA, "no conversation is left of %lld records", (long long)p->report->records);
    return err_hint(e, "the report says which steps they fell to; --steps leaves some out");
}

/* ---- counting ---- */

static void count_drop(struct pass *p, enum clean_reason reason, int64_t count,
                       const struct clean_result *r, int64_t place, const struct origin *other)
{
    struct clean_tally *t = &p->report->dropped[reason];
    if (t->count < CLEAN_SAMPLES) {
        struct clean_sample *s = &t->samples[t->count];
        *s = (struct clean_sample){.source = (uint32_t)p->source, .place = place};
        if (other) s->other_source = other->source, s->other_place = other->place;
        if (r) {
            memcpy(s->detail, r->detail, sizeof s->detail);
            memcpy(s->text, r->excerpt, sizeof s->text);
        }
    }
    t->count += count;
}

static void count_kept(struct pass *p, const struct clean_result *r)
{
    struct clean_report *report = p->report;
    report->segments += r->segments;
    report->written += r->written;
    report->turns += r->turns;
    if (!r->written) return;
    report->kept++;
    report->sources[p->source].kept++;
    for (int c = 0; c < NUM_CLEAN_CHANGES; c++) report->changed[c] += r->changes >> c & 1;
}

static void tell(struct pass *p, int64_t offset)
{
    double now = clock_seconds();
    if (!p->watch || now < p->next_tell) return;
    p->next_tell = now + 0.1;
    struct clean_progress progress = {p->report->sources[p->source].path, p->bytes_before + offset,
                                      p->total_bytes, p->report->records, p->report->kept};
    p->watch(p->ctx, &progress);
}

/* ---- duplicates ---- */

static enum status new_origin(struct pass *p, int64_t place, uint32_t *number, struct err *e)
{
    if (p->num_origins == p->cap_origins) {
        size_t cap = p->cap_origins ? 2 * p->cap_origins : 1024;
        struct origin *q = cap < UINT32_MAX ? mem_resize(p->origins, cap, sizeof *q) : NULL;
        if (!q) return err_set(e, ERR_MEMORY, "no memory to remember %zu records", cap);
        p->origins = q;
        p->cap_origins = cap;
    }
    p->origins[p->num_origins] = (struct origin){(uint32_t)p->source, place};
    *number = (uint32_t)p->num_origins++;
    return OK;
}

static int is_known(struct pass *p, const struct clean_result *r, enum clean_reason *reason,
                    uint32_t *other)
{
    *reason = CLEAN_SAME_ID;
    if (r->has_id && seen_find(&p->seen, r->id_key, other)) return 1;
    *reason = CLEAN_SAME_PAIR;
    return seen_find(&p->seen, r->pair_key, other);
}

/* Through the steps that know other records. *dropped: it went. */
static enum status compare(struct pass *p, const struct clean_result *r, int64_t place,
                           int *dropped, struct err *e)
{
    uint32_t other, number = 0;
    enum clean_reason reason;
    int later = clean_reason_step(r->reason) > CLEAN_EXACT || !r->reason;
    *dropped = 1;
    if (has(p, CLEAN_EXACT) && later && is_known(p, r, &reason, &other)) {
        count_drop(p, reason, 1, r, place, &p->origins[other]);
        return OK;
    }
    if (later && (has(p, CLEAN_EXACT) || has(p, CLEAN_NEAR))) TRY(new_origin(p, place, &number, e));
    if (has(p, CLEAN_EXACT) && later) {
        if (seen_add(&p->seen, r->pair_key, number) ||
            (r->has_id && seen_add(&p->seen, r->id_key, number)))
            return err_set(e, ERR_MEMORY, "no memory to remember records");
    }
    if (r->reason && r->reason != CLEAN_NUMBERS) {
        struct origin item = {UINT32_MAX, (int64_t)r->item + 1};
        count_drop(p, r->reason, 1, r, place, r->reason == CLEAN_CONTAMINATED ? &item : NULL);
        return OK;
    }
    if (has(p, CLEAN_NEAR) && near_find(p->near, &r->signature, &other)) {
        count_drop(p, CLEAN_SIMILAR, 1, r, place, &p->origins[other]);
        return OK;
    }
    if (has(p, CLEAN_NEAR) && near_add(p->near, &r->signature, number))
        return err_set(e, ERR_MEMORY, "no memory to remember records");
    *dropped = 0;
    return OK;
}

/* ---- records ---- */

static enum status settle_invalid(struct pass *p, struct slot *s, int64_t place, struct err *e)
{
    struct clean_report *report = p->report;
    if (!s->first) return err_set(e, ERR_MEMORY, "no memory for a message");
    if (!p->options->skip_bad) {
        *e = *s->first;
        err_hint(e, "--skip-bad leaves such records out");
        return e->code;
    }
    if (!report->first_bad[0]) err_format(s->first, report->first_bad, sizeof report->first_bad);
    count_drop(p, CLEAN_BAD_RECORD, 1, NULL, place, NULL);
    return OK;
}

static enum status settle_conversation(struct pass *p, const struct slot *s,
                                       const struct clean_result *r, int64_t place, struct err *e)
{
    int dropped;
    p->report->conversations++;
    TRY(compare(p, r, place, &dropped, e));
    if (dropped) return OK;
    count_kept(p, r);
    if (r->numbered) count_drop(p, CLEAN_NUMBERS, r->numbered, r, place, NULL);
    p->report->bytes += (int64_t)(r->to - r->from);
    return r->to > r->from ? output_write(&p->out, s->lines.data + r->from, r->to - r->from, e)
                           : OK;
}

static enum status settle_record(struct pass *p, struct slot *s, size_t i, struct err *e)
{
    const struct outcome *o = &s->block.outcomes[i];
    int64_t place = o->record.place;
    int invalid = s->states[i] == ERR_FORMAT || s->states[i] == ERR_DATA;
    if (s->states[i] && !invalid) {
        if (!s->first) return err_set(e, ERR_MEMORY, "no memory to clean");
        *e = *s->first;
        return e->code;
    }
    p->report->records += o->count;
    p->report->sources[p->source].records += o->count;
    if (invalid) return settle_invalid(p, s, place, e);
    for (size_t k = s->starts[i]; k < s->starts[i + 1]; k++)
        TRY(settle_conversation(p, s, &s->results[k], place, e));
    return OK;
}

static void keep_error(struct slot *s, const struct err *e)
{
    if (s->first || !(s->first = mem_alloc(sizeof *e))) return;
    *s->first = *e;
}

static struct clean_result *next_result(struct slot *s)
{
    if (s->num_results == s->cap_results) {
        size_t cap = s->cap_results ? 2 * s->cap_results : BLOCK_RECORDS;
        struct clean_result *p = mem_resize(s->results, cap, sizeof *p);
        if (!p) return NULL;
        s->results = p;
        s->cap_results = cap;
    }
    return &s->results[s->num_results++];
}

/* All conversations that a record holds. */
static enum status take_conversations(struct slot *s, const struct clean_place *from,
                                      const json_t *value, struct clean_maker *maker, struct err *e)
{
    struct clean_place place = *from;
    do {
        struct clean_result *result = next_result(s);
        if (!result) return err_set(e, ERR_MEMORY, "no memory to clean");
        TRY(clean_record(maker, &place, value, result, &s->lines, e));
        place.part++;
    } while (maker->conversation.more);
    return OK;
}

static enum status take_record(struct pass *p, struct slot *s, size_t i, struct clean_maker *maker,
                               struct err *e)
{
    struct block *b = &s->block;
    struct jsonl_record *record = &b->outcomes[i].record;
    const struct clean_source_report *source = &p->report->sources[p->source];
    const struct clean_place place = {source->format, source->is_html, p->stem, record->number, 0};
    json_t *value = NULL;
    if (record->kind == JSONL_BAD) {
        if (b->outcomes[i].err) *e = *b->outcomes[i].err;
        return e->code ? e->code : err_set(e, ERR_FORMAT, "not a valid record");
    }
    struct jsonl_text text = {b->text.data + b->starts[i], b->starts[i + 1] - b->starts[i],
                              b->columns[i]};
    enum status st = jsonl_parse(p->file, &text, record, &value, e);
    if (!st && record->kind == JSONL_BAD) {
        st = e->code;
    } else if (!st) {
        st = take_conversations(s, &place, value, maker, e);
        if (st) block_place_error(p->file, record, e);
    }
    record->value = NULL;
    json_decref(value);
    return st;
}

static int fill(void *ctx, size_t slot)
{
    struct pass *p = ctx;
    return block_fill(&p->slots[slot].block, &p->feed);
}

static void work(void *ctx, size_t slot, size_t thread)
{
    struct pass *p = ctx;
    struct slot *s = &p->slots[slot];
    mem_free(s->first);
    s->first = NULL;
    if (s->lines.cap > KEPT_LINES) buf_free(&s->lines);
    buf_clear(&s->lines);
    s->num_results = 0;
    for (size_t i = 0; i < s->block.count; i++) {
        struct err e = {0};
        s->starts[i] = s->num_results;
        s->states[i] = take_record(p, s, i, &p->makers[thread], &e);
        if (s->states[i]) keep_error(s, &e);
        if (s->states[i]) s->num_results = s->starts[i];
        s->starts[i + 1] = s->num_results;
    }
}

static enum status settle(void *ctx, size_t slot, struct err *e)
{
    struct pass *p = ctx;
    struct slot *s = &p->slots[slot];
    for (size_t i = 0; i < s->block.count; i++) TRY(settle_record(p, s, i, e));
    if (s->block.status) {
        *e = s->block.err;
        return s->block.status;
    }
    tell(p, s->block.offset);
    return OK;
}

/* ---- one source ---- */

static void set_stem(struct pass *p, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path,
               *dot = strchr(name, '.');
    size_t n = dot && dot > name ? (size_t)(dot - name) : strlen(name);
    snprintf(p->stem, sizeof p->stem, "%.*s", (int)(n < 200 ? n : 200), name);
}

static struct jsonl_options reading(const struct pass *p)
{
    return (struct jsonl_options){.max_record = p->options->max_record};
}

static enum status clean_source(struct pass *p, size_t source, struct err *e)
{
    struct clean_source_report *s = &p->report->sources[source];
    const struct crew_job job = {p, fill, work, settle};
    int64_t size = io_file_size(s->path);
    p->source = source;
    set_stem(p, s->path);
    const struct jsonl_options options = reading(p);
    TRY(jsonl_open(&p->file, s->path, &options, e));
    s->is_array = jsonl_is_array(p->file);
    feed_init(&p->feed, p->file, s->format);
    enum status st = crew_run(&job, p->threads, e);
    if (size > 0) p->bytes_before += size;
    feed_free(&p->feed);
    jsonl_close(p->file);
    p->file = NULL;
    return st;
}

/* ---- setup ---- */

static enum status choose_format(const struct pass *p, struct clean_source_report *s, struct err *e)
{
    const char *name = p->options->format;
    if (!name || !strcasecmp(name, "auto")) {
        const struct jsonl_options options = reading(p);
        TRY(format_detect(s->path, &options, NULL, &s->format, e));
    } else if (!(s->format = format_find(name))) {
        err_set(e, ERR_CONFIG, "unknown format \"%s\"", name);
        return err_hint(e,
                        "leave --format out to have it detected; cria prepare --help lists some");
    }
    if (s->format->kind == KIND_SFT) return OK;
    err_at(e, ERR_UNSUPPORTED, s->path, 0, 0, "holds %s; clean takes conversations",
           kind_about(s->format->kind));
    return err_hint(e, "clean the conversations they were made from, or leave the file as it is");
}

/* Counts messages and those with markup in the first records; what cannot be read counts for none,
 * the pass itself will say. */
static enum status look_for_html(const struct pass *p, struct clean_source_report *s, struct err *e)
{
    struct conversation c = {0};
    struct jsonl_record r = {0};
    struct err ignored = {0};
    struct jsonl *j;
    size_t messages = 0, marked = 0;
    const struct jsonl_options options = reading(p);
    TRY(jsonl_open(&j, s->path, &options, e));
    for (int i = 0; i < HTML_LOOK && !jsonl_next(j, &r, &ignored) && r.kind != JSONL_END; i++) {
        conversation_clear(&c);
        if (r.kind == JSONL_BAD || s->format->convert(r.value, &c, &ignored)) continue;
        for (size_t k = 0; k < c.num_turns; k++, messages++)
            marked += (size_t)message_has_markup(c.turns[k].text);
    }
    conversation_free(&c);
    jsonl_close(j);
    s->is_html = marked && marked * HTML_SHARE >= messages;
    if (!s->is_html)
        log_notice("%s holds no HTML: its text is taken as it is (--steps html,... converts it)",
                   s->path);
    return OK;
}

/* Plain text and conversations make no file that can be read as one. */
static int is_plain(const struct format *f)
{
    return !strcmp(f->name, "text") ? 1 : !strcmp(f->name, "prompt_completion") ? 2 : 0;
}

static enum status describe_sources(struct pass *p, struct err *e)
{
    const struct clean_options *o = p->options;
    struct clean_report *report = p->report;
    if (!o->num_sources) return err_set(e, ERR_CONFIG, "no file to clean is named");
    report->sources = mem_calloc(o->num_sources, sizeof *report->sources);
    if (!report->sources) return err_set(e, ERR_MEMORY, "no memory for the report");
    report->num_sources = o->num_sources;
    for (size_t i = 0; i < o->num_sources; i++) {
        struct clean_source_report *s = &report->sources[i];
        if (!(s->path = mem_strdup(o->sources[i])))
            return err_set(e, ERR_MEMORY, "no memory for the report");
        TRY(choose_format(p, s, e));
        if (is_plain(s->format) != is_plain(report->sources[0].format)) {
            err_at(e, ERR_DATA, s->path, 0, 0, "holds %s, %s %s", s->format->fields,
                   report->sources[0].path, report->sources[0].format->fields);
            return err_hint(e, "clean them apart: they do not go into one file");
        }
        s->is_html = has(p, CLEAN_HTML);
        if (s->is_html && o->html_by_file) TRY(look_for_html(p, s, e));
        int64_t size = io_file_size(s->path);
        p->total_bytes += size > 0 ? size : 0;
    }
    return OK;
}

static enum status check_language(const char *code, struct err *e)
{
    if (!language_available()) {
        err_set(e, ERR_UNSUPPORTED, "this cria was built without CLD2, which tells languages");
        return err_hint(e, "install libcld2-dev and a C++ compiler, and build again: tools/setup");
    }
    if (language_exists(code)) return OK;
    err_set(e, ERR_CONFIG, "there is no language \"%s\"", code);
    return err_hint(e, "codes are those of CLD2: en, de, fr, ja, ko, zh, zh-Hant, ...");
}

static enum status check_options(const struct pass *p, struct err *e)
{
    const struct clean_options *o = p->options;
    const char *code = o->keep_language ? o->keep_language : o->skip_language;
    if (o->keep_language && o->skip_language)
        return err_set(e, ERR_CONFIG, "one language to keep or one to skip, not both");
    if (has(p, CLEAN_LANGUAGE) && !code)
        return err_set(e, ERR_CONFIG, "the step language needs a language to keep or to skip");
    if (has(p, CLEAN_LANGUAGE)) TRY(check_language(code, e));
    if (has(p, CLEAN_AGAINST) && !o->against)
        return err_set(e, ERR_CONFIG, "the step against needs evaluation files");
    if (has(p, CLEAN_SPLIT) && (!o->tokenizer || o->max_length < 1))
        return err_set(e, ERR_CONFIG, "the step split needs a tokenizer and a maximum length");
    if (has(p, CLEAN_NEAR) && !(o->similarity >= NEAR_LEAST && o->similarity <= 1))
        return err_set(e, ERR_CONFIG, "the similarity of near-duplicates goes from %.1f to 1",
                       NEAR_LEAST);
    return OK;
}

static enum status open_crew(struct pass *p, struct err *e)
{
    p->threads = crew_threads(p->options->threads);
    p->num_slots = crew_slots(p->threads);
    p->makers = mem_calloc(p->threads, sizeof *p->makers);
    p->slots = mem_calloc(p->num_slots, sizeof *p->slots);
    if (!p->makers || !p->slots) return err_set(e, ERR_MEMORY, "no memory to clean");
    for (size_t i = 0; i < p->num_slots; i++) {
        block_init(&p->slots[i].block);
        buf_init(&p->slots[i].lines, LINES_MAX);
    }
    for (size_t i = 0; i < p->threads; i++) TRY(clean_maker_open(&p->makers[i], p->options, e));
    if (has(p, CLEAN_NEAR) && near_open(&p->near, p->options->similarity))
        return err_set(e, ERR_MEMORY, "no memory to clean");
    return OK;
}

static void close_all(struct pass *p)
{
    for (size_t i = 0; p->makers && i < p->threads; i++) clean_maker_close(&p->makers[i]);
    for (size_t i = 0; p->slots && i < p->num_slots; i++) {
        block_free(&p->slots[i].block);
        buf_free(&p->slots[i].lines);
        mem_free(p->slots[i].results);
        mem_free(p->slots[i].first);
    }
    mem_free(p->makers);
    mem_free(p->slots);
    mem_free(p->origins);
    seen_free(&p->seen);
    near_close(p->near);
    output_close(&p->out);
}

static void count_memory(struct pass *p)
{
    p->report->remembered = seen_bytes(&p->seen) + p->cap_origins * sizeof *p->origins +
                            (p->near ? near_bytes(p->near) : 0);
}

enum status clean_files(const struct clean_options *options, const char *out,
                        struct clean_report *report, clean_watcher *watch, void *ctx, struct err *e)
{
    struct pass p = {.options = options, .report = report, .watch = watch, .ctx = ctx};
    output_init(&p.out);
    report->steps = options->steps;
    report->against = options->against;
    enum status st = check_options(&p, e);
    if (!st) st = describe_sources(&p, e);
    if (!st) st = open_crew(&p, e);
    if (!st) st = open_output(&p, out, e);
    for (size_t i = 0; !st && i < options->num_sources; i++) st = clean_source(&p, i, e);
    count_memory(&p);
    if (!st) st = commit(&p, e);
    close_all(&p);
    return st;
}
