#include "data/formats/fields.h"

#include <stdint.h>
#include <string.h>

#include "base/json.h"

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

/* ---- what a message holds ---- */

/* What a message's reply counts. */
static enum status message_weight(const json_t *message, float *out, struct err *e)
{
    static const char *const keys[] = {"weight", "loss_weight", "train", "training"};
    if (json_object_size(message) <= 2) return OK; /* role and text, nothing else */
    if (record_has(message, "train_detail")) {
        err_set(e, ERR_FORMAT, "\"train_detail\": parts of a message cannot be left untrained");
        return err_hint(e, "split the message, or give it one weight");
    }
    const json_t *loss = json_object_get(message, "loss"); /* a number there is no weight */
    if (json_is_boolean(loss)) *out = (float)json_is_true(loss);
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

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for a message");
}

/* A copy that lives as long as the conversation. */
static enum status keep_text(struct conversation *c, const struct buf *text, struct text *out,
                             struct err *e)
{
    struct buf *b = conversation_block(c, text->len);
    if (!b || buf_append(b, text->data, text->len)) return no_memory(e);
    *out = (struct text){b->data, b->len};
    return OK;
}

/* The text of one content part: {"type": "text", "text" or "value": ...}. What is no text sets
 * c->drop. */
static enum status part_text(const json_t *part, struct conversation *c, struct text *out,
                             struct err *e)
{
    static const char *const types[] = {"", "text", "input_text", "output_text"};
    struct text type;
    if (!json_is_object(part)) return err_set(e, ERR_FORMAT, "a content part is no object");
    TRY(record_field(part, "type", 0, &type, e));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (text_same(type, (struct text){types[i], strlen(types[i])}))
            return record_field(part, record_has(part, "value") ? "value" : "text", 1, out, e);
    c->drop = DROP_NOT_TEXT;
    return OK;
}

/* The parts of a content list, glued together. */
static enum status join_parts(const json_t *parts, struct conversation *c, struct text *out,
                              struct err *e)
{
    size_t n = json_array_size(parts), total = 0;
    struct text part;
    *out = (struct text){"", 0};
    if (n == 1) return part_text(json_array_get(parts, 0), c, out, e);
    for (size_t i = 0; i < n && !c->drop; i++) {
        TRY(part_text(json_array_get(parts, i), c, &part, e));
        total += part.n;
    }
    if (c->drop) return OK;
    struct buf *b = conversation_block(c, total);
    if (!b) return no_memory(e);
    for (size_t i = 0; i < n; i++) {
        TRY(part_text(json_array_get(parts, i), c, &part, e));
        if (buf_append(b, part.data, part.n)) return no_memory(e);
    }
    *out = (struct text){b->data, b->len};
    return OK;
}

/* ---- tools ---- */

/* Appends {"name": ..., "arguments": ...}; arguments that are text are JSON already. */
static enum status append_call(struct buf *out, const json_t *call, struct err *e)
{
    const json_t *function = json_object_get(call, "function");
    if (!function) function = call;
    const json_t *name = json_object_get(function, "name");
    const json_t *arguments = json_object_get(function, "arguments");
    const char *text = json_string_value(arguments);
    if (!json_is_string(name)) {
        err_set(e, ERR_FORMAT, "a tool's call has no name");
        return err_hint(e, "a call looks like {\"function\": {\"name\": ..., \"arguments\": ...}}");
    }
    if (out->len && buf_putc(out, '\n')) return no_memory(e);
    if (buf_puts(out, "{\"name\": ")) return no_memory(e);
    TRY(json_append_text(name, out, e));
    if (buf_puts(out, ", \"arguments\": ")) return no_memory(e);
    if (text && *text) {
        if (buf_append(out, text, json_string_length(arguments))) return no_memory(e);
    } else if (arguments && !text && !json_is_null(arguments)) {
        TRY(json_append_text(arguments, out, e));
    } else if (buf_puts(out, "{}")) {
        return no_memory(e);
    }
    return buf_putc(out, '}') ? no_memory(e) : OK;
}

static int has_calls(const json_t *message)
{
    return record_has(message, "tool_calls") || record_has(message, "function_call");
}

