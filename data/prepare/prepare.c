#include "data/prepare/prepare.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/prepare/block.h"
#include "data/prepare/crew.h"
#include "data/store/store.h"

enum { REPORT_JSON_MAX = 64 << 20 };

struct run {
    const struct prepare_options *options;
    struct prepare_report *report;
    struct store_writer *writer;
    size_t threads, num_slots;
    struct block_maker *makers; /* [threads] */
    struct block *blocks;       /* [num_slots] */
    size_t source;              /* the one that is read */
    struct jsonl *file;
    struct feed feed;
    prepare_watcher *watch;
    void *ctx;
    int64_t bytes_before, total_bytes; /* of the sources before this one; of all */
    int64_t next_tell, tell_step;
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* ---- one record ---- */

/* An invalid record: an error, or one more of that kind. Returns OK to go on. */
static enum status invalid(struct run *r, const struct outcome *o, struct err *e)
{
    struct prepare_source_report *s = &r->report->sources[r->source];
    struct prepare_tally *bad = &s->dropped[DROP_BAD_RECORD];
    if (!r->options->skip_bad) {
        *e = *o->err;
        return e->code;
    }
    if (!bad->count) err_format(o->err, s->first_bad, sizeof s->first_bad);
    prepare_tally_add(bad, o->record.place, o->count);
    return OK;
}

static void count_repairs(struct prepare_source_report *s, unsigned repairs, int64_t place)
{
    if (repairs & REPAIR_LEADING_REPLY) prepare_tally_add(&s->leading, place, 1);
    if (repairs & REPAIR_TRAILING_QUESTION) prepare_tally_add(&s->trailing, place, 1);
}

static enum status store_part(struct run *r, const struct outcome *o, struct outcome_part *part,
                              struct err *e)
{
    struct prepare_source_report *s = &r->report->sources[r->source];
    part->sample.source = (int32_t)r->source;
    part->sample.line = o->record.place;
    enum status st = store_writer_append(r->writer, &part->sample, e);
    if (st == ERR_DATA || st == ERR_FORMAT) block_place_error(r->file, &o->record, e);
    TRY(st); /* a full disk is no fault of the record */
    count_repairs(s, part->repairs, o->record.place);
    prepare_count_document(&s->counts, &part->sample, r->options->max_length, r->options->pieces);
    return OK;
}

/* What is left out of a tree is a part of its record, or records of the file. */
static enum status store_samples(struct run *r, struct outcome *o, struct err *e)
{
    struct prepare_source_report *s = &r->report->sources[r->source];
    int64_t left_out = (int64_t)o->left_out, records = o->count > 1 ? left_out : 0;
    TRY(store_part(r, o, &o->first, e));
    for (size_t i = 0; i < o->num_more; i++) TRY(store_part(r, o, &o->more[i], e));
    if (records > o->count - 1) records = o->count - 1;
    s->counts.kept += o->count - records;
    if (records) prepare_tally_add(&s->dropped[DROP_LEFT_OUT], o->record.place, records);
    if (left_out > records) prepare_tally_add(&s->left_out, o->record.place, left_out - records);
    return OK;
}

static enum status settle_record(struct run *r, struct outcome *o, struct err *e)
{
    struct prepare_source_report *s = &r->report->sources[r->source];
    s->counts.records += o->count;
    switch (o->kind) {
    case OUTCOME_INVALID: return invalid(r, o, e);
    case OUTCOME_DROPPED:
        prepare_tally_add(&s->dropped[o->drop], o->record.place, o->count);
        return OK;
    case OUTCOME_SAMPLE: return store_samples(r, o, e);
    case OUTCOME_FAILED: break;
    }
    if (!o->err) return err_set(e, ERR_MEMORY, "no memory for the records of %s", s->path);
    *e = *o->err;
    return e->code;
}

/* ---- one source ---- */

static void tell(struct run *r, int64_t offset)
{
    const struct prepare_report *all = r->report;
    struct prepare_progress p = {.source = r->source,
                                 .path = all->sources[r->source].path,
                                 .bytes = r->bytes_before + offset,
                                 .total_bytes = r->total_bytes};
    if (!r->watch) return;
    for (size_t i = 0; i <= r->source; i++) p.documents += all->sources[i].counts.documents;
    r->watch(r->ctx, &p);
}

static int fill(void *ctx, size_t slot)
{
    struct run *r = ctx;
    return block_fill(&r->blocks[slot], &r->feed);
}

static void work(void *ctx, size_t slot, size_t thread)
{
    struct run *r = ctx;
    block_work(&r->blocks[slot], r->file, &r->makers[thread]);
}

static enum status settle(void *ctx, size_t slot, struct err *e)
{
    struct run *r = ctx;
    struct block *b = &r->blocks[slot];
    for (size_t i = 0; i < b->count; i++) TRY(settle_record(r, &b->outcomes[i], e));
    if (b->status) {
        *e = b->err;
        return b->status;
    }
    if (b->offset >= r->next_tell) {
        tell(r, b->offset);
        r->next_tell = b->offset + r->tell_step;
    }
    return OK;
}

/* How a source's file is read. */
static struct jsonl_options reading(const struct prepare_options *o, size_t source)
{
    return (struct jsonl_options){o->max_record, o->sources[source].unit};
}

/* An encoder a thread, for the source's template. */
static enum status open_encoders(struct run *r, size_t source, struct err *e)
{
    const struct prepare_options *o = r->options;
    const struct encode_options encode = {o->train_on, o->tokenize_whole, o->compat, o->max_length};
    const struct template *own = o->sources[source].template, *t = own ? own : o->template;
    for (size_t i = 0; i < r->threads; i++) {
        encoder_destroy(r->makers[i].encoder);
        TRY(encoder_create(&r->makers[i].encoder, t, o->tokenizer, &encode, e));
    }
    return OK;
}

static enum status add_source(struct run *r, size_t source, struct err *e)
{
    TRY(open_encoders(r, source, e));
    struct prepare_source_report *s = &r->report->sources[source];
    const struct crew_job job = {r, fill, work, settle};
    int64_t size = io_file_size(s->path);
    r->source = source;
    r->next_tell = 0;
    r->tell_step = size / 100 + 1;
    const struct jsonl_options options = reading(r->options, source);
    TRY(jsonl_open(&r->file, s->path, &options, e));
    s->is_array = jsonl_is_array(r->file);
    feed_init(&r->feed, r->file, s->format);
    for (size_t i = 0; i < r->threads; i++) {
        r->makers[i].format = s->format;
        r->makers[i].names = &r->options->sources[source].names;
    }
    enum status st = crew_run(&job, r->threads, e);
    if (!st) tell(r, jsonl_offset(r->file));
    if (size > 0) r->bytes_before += size;
    prepare_counts_add(&r->report->total, &s->counts);
    feed_free(&r->feed);
    jsonl_close(r->file);
    r->file = NULL;
    return st;
}

/* ---- setup ---- */

static enum status unknown_format(const char *path, const char *name, struct err *e)
{
    char known[300] = "auto";
    size_t at = strlen(known);
    for (size_t i = 0; format_at(i) && at < sizeof known; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, ", %s", format_at(i)->name);
    err_set(e, ERR_CONFIG, "%s: unknown format \"%s\"", path, name);
    return err_hint(e, "known are %s", known);
}

/* Without a template a text is learned as it is, also one with turns in it. */
static const struct format *as_read(const struct prepare_options *o, size_t i,
                                    const struct format *found)
{
    int talks = o->template || o->sources[i].template;
    return talks || strcmp(found->name, "guanaco") != 0 ? found : format_find("text");
}

static enum status choose_format(const struct prepare_options *o, size_t i,
                                 struct prepare_source_report *s, struct err *e)
{
    const char *name = o->sources[i].format;
    s->detected = !name || !strcasecmp(name, "auto");
    if (s->detected) {
        const struct jsonl_options options = reading(o, i);
        TRY(format_detect(s->path, &options, &o->sources[i].names, &s->format, e));
        s->format = as_read(o, i, s->format);
        log_notice("%s: format %s %s", s->path, s->format->name, s->format->fields);
        return OK;
    }
    return (s->format = format_find(name)) ? OK : unknown_format(s->path, name, e);
}

/* All sources hold what the run is for, or else what the first one holds. */
static enum status check_kind(const struct run *r, size_t i, struct err *e)
{
    static const char *const fixes[NUM_KINDS] = {"set stage: sft, or name files of preferences",
                                                 "set stage: dpo", "set stage: kto"};
    const struct prepare_source_report *s = &r->report->sources[i];
    enum record_kind has = s->format->kind, want = r->report->kind;
    if (has == want) return OK;
    err_at(e, ERR_DATA, s->path, 0, 0, "holds %s (format %s), %s %s", kind_about(has),
           s->format->name,
           r->options->kind == PREPARE_ANY_KIND ? "the sources before it" : "this run wants",
           kind_about(want));
    if (r->options->kind == PREPARE_ANY_KIND)
        return err_hint(e, "prepare them apart: a dataset file holds records of one kind");
    if (want == KIND_SFT && s->detected)
        return err_hint(e, "%s; to learn its texts instead, name their format", fixes[has]);
    return err_hint(e, "%s", fixes[has]);
}

static enum status describe_sources(struct run *r, struct err *e)
{
    const struct prepare_options *o = r->options;
    struct prepare_report *report = r->report;
    if (!o->num_sources) {
        err_set(e, ERR_CONFIG, "no dataset is named");
        return err_hint(e, "list at least one file under datasets, or give --data FILE");
    }
    report->max_length = o->max_length;
    report->pieces = o->pieces;
    report->sources = mem_calloc(o->num_sources, sizeof *report->sources);
    if (!report->sources) return err_set(e, ERR_MEMORY, "no memory for the report");
    report->num_sources = o->num_sources;
    for (size_t i = 0; i < o->num_sources; i++) {
        struct prepare_source_report *s = &report->sources[i];
        if (!(s->path = mem_strdup(o->sources[i].path)))
            return err_set(e, ERR_MEMORY, "no memory for the report");
        TRY(choose_format(o, i, s, e));
        if (!i)
            report->kind =
                o->kind == PREPARE_ANY_KIND ? s->format->kind : (enum record_kind)o->kind;
        TRY(check_kind(r, i, e));
        TRY(hash_file(s->path, s->hash, e));
        int64_t size = io_file_size(s->path);
        r->total_bytes += size > 0 ? size : 0;
    }
    return OK;
}

const char *prepare_compat(enum compat compat, int32_t max_length, char out[PREPARE_COMPAT_SIZE])
{
    static const char *const names[] = {"", "fastchat", "trl"};
    if (compat != COMPAT_FASTCHAT) return names[compat];
    snprintf(out, PREPARE_COMPAT_SIZE, "%s %d", names[compat], (int)max_length);
    return out;
}

static enum status open_writer(struct run *r, const char *out, struct err *e)
{
    const struct prepare_options *o = r->options;
    char hash[HASH_HEX_SIZE] = "", compat[PREPARE_COMPAT_SIZE];
    if (o->template) TRY(template_hash(o->template, hash, e));
    struct store_settings settings = {
        .tokenizer_hash = tokenizer_hash(o->tokenizer),
        .template_name = o->template ? o->template->name : "",
        .template_hash = hash,
        .train_on = train_on_name(o->train_on),
        .compat = prepare_compat(o->compat, o->max_length, compat),
        .tokenize_whole = o->tokenize_whole || o->compat == COMPAT_FASTCHAT,
        .vocab_size = tokenizer_vocab_size(o->tokenizer),
        .kind = r->report->kind,
    };
    struct store_source *sources = mem_calloc(o->num_sources, sizeof *sources);
    if (!sources) return err_set(e, ERR_MEMORY, "no memory for %zu sources", o->num_sources);
    for (size_t i = 0; i < o->num_sources; i++) {
        const struct prepare_source_report *s = &r->report->sources[i];
        sources[i] = (struct store_source){base_name(s->path), s->path, s->hash};
    }
    enum status st = store_writer_open(&r->writer, out, &settings, sources, o->num_sources, e);
    mem_free(sources);
    return st;
}

static enum status open_crew(struct run *r, struct err *e)
{
    const struct prepare_options *o = r->options;
    r->threads = crew_threads(o->threads);
    r->num_slots = crew_slots(r->threads);
    r->makers = mem_calloc(r->threads, sizeof *r->makers);
    r->blocks = mem_calloc(r->num_slots, sizeof *r->blocks);
    if (!r->makers || !r->blocks) return err_set(e, ERR_MEMORY, "no memory to prepare");
    for (size_t i = 0; i < r->num_slots; i++) block_init(&r->blocks[i]);
    return OK;
}

static void close_crew(struct run *r)
{
    for (size_t i = 0; r->makers && i < r->threads; i++) {
        encoder_destroy(r->makers[i].encoder);
        conversation_free(&r->makers[i].conversation);
    }
    for (size_t i = 0; r->blocks && i < r->num_slots; i++) block_free(&r->blocks[i]);
    mem_free(r->makers);
    mem_free(r->blocks);
}

/* ---- the whole ---- */

/* Nothing was kept: says what became of the records instead. */
static enum status nothing_left(const struct prepare_report *report, struct err *e)
{
    char why[320] = "";
    size_t at = 0;
    for (int reason = 1; reason < NUM_DROP_REASONS; reason++) {
        int64_t n = 0;
        for (size_t i = 0; i < report->num_sources; i++)
            n += report->sources[i].dropped[reason].count;
        if (n && at < sizeof why)
            at += (size_t)snprintf(why + at, sizeof why - at, "%s%lld: %s", at ? "; " : "",
                                   (long long)n, drop_text((enum drop_reason)reason));
    }
    err_at(e, ERR_DATA, report->num_sources == 1 ? report->sources[0].path : NULL, 0, 0,
           "no document is left of %lld records%s%s", (long long)report->total.records,
           why[0] ? ": " : "", why);
    return err_hint(e, "check that the format is the right one for these files");
}

static enum status commit(struct run *r, struct err *e)
{
    struct buf json;
    if (!r->report->total.documents) return nothing_left(r->report, e);
    buf_init(&json, REPORT_JSON_MAX);
    enum status st = prepare_report_json(r->report, &json);
    if (st)
        err_set(e, st, "the prepare report could not be written");
    else
        st = store_writer_commit(r->writer, json.data, e);
    buf_free(&json);
    return st;
}

enum status prepare_dataset(const struct prepare_options *options, const char *out,
                            struct prepare_report *report, prepare_watcher *watch, void *ctx,
                            struct err *e)
{
    struct run r = {.options = options, .report = report, .watch = watch, .ctx = ctx};
    enum status st = describe_sources(&r, e);
    if (!st) st = open_crew(&r, e);
    if (!st) st = open_writer(&r, out, e);
    for (size_t i = 0; !st && i < options->num_sources; i++) st = add_source(&r, i, e);
    if (!st) st = commit(&r, e);
    store_writer_close(r.writer);
    close_crew(&r);
    return st;
}

enum status prepare_cache_key(const struct prepare_options *o, char out[HASH_HEX_SIZE],
                              struct err *e)
{
    char hash[HASH_HEX_SIZE] = "", compat[PREPARE_COMPAT_SIZE];
    enum status st = OK;
    struct hasher *h = hasher_create();
    if (!h) return err_set(e, ERR_MEMORY, "no memory to hash the sources");
    hasher_u64(h, STORE_FORMAT_VERSION);
    hasher_string(h, tokenizer_hash(o->tokenizer));
    if (o->template) st = template_hash(o->template, hash, e);
    hasher_string(h, hash);
    hasher_string(h, train_on_name(o->train_on));
    hasher_string(h, prepare_compat(o->compat, o->max_length, compat));
    hasher_u64(h, (uint64_t)(o->tokenize_whole != 0));
    hasher_u64(h, (uint64_t)(o->skip_bad != 0));
    hasher_u64(h, (uint64_t)(int64_t)o->kind);
    hasher_u64(h, o->max_record);
    hasher_u64(h, o->num_sources);
    for (size_t i = 0; !st && i < o->num_sources; i++) {
        const char *format = o->sources[i].format;
        st = hash_file(o->sources[i].path, hash, e);
        hasher_string(h, hash);
        hasher_string(h, format ? format : "auto");
        hasher_u64(h, o->sources[i].unit);
        if (!st && o->sources[i].template) st = template_hash(o->sources[i].template, hash, e);
        hasher_string(h, o->sources[i].template ? hash : "");
        hasher_u64(h, o->sources[i].names.n);
        for (size_t k = 0; k < o->sources[i].names.n; k++) {
            hasher_string(h, o->sources[i].names.items[k].ours);
            hasher_string(h, o->sources[i].names.items[k].theirs);
        }
    }
    if (!st) hasher_hex(h, out);
    hasher_destroy(h);
    return st;
}
