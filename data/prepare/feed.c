#include "data/prepare/feed.h"

#include <stdint.h>
#include <string.h>

#include "base/json.h"

static const char open_group[] = "{\"messages\":[", close_group[] = "]}";

void feed_init(struct feed *f, struct jsonl *file, const struct format *format)
{
    *f = (struct feed){.file = file};
    if (jsonl_is_json(file)) f->group_by = format->group_by;
    buf_init(&f->group, SIZE_MAX / 4);
    buf_init(&f->key, SIZE_MAX / 4);
    buf_init(&f->next, SIZE_MAX / 4);
    buf_init(&f->next_key, SIZE_MAX / 4);
}

void feed_free(struct feed *f)
{
    buf_free(&f->group);
    buf_free(&f->key);
    buf_free(&f->next);
    buf_free(&f->next_key);
}

static enum status no_memory(const struct feed *f, struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for the records of %s", jsonl_path(f->file));
}

/* Whether the record is one message of several, and what it has in common with the others. */
static enum status look_at(struct feed *f, struct err *e)
{
    struct err ignored = {0};
    json_t *record = NULL;
    enum status s = json_parse_text(f->next.data, f->next.len, "", &record, &ignored);
    if (s == ERR_MEMORY) return no_memory(f, e);
    const char *key = json_string_value(json_object_get(record, f->group_by));
    f->flat = json_is_string(json_object_get(record, "message_id")) &&
              !json_array_size(json_object_get(record, "replies"));
    f->child = json_is_string(json_object_get(record, "parent_id"));
    buf_clear(&f->next_key);
    s = key ? buf_puts(&f->next_key, key) : OK;
    json_decref(record);
    return s ? no_memory(f, e) : OK;
}

/* Finds the record behind the group. What goes wrong is told when that is asked for. */
static void look_ahead(struct feed *f)
{
    struct jsonl_text text;
    f->ahead = 1;
    f->flat = 0;
    f->status = jsonl_find(f->file, &f->next_record, &text, &f->err);
    if (f->status || f->next_record.kind != JSONL_RECORD) return;
    buf_clear(&f->next);
    f->next_column = text.column;
    if (buf_append(&f->next, text.data, text.n))
        f->status = no_memory(f, &f->err);
    else
        f->status = look_at(f, &f->err);
}

static int belongs(const struct feed *f, size_t max_group)
{
    if (f->status || f->next_record.kind != JSONL_RECORD || !f->flat) return 0;
    if (f->group.len + f->next.len > max_group) return 0;
    if (!f->next_key.len) return f->child;
    return f->key.len == f->next_key.len && !memcmp(f->key.data, f->next_key.data, f->key.len);
}

/* Puts the record that was looked at into the group, and looks at the one behind it. */
static enum status take(struct feed *f, struct err *e)
{
    if (buf_puts(&f->group, f->group.len ? "," : open_group) ||
        buf_append(&f->group, f->next.data, f->next.len))
        return no_memory(f, e);
    look_ahead(f);
    return OK;
}

static enum status find_group(struct feed *f, int64_t *count, struct err *e)
{
    *count = 1;
    buf_clear(&f->group);
    buf_clear(&f->key);
    if (f->next_key.len && buf_append(&f->key, f->next_key.data, f->next_key.len))
        return no_memory(f, e);
    TRY(take(f, e));
    for (; belongs(f, JSONL_MAX_RECORD); ++*count) TRY(take(f, e));
    return buf_puts(&f->group, close_group) ? no_memory(f, e) : OK;
}

enum status feed_find(struct feed *f, struct jsonl_record *out, struct jsonl_text *text,
                      int64_t *count, struct err *e)
{
    *count = 1;
    if (!f->group_by) return jsonl_find(f->file, out, text, e);
    if (!f->ahead) look_ahead(f);
    *out = f->next_record;
    if (f->status || f->next_record.kind != JSONL_RECORD) {
        f->ahead = 0;
        if (f->status || f->next_record.kind == JSONL_BAD) *e = f->err;
        return f->status;
    }
    if (f->flat) {
        TRY(find_group(f, count, e));
        *text = (struct jsonl_text){f->group.data, f->group.len, 1};
        return OK;
    }
    f->ahead = 0;
    *text = (struct jsonl_text){f->next.data, f->next.len, f->next_column};
    return OK;
}
