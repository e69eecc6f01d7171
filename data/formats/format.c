#include "data/formats/format.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/size.h"
#include "data/jsonl/jsonl.h"

/* ---- fields ---- */

static int has(const json_t *record, const char *key)
{
    const json_t *v = json_object_get(record, key);
    return v && !json_is_null(v);
}

/* A string field; null is "". ERR_FORMAT when it is something else, or absent though required. */
static enum status field(const json_t *object, const char *key, int required, struct text *out,
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

static enum status add(struct conversation *c, enum role role, struct text text, struct err *e)
{
    if (conversation_add(c, role, text)) return err_set(e, ERR_MEMORY, "no memory for a record");
    return OK;
}

/* The system turn of a field that may be absent; an empty one says nothing. */
static enum status add_system(const json_t *record, const char *key, struct conversation *c,
                              struct err *e)
{
    struct text system;
    TRY(field(record, key, 0, &system, e));
    return system.n ? add(c, ROLE_SYSTEM, system, e) : OK;
}

/* ---- roles ---- */

static const struct {
    const char *name;
    enum role role;
} roles[] = {
    {"human", ROLE_USER},          {"user", ROLE_USER},         {"gpt", ROLE_ASSISTANT},
    {"assistant", ROLE_ASSISTANT}, {"chatgpt", ROLE_ASSISTANT}, {"bard", ROLE_ASSISTANT},
    {"bing", ROLE_ASSISTANT},      {"model", ROLE_ASSISTANT},   {"system", ROLE_SYSTEM},
    {"prompter", ROLE_USER},       {"developer", ROLE_SYSTEM},
};

static enum role role_of(struct text name, int *known)
{
    *known = 1;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (name.n == strlen(roles[i].name) && !memcmp(name.data, roles[i].name, name.n))
            return roles[i].role;
    *known = 0;
    return ROLE_TOOL;
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
    TRY(field(part, "type", 0, &type, e));
    if (type.n && (type.n != 4 || memcmp(type.data, "text", 4))) {
        err_set(e, ERR_FORMAT, "a content part of type \"%.*s\"", (int)size_min(type.n, 40),
                type.data);
        return err_hint(e, "only parts of type text can be trained on");
    }
    return field(part, has(part, "value") ? "value" : "text", 1, out, e);
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

/* One {from, value} or {role, content}. */
static enum status add_message(const json_t *message, const char *role_key, const char *text_key,
                               struct conversation *c, struct err *e)
{
    struct text name, text;
    int known;
    if (!json_is_object(message)) return err_set(e, ERR_FORMAT, "a message is no object");
    TRY(field(message, role_key, 1, &name, e));
    enum role role = role_of(name, &known);
    if (!known) {
        c->drop = DROP_UNKNOWN_ROLE;
        return OK;
    }
    const json_t *content = json_object_get(message, text_key);
    if (json_is_array(content))
        TRY(join_parts(content, c, &text, e));
    else
        TRY(field(message, text_key, 1, &text, e));
    TRY(add(c, role, text, e));
    return message_weight(message, &c->turns[c->num_turns - 1].weight, e);
}

static enum status add_messages(const json_t *record, const char *key, const char *role_key,
                                const char *text_key, struct conversation *c, struct err *e)
{
    const json_t *list = json_object_get(record, key);
    if (!json_is_array(list)) {
        err_set(e, ERR_FORMAT, list ? "\"%s\" is no list" : "\"%s\" is missing", key);
        return err_hint(e, "name the file's format, or correct the record");
    }
    for (size_t i = 0; i < json_array_size(list) && !c->drop; i++)
        if (add_message(json_array_get(list, i), role_key, text_key, c, e))
            return err_wrap(e, "message %zu of \"%s\"", i + 1, key);
    return OK;
}

/* ---- the rows ---- */

static int preference(const json_t *r)
{
    return has(r, "chosen") || has(r, "rejected") || has(r, "label") || has(r, "kto_tag");
}

static int detect_alpaca(const json_t *r)
{
    return json_object_get(r, "instruction") && json_object_get(r, "output")
               ? 2 + !!json_object_get(r, "input")
               : 0;
}

static enum status convert_alpaca(const json_t *r, struct conversation *c, struct err *e)
{
    struct text instruction, input, output;
    TRY(add_system(r, "system", c, e));
    TRY(field(r, "instruction", 1, &instruction, e));
    TRY(field(r, "input", 0, &input, e));
    TRY(field(r, "output", 1, &output, e));
    TRY(add(c, ROLE_USER, instruction, e));
    c->turns[c->num_turns - 1].input = input;
    return add(c, ROLE_ASSISTANT, output, e);
}

static int detect_sharegpt(const json_t *r)
{
    return json_is_array(json_object_get(r, "conversations")) ? 3 : 0;
}

static enum status convert_sharegpt(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(add_system(r, "system", c, e));
    return add_messages(r, "conversations", "from", "value", c, e);
}

static int detect_openorca(const json_t *r)
{
    return json_object_get(r, "question") && json_object_get(r, "response")
               ? 2 + !!json_object_get(r, "system_prompt")
               : 0;
}

static enum status convert_openorca(const json_t *r, struct conversation *c, struct err *e)
{
    struct text question, response;
    TRY(add_system(r, "system_prompt", c, e));
    TRY(field(r, "question", 1, &question, e));
    TRY(field(r, "response", 1, &response, e));
    TRY(add(c, ROLE_USER, question, e));
    return add(c, ROLE_ASSISTANT, response, e);
}

static int detect_openai(const json_t *r)
{
    return json_is_array(json_object_get(r, "messages")) ? 3 : 0;
}

static enum status convert_openai(const json_t *r, struct conversation *c, struct err *e)
{
    return add_messages(r, "messages", "role", "content", c, e);
}

static int detect_prompt_completion(const json_t *r)
{
    return json_object_get(r, "prompt") && json_object_get(r, "completion") ? 2 : 0;
}

static enum status convert_prompt_completion(const json_t *r, struct conversation *c, struct err *e)
{
    struct text prompt, completion;
    c->plain = 1;
    TRY(field(r, "prompt", 1, &prompt, e));
    TRY(field(r, "completion", 1, &completion, e));
    TRY(add(c, ROLE_USER, prompt, e));
    return add(c, ROLE_ASSISTANT, completion, e);
}

static int detect_text(const json_t *r) { return json_is_string(json_object_get(r, "text")); }

static enum status convert_text(const json_t *r, struct conversation *c, struct err *e)
{
    struct text text;
    c->plain = 1;
    TRY(field(r, "text", 1, &text, e));
    return add(c, ROLE_TEXT, text, e);
}

static const struct format formats[] = {
    {"alpaca", "{instruction, input, output}", KIND_SFT, detect_alpaca, convert_alpaca},
    {"sharegpt", "{conversations: [{from, value}]}", KIND_SFT, detect_sharegpt, convert_sharegpt},
    {"openorca", "{system_prompt, question, response}", KIND_SFT, detect_openorca,
     convert_openorca},
    {"openai", "{messages: [{role, content}]}", KIND_SFT, detect_openai, convert_openai},
    {"prompt_completion", "{prompt, completion}", KIND_SFT, detect_prompt_completion,
     convert_prompt_completion},
    {"text", "{text}", KIND_SFT, detect_text, convert_text},
};
enum { NUM_FORMATS = sizeof formats / sizeof *formats };

static const struct {
    const char *name, *row;
} spellings[] = {
    {"vicuna", "sharegpt"},      {"messages", "openai"},
    {"chatml", "openai"},        {"orca", "openorca"},
    {"completion", "text"},      {"pretrain", "text"},
    {"chat_template", "openai"}, {"prompt-completion", "prompt_completion"},
};

const struct format *format_at(size_t i) { return i < NUM_FORMATS ? &formats[i] : NULL; }

const struct format *format_find(const char *name)
{
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        if (!strcasecmp(name, spellings[i].name)) name = spellings[i].row;
    for (size_t i = 0; i < NUM_FORMATS; i++)
        if (!strcasecmp(name, formats[i].name)) return &formats[i];
    return NULL;
}

/* ---- detection ---- */

static void list_fields(const json_t *record, char *out, size_t size)
{
    size_t at = 0;
    const char *key;
    const json_t *v;
    out[0] = 0;
    json_object_foreach((json_t *)(uintptr_t)record, key, v)
    {
        int n = snprintf(out + at, size - at, "%s%s", at ? ", " : "", key);
        if (n < 0 || (size_t)n >= size - at) break;
        at += (size_t)n;
    }
}

static enum status undetected(const char *path, const char *fields, int pairs, struct err *e)
{
    char known[320];
    size_t at = 0;
    if (!fields[0]) {
        err_at(e, ERR_DATA, path, 0, 0, "no readable record among the first %d",
               FORMAT_DETECT_RECORDS);
        return err_hint(e, "a dataset holds one JSON object a line, or one array of objects");
    }
    err_at(e, ERR_DATA, path, 0, 0, "no format fits records with the fields %s", fields);
    if (pairs) return err_hint(e, "these are preference data: use them with stage dpo or kto");
    for (size_t i = 0; i < NUM_FORMATS; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? "; " : "",
                               formats[i].fields);
    return err_hint(e, "known are %s", known);
}

enum status format_detect(const char *path, size_t max_record, const struct format **out,
                          struct err *e)
{
    struct jsonl *j = NULL;
    struct jsonl_record r;
    int score[NUM_FORMATS] = {0}, best = 0, pairs = 0;
    char fields[200] = "";
    *out = NULL;
    enum status s = jsonl_open(&j, path, max_record, e);
    for (int n = 0; !s && n < FORMAT_DETECT_RECORDS; n++) {
        s = jsonl_next(j, &r, e);
        if (s || r.kind == JSONL_END) break;
        if (r.kind == JSONL_BAD) continue;
        if (!fields[0]) list_fields(r.value, fields, sizeof fields);
        if (preference(r.value))
            pairs++;
        else
            for (int i = 0; i < NUM_FORMATS; i++) score[i] += formats[i].detect(r.value);
    }
    jsonl_close(j);
    if (s) return s;
    for (int i = 1; i < NUM_FORMATS; i++)
        if (score[i] > score[best]) best = i;
    if (!score[best]) return undetected(path, fields, pairs, e);
    *out = &formats[best];
    return OK;
}

enum status format_convert(const struct format *f, const json_t *record, struct conversation *out,
                           struct err *e)
{
    conversation_clear(out);
    TRY(f->convert(record, out, e));
    conversation_finish(out);
    return OK;
}
