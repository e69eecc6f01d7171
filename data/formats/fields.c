#include "data/formats/fields.h"

#include <string.h>

#include "base/size.h"

/* ---- fields ---- */

int record_has(const json_t *record, const char *key)
{
    const json_t *v = json_object_get(record, key);
    return v && !json_is_null(v);
}

enum status record_field(const json_t *object, const char *key, int required, struct text *out,
                         struct err *e)
{
    const json_t *v = json_object_get(object, key);
    *out = (struct text){"", 0};
    if (!v && required) {
        err_set(e, ERR_FORMAT, "\"%s\" is missing", key);
        return err_hint(e, "name the file's format, or correct the record");
    }
    if (!v || json_is_null(v)) return OK;
    if (!json_is_string(v)) {
        err_set(e, ERR_FORMAT, "\"%s\" is no string", key);
        return err_hint(e, "numbers and lists must be written as text");
    }
    *out = (struct text){json_string_value(v), json_string_length(v)};
    return OK;
}

enum status record_add(struct conversation *c, enum role role, struct text text, struct err *e)
{
    if (conversation_add(c, role, text)) return err_set(e, ERR_MEMORY, "no memory for a record");
    return OK;
}

enum status record_add_system(const json_t *record, const char *key, struct conversation *c,
                              struct err *e)
{
    struct text system;
    TRY(record_field(record, key, 0, &system, e));
    return system.n ? record_add(c, ROLE_SYSTEM, system, e) : OK;
}

/* ---- messages ---- */

/* What a message's reply counts. */
static enum status message_weight(const json_t *message, float *out, struct err *e)
{
    static const char *const keys[] = {"weight", "loss_weight", "train"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *v = json_object_get(message, keys[i]);
        if (!v || json_is_null(v)) continue;
        double w = json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
        if ((!json_is_boolean(v) && !json_is_number(v)) || !(w >= 0 && w <= 1e6)) {
            err_set(e, ERR_FORMAT, "\"%s\" of a message is no number from 0 on", keys[i]);
            return err_hint(e, "0 leaves the message untrained, 1 trains it");
        }
        *out = (float)w;
        return OK;
    }
    return OK;
}

/* The text of one content part: {"type": "text", "text" or "value": ...}. */
static enum status part_text(const json_t *part, struct text *out, struct err *e)
{
    struct text type;
    if (!json_is_object(part)) return err_set(e, ERR_FORMAT, "a content part is no object");
    TRY(record_field(part, "type", 0, &type, e));
    if (type.n && (type.n != 4 || memcmp(type.data, "text", 4))) {
        err_set(e, ERR_FORMAT, "a content part of type \"%.*s\"", (int)size_min(type.n, 40),
                type.data);
        return err_hint(e, "only parts of type text can be trained on");
    }
    return record_field(part, record_has(part, "value") ? "value" : "text", 1, out, e);
}

/* The parts of a content list, glued together. */
static enum status join_parts(const json_t *parts, struct conversation *c, struct text *out,
                              struct err *e)
{
    size_t n = json_array_size(parts), total = 0;
    struct text part;
    *out = (struct text){"", 0};
    if (n == 1) return part_text(json_array_get(parts, 0), out, e);
    for (size_t i = 0; i < n; i++) {
        TRY(part_text(json_array_get(parts, i), &part, e));
        total += part.n;
    }
    struct buf *b = conversation_block(c, total);
    if (!b) return err_set(e, ERR_MEMORY, "no memory for a message");
    for (size_t i = 0; i < n; i++) {
        TRY(part_text(json_array_get(parts, i), &part, e));
        if (buf_append(b, part.data, part.n))
            return err_set(e, ERR_MEMORY, "no memory for a message");
    }
    *out = (struct text){b->data, b->len};
    return OK;
}

const struct message_keys openai_keys = {"role", "content"}, sharegpt_keys = {"from", "value"};

enum status record_add_message(const json_t *message, struct message_keys keys,
                               struct conversation *c, struct err *e)
{
    struct text name, text;
    enum role role;
    if (!json_is_object(message)) return err_set(e, ERR_FORMAT, "a message is no object");
    TRY(record_field(message, keys.role, 1, &name, e));
    if (!role_find(name, &role)) {
        c->drop = DROP_UNKNOWN_ROLE;
        return OK;
    }
    const json_t *content = json_object_get(message, keys.text);
    if (json_is_array(content))
        TRY(join_parts(content, c, &text, e));
    else
        TRY(record_field(message, keys.text, 1, &text, e));
    TRY(record_add(c, role, text, e));
    return message_weight(message, &c->turns[c->num_turns - 1].weight, e);
}

enum status record_add_messages(const json_t *object, const char *key, struct message_keys keys,
                                struct conversation *c, struct err *e)
{
    const json_t *list = json_object_get(object, key);
    if (!json_is_array(list)) {
        err_set(e, ERR_FORMAT, list ? "\"%s\" is no list" : "\"%s\" is missing", key);
        return err_hint(e, "name the file's format, or correct the record");
    }
    for (size_t i = 0; i < json_array_size(list) && !c->drop; i++)
        if (record_add_message(json_array_get(list, i), keys, c, e))
            return err_wrap(e, "message %zu of \"%s\"", i + 1, key);
    return OK;
}