/* Puts a message's calls behind its text. */
static enum status add_calls(const json_t *message, struct conversation *c, struct text *text,
                             struct err *e)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    const json_t *call = json_object_get(message, "function_call");
    struct buf all;
    enum status s = OK;
    if (calls && !json_is_null(calls) && !json_is_array(calls))
        return err_set(e, ERR_FORMAT, "\"tool_calls\" is no list");
    if (!json_array_size(calls) && !json_is_object(call)) return OK;
    buf_init(&all, SIZE_MAX / 4);
    if (text->n && buf_append(&all, text->data, text->n)) s = no_memory(e);
    for (size_t i = 0; !s && i < json_array_size(calls); i++)
        s = append_call(&all, json_array_get(calls, i), e);
    if (!s && json_is_object(call)) s = append_call(&all, call, e);
    if (!s) s = keep_text(c, &all, text, e);
    buf_free(&all);
    return s;
}

/* Where the descriptions of tools go. */
static enum status find_system(struct conversation *c, struct turn **out, struct err *e)
{
    if (!c->num_turns || c->turns[0].role != ROLE_SYSTEM) {
        TRY(record_add(c, ROLE_SYSTEM, (struct text){"", 0}, e));
        struct turn system = c->turns[c->num_turns - 1];
        memmove(&c->turns[1], &c->turns[0], (c->num_turns - 1) * sizeof system);
        c->turns[0] = system;
    }
    *out = &c->turns[0];
    return OK;
}

enum status record_add_tools(const json_t *record, struct conversation *c, struct err *e)
{
    const json_t *tools = json_object_get(record, "tools");
    if (!tools || json_is_null(tools)) tools = json_object_get(record, "functions");
    struct text text = {json_string_value(tools), json_string_length(tools)};
    struct turn *system;
    struct buf all;
    if (c->drop || !tools || json_is_null(tools)) return OK;
    if (json_is_string(tools)
            ? text_is_blank(text) || text_same(text_strip(text), (struct text){"[]", 2})
            : json_is_array(tools) && !json_array_size(tools))
        return OK;
    TRY(find_system(c, &system, e));
    buf_init(&all, SIZE_MAX / 4);
    enum status s = buf_append(&all, system->text.data, system->text.n);
    if (!s) s = buf_puts(&all, system->text.n ? "\n\nTools:\n" : "Tools:\n");
    if (!s) s = text.data ? buf_append(&all, text.data, text.n) : json_append_text(tools, &all, e);
    s = s ? no_memory(e) : keep_text(c, &all, &system->text, e);
    buf_free(&all);
    return s;
}

/* ---- messages ---- */

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
    int calls = role == ROLE_ASSISTANT && (!content || json_object_size(message) > 2);
    if (json_is_array(content))
        TRY(join_parts(content, c, &text, e));
    else
        TRY(record_field(message, keys.text, !calls || !has_calls(message), &text, e));
    if (c->drop) return OK;
    if (calls) TRY(add_calls(message, c, &text, e));
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

/* ---- transcripts ---- */

static int begins(struct text t, const char *marker)
{
    size_t n = strlen(marker);
    return t.n >= n && !memcmp(t.data, marker, n);
}

size_t transcript_next(struct text t, struct markers m, size_t *length, enum role *role)
{
    for (size_t i = 0; i < t.n; i++) {
        struct text rest = {t.data + i, t.n - i};
        *role = begins(rest, m.user) ? ROLE_USER : ROLE_ASSISTANT;
        *length = strlen(*role == ROLE_USER ? m.user : m.assistant);
        if (*role == ROLE_USER || begins(rest, m.assistant)) return i;
    }
    *length = 0;
    return t.n;
}

enum status record_add_transcript(struct text t, struct markers m, struct conversation *c,
                                  struct err *e)
{
    enum role role, next;
    size_t length, at = transcript_next(t, m, &length, &role);
    if (!text_is_blank((struct text){t.data, at})) {
        c->drop = DROP_UNKNOWN_ROLE; /* something that nobody says */
        return OK;
    }
    while (at < t.n) {
        t = (struct text){t.data + at + length, t.n - at - length};
        at = transcript_next(t, m, &length, &next);
        struct text said = text_strip((struct text){t.data, at});
        if (at == t.n && !said.n) return OK;
        TRY(record_add(c, role, said, e));
        role = next;
    }
    return OK;
}
