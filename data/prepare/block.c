#include "data/prepare/block.h"

#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"

#define KEPT_IDS 4096       /* a longer sample's memory is given back */
#define KEPT_TEXT (1 << 20) /* and a larger text's */

void block_init(struct block *b)
{
    *b = (struct block){0};
    buf_init(&b->text, SIZE_MAX / 4);
}

static void free_more(struct outcome *o)
{
    for (size_t i = 0; i < o->num_more; i++) sample_free(&o->more[i].sample);
    mem_free(o->more);
    o->more = NULL;
    o->num_more = o->cap_more = 0;
}

void block_free(struct block *b)
{
    for (size_t i = 0; i < BLOCK_RECORDS; i++) {
        sample_free(&b->outcomes[i].first.sample);
        free_more(&b->outcomes[i]);
        mem_free(b->outcomes[i].err);
    }
    buf_free(&b->text);
}

static void reuse(struct block *b)
{
    for (size_t i = 0; i < b->count; i++) {
        struct outcome *o = &b->outcomes[i];
        mem_free(o->err);
        o->err = NULL;
        free_more(o);
        if (o->first.sample.cap > KEPT_IDS) sample_free(&o->first.sample);
    }
    if (b->text.cap > KEPT_TEXT) buf_free(&b->text);
    buf_clear(&b->text);
    b->count = 0;
    b->status = OK;
    b->err = (struct err){0};
}

static void keep_error(struct outcome *o, enum outcome_kind kind, const struct err *e)
{
    o->kind = kind;
    o->err = mem_alloc(sizeof *o->err);
    if (o->err)
        *o->err = *e;
    else
        o->kind = OUTCOME_FAILED;
}

static enum status find_record(struct block *b, struct feed *f, int *end)
{
    struct outcome *o = &b->outcomes[b->count];
    struct jsonl_text text = {0};
    struct err e = {0};
    enum status s = feed_find(f, &o->record, &text, &o->count, &b->err);
    *end = s || o->record.kind == JSONL_END;
    if (*end) return s;
    if (o->record.kind == JSONL_BAD) {
        e = b->err;
        b->err = (struct err){0};
        keep_error(o, OUTCOME_INVALID, &e);
    } else if (buf_append(&b->text, text.data, text.n)) {
        return err_set(&b->err, ERR_MEMORY, "no memory for the records of %s", jsonl_path(f->file));
    }
    b->columns[b->count] = text.column;
    b->starts[++b->count] = b->text.len;
    return OK;
}

int block_fill(struct block *b, struct feed *f)
{
    int end = 0;
    reuse(b);
    while (!end && !b->status && b->count < BLOCK_RECORDS && b->text.len < BLOCK_BYTES)
        b->status = find_record(b, f, &end);
    b->offset = jsonl_offset(f->file);
    return b->count || b->status;
}

void block_place_error(const struct jsonl *j, const struct jsonl_record *record, struct err *e)
{
    snprintf(e->file, sizeof e->file, "%s", jsonl_path(j));
    e->line = (long)record->line;
    if (jsonl_is_array(j)) err_wrap(e, "record %lld", (long long)record->number);
}

static int is_trained(const struct sample *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->weights[i] != 0) return 1;
    return 0;
}

/* Room for one more document. */
static struct outcome_part *next_part(struct outcome *o)
{
    if (o->num_more == o->cap_more) {
        size_t cap = o->cap_more ? 2 * o->cap_more : 4;
        struct outcome_part *p = mem_resize(o->more, cap, sizeof *p);
        if (!p) return NULL;
        o->more = p;
        o->cap_more = cap;
    }
    o->more[o->num_more] = (struct outcome_part){0};
    return &o->more[o->num_more++];
}

/* The conversation's document; c->drop says why it is none. */
static enum status make_part(struct outcome_part *part, struct block_maker *maker, struct err *e)
{
    struct conversation *c = &maker->conversation;
    if (c->drop) return OK;
    TRY(c->kind == KIND_SFT ? encoder_sample(maker->encoder, c, &part->sample, e)
                            : encoder_preference(maker->encoder, c, &part->sample, e));
    if (!c->drop && !is_trained(&part->sample)) c->drop = DROP_NOT_TRAINED;
    part->repairs = c->repairs;
    return OK;
}

/* The record's conversations but the first, if it has more. */
static enum status make_more(struct outcome *o, const json_t *value, struct block_maker *maker,
                             struct err *e)
{
    struct conversation *c = &maker->conversation;
    while (c->more) {
        TRY(format_next(maker->format, value, c, e));
        struct outcome_part *part = o->kind == OUTCOME_SAMPLE ? next_part(o) : &o->first;
        if (!part) return err_set(e, ERR_MEMORY, "no memory for a record's documents");
        TRY(make_part(part, maker, e));
        o->left_out += c->drop != DROP_NONE;
        if (!c->drop)
            o->kind = OUTCOME_SAMPLE;
        else if (o->kind == OUTCOME_SAMPLE)
            sample_free(&o->more[--o->num_more].sample);
    }
    return OK;
}

static enum status make_samples(struct outcome *o, json_t *value, struct block_maker *maker,
                                struct err *e)
{
    struct conversation *c = &maker->conversation;
    TRY(format_rename(maker->names, maker->format->sharegpt, value, e));
    TRY(format_convert(maker->format, value, c, e));
    TRY(make_part(&o->first, maker, e));
    o->drop = c->drop;
    o->kind = c->drop ? OUTCOME_DROPPED : OUTCOME_SAMPLE;
    o->left_out = c->more && c->drop;
    TRY(make_more(o, value, maker, e));
    o->left_out += c->left_out;
    return OK;
}

/* Of the invalid records in a block only the first one's message can be shown. */
static void note_failure(struct outcome *o, enum status s, int first, const struct err *e)
{
    if (s != ERR_FORMAT && s != ERR_DATA)
        keep_error(o, OUTCOME_FAILED, e);
    else if (first)
        keep_error(o, OUTCOME_INVALID, e);
    else
        o->kind = OUTCOME_INVALID;
}

void block_work(struct block *b, const struct jsonl *j, struct block_maker *maker)
{
    int invalid = 0;
    for (size_t i = 0; i < b->count; i++) {
        struct outcome *o = &b->outcomes[i];
        struct err e = {0};
        json_t *value = NULL;
        if (o->record.kind == JSONL_BAD) {
            invalid = 1;
            continue;
        }
        struct jsonl_text text = {b->text.data + b->starts[i], b->starts[i + 1] - b->starts[i],
                                  b->columns[i]};
        enum status s = jsonl_parse(j, &text, &o->record, &value, &e);
        if (!s && o->record.kind == JSONL_BAD) {
            s = e.code;
        } else if (!s) {
            s = make_samples(o, value, maker, &e);
            if (s) block_place_error(j, &o->record, &e);
        }
        o->record.value = NULL;
        json_decref(value);
        if (!s) continue;
        note_failure(o, s, !invalid, &e);
        invalid = 1;
    }
}
