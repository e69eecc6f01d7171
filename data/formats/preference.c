#include "data/formats/preference.h"

#include <string.h>
#include <strings.h>

#include "data/formats/fields.h"

static int is_text(const json_t *r, const char *key)
{
    return json_is_string(json_object_get(r, key));
}

static int is_list(const json_t *r, const char *key)
{
    return json_is_array(json_object_get(r, key));
}

static struct reply reply_of(struct text text) { return (struct reply){1, text}; }

/* ---- pairs: two fields of text ---- */

static enum status take_two_texts(const json_t *r, struct conversation *c, struct err *e)
{
    c->chosen.given = c->rejected.given = 1;
    TRY(record_field(r, "chosen", 1, &c->chosen.text, e));
    return record_field(r, "rejected", 1, &c->rejected.text, e);
}

int detect_orca_pairs(const json_t *r)
{
    return json_object_get(r, "question") && json_object_get(r, "chosen")
               ? 2 + !!json_object_get(r, "system")
               : 0;
}

enum status convert_orca_pairs(const json_t *r, struct conversation *c, struct err *e)
{
    struct text question;
    TRY(record_add_system(r, "system", c, e));
    TRY(record_field(r, "question", 1, &question, e));
    TRY(record_add(c, ROLE_USER, question, e));
    return take_two_texts(r, c, e);
}

/* An Alpaca record's prompt. */
static enum status add_instruction(const json_t *r, struct conversation *c, struct err *e)
{
    struct text instruction, input;
    TRY(record_add_system(r, "system", c, e));
    TRY(record_field(r, "instruction", 1, &instruction, e));
    TRY(record_field(r, "input", 0, &input, e));
    TRY(record_add(c, ROLE_USER, instruction, e));
    c->turns[c->num_turns - 1].input = input;
    return OK;
}

int detect_alpaca_pairs(const json_t *r)
{
    return json_object_get(r, "instruction") && json_object_get(r, "chosen")
               ? 2 + !!json_object_get(r, "input")
               : 0;
}

enum status convert_alpaca_pairs(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(add_instruction(r, c, e));
    return take_two_texts(r, c, e);
}

/* The detectors of the rows below look at the types: `prompt` and `chosen` are common names. */
int detect_prompt_pairs(const json_t *r)
{
    return is_text(r, "prompt") && is_text(r, "chosen") ? 3 : 0;
}

enum status convert_prompt_pairs(const json_t *r, struct conversation *c, struct err *e)
{
    struct text prompt;
    c->plain = 1;
    TRY(record_field(r, "prompt", 1, &prompt, e));
    TRY(record_add(c, ROLE_USER, prompt, e));
    return take_two_texts(r, c, e);
}

/* ---- pairs: messages ---- */

/* Takes the last turn away as a reply; what is no reply sets c->drop. */
static void pop_reply(struct conversation *c, struct reply *out)
{
    if (c->drop) return;
    if (!c->num_turns || c->turns[c->num_turns - 1].role != ROLE_ASSISTANT) {
        c->drop = DROP_NO_REPLY;
        return;
    }
    *out = reply_of(c->turns[--c->num_turns].text);
}

/* The message `key` of a record as a reply. */
static enum status take_message(const json_t *r, const char *key, struct reply *out,
                                struct conversation *c, struct err *e)
{
    const json_t *message = json_object_get(r, key);
    if (c->drop) return OK;
    if (!message) {
        err_set(e, ERR_FORMAT, "\"%s\" is missing", key);
        return err_hint(e, "name the file's format, or correct the record");
    }
    if (record_add_message(message, sharegpt_keys, c, e)) return err_wrap(e, "\"%s\"", key);
    pop_reply(c, out);
    return OK;
}

int detect_sharegpt_pairs(const json_t *r)
{
    return is_list(r, "conversations") && json_is_object(json_object_get(r, "chosen")) ? 4 : 0;
}

enum status convert_sharegpt_pairs(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(record_add_system(r, "system", c, e));
    TRY(record_add_messages(r, "conversations", sharegpt_keys, c, e));
    TRY(take_message(r, "chosen", &c->chosen, c, e));
    return take_message(r, "rejected", &c->rejected, c, e);
}

/* Appends the lists `chosen` and `rejected`, whose messages but the last must be the same; these
 * are the prompt's last ones. */
static enum status take_lists(const json_t *r, const char *chosen, const char *rejected,
                              struct conversation *c, struct err *e)
{
    size_t first = c->num_turns;
    TRY(record_add_messages(r, chosen, openai_keys, c, e));
    pop_reply(c, &c->chosen);
    size_t middle = c->num_turns;
    if (c->drop) return OK;
    TRY(record_add_messages(r, rejected, openai_keys, c, e));
    pop_reply(c, &c->rejected);
    if (c->drop) return OK;
    if (c->num_turns - middle != middle - first) c->drop = DROP_NO_COMMON_PROMPT;
    for (size_t i = first; i < middle && !c->drop; i++) {
        const struct turn *a = &c->turns[i], *b = &c->turns[middle + i - first];
        if (a->role != b->role || !text_same(a->text, b->text)) c->drop = DROP_NO_COMMON_PROMPT;
    }
    c->num_turns = middle;
    return OK;
}

int detect_message_pairs(const json_t *r)
{
    return is_list(r, "chosen") && is_list(r, "rejected") ? 3 : 0;
}

enum status convert_message_pairs(const json_t *r, struct conversation *c, struct err *e)
{
    struct text prompt;
    if (is_list(r, "prompt")) TRY(record_add_messages(r, "prompt", openai_keys, c, e));
    if (c->drop) return OK;
    TRY(take_lists(r, "chosen", "rejected", c, e));
    if (c->drop || c->num_turns || !is_text(r, "prompt")) return OK;
    TRY(record_field(r, "prompt", 1, &prompt, e)); /* the lists hold the replies alone */
    return record_add(c, ROLE_USER, prompt, e);
}

int detect_azure_pairs(const json_t *r)
{
    return json_is_object(json_object_get(r, "input")) && is_list(r, "preferred_output") ? 4 : 0;
}

enum status convert_azure_pairs(const json_t *r, struct conversation *c, struct err *e)
{
    const json_t *input = json_object_get(r, "input");
    if (!json_is_object(input)) return err_set(e, ERR_FORMAT, "\"input\" is no object");
    TRY(record_add_messages(input, "messages", openai_keys, c, e));
    if (c->drop) return OK;
    return take_lists(r, "preferred_output", "non_preferred_output", c, e);
}

/* ---- pairs: transcripts ---- */

static const char assistant[] = "\n\nAssistant:";
static const struct markers hh_markers = {"\n\nHuman:", assistant};

/* The end of the last "\n\nAssistant:" that both begin with, 0 if there is none. */
static size_t common_prompt(struct text a, struct text b)
{
    size_t same = 0, m = strlen(assistant);
    while (same < a.n && same < b.n && a.data[same] == b.data[same]) same++;
    for (; same >= m; same--)
        if (!memcmp(a.data + same - m, assistant, m)) return same;
    return 0;
}

int detect_transcript_pairs(const json_t *r)
{
    const char *chosen = json_string_value(json_object_get(r, "chosen"));
    return chosen && !record_has(r, "prompt") && strstr(chosen, assistant) ? 2 : 0;
}

enum status convert_transcript_pairs(const json_t *r, struct conversation *c, struct err *e)
{
    size_t length;
    enum role role;
    TRY(take_two_texts(r, c, e));
    struct reply *replies[] = {&c->chosen, &c->rejected};
    struct text prompt = c->chosen.text;
    prompt.n = common_prompt(c->chosen.text, c->rejected.text);
    if (!prompt.n) c->drop = DROP_NO_COMMON_PROMPT;
    for (int k = 0; k < 2 && !c->drop; k++) {
        struct text t = replies[k]->text;
        t = (struct text){t.data + prompt.n, t.n - prompt.n};
        /* They part before their last replies. */
        if (transcript_next(t, hh_markers, &length, &role) < t.n) c->drop = DROP_NO_COMMON_PROMPT;
        replies[k]->text = text_strip(t);
    }
    return c->drop ? OK : record_add_transcript(prompt, hh_markers, c, e);
}

/* ---- one reply with a label ---- */

/* 1: the reply is good, 0: it is not, -1: it is no label. CSV has them as text. */
static int label_value(const json_t *v)
{
    const char *text = json_string_value(v);
    json_int_t number = json_integer_value(v);
    if (json_is_boolean(v)) return json_is_true(v);
    if (json_is_integer(v)) return number == 0 || number == 1 ? (int)number : -1;
    if (text && (!strcasecmp(text, "true") || !strcmp(text, "1"))) return 1;
    return text && (!strcasecmp(text, "false") || !strcmp(text, "0")) ? 0 : -1;
}

/* The reply goes where the label says. */
static enum status take_label(const json_t *r, struct reply reply, struct conversation *c,
                              struct err *e)
{
    const char *key = record_has(r, "label") ? "label" : "kto_tag";
    const json_t *v = json_object_get(r, key);
    int good = label_value(v);
    if (good < 0) {
        err_set(e, ERR_FORMAT, v ? "\"%s\" is neither true nor false" : "\"%s\" is missing",
                v ? key : "label");
        return err_hint(e, "true: the reply is desirable; false: it is not");
    }
    *(good ? &c->chosen : &c->rejected) = reply;
    return OK;
}

/* Of a whole conversation whose last reply is meant. */
static enum status label_last(const json_t *r, struct conversation *c, struct err *e)
{
    struct reply reply = {0};
    if (c->num_turns > 1 && c->turns[c->num_turns - 1].role == ROLE_USER &&
        c->turns[c->num_turns - 2].role == ROLE_ASSISTANT) {
        c->num_turns--;
        c->repairs |= REPAIR_TRAILING_QUESTION;
    }
    pop_reply(c, &reply);
    return take_label(r, reply, c, e);
}

int detect_alpaca_label(const json_t *r)
{
    return json_object_get(r, "instruction") && json_object_get(r, "output") ? 3 : 0;
}

enum status convert_alpaca_label(const json_t *r, struct conversation *c, struct err *e)
{
    struct text output;
    TRY(add_instruction(r, c, e));
    TRY(record_field(r, "output", 1, &output, e));
    return take_label(r, reply_of(output), c, e);
}

int detect_prompt_label(const json_t *r)
{
    return json_object_get(r, "prompt") && json_object_get(r, "completion") ? 3 : 0;
}

enum status convert_prompt_label(const json_t *r, struct conversation *c, struct err *e)
{
    struct text prompt, completion;
    if (is_list(r, "prompt")) {
        TRY(record_add_messages(r, "prompt", openai_keys, c, e));
        if (!c->drop) TRY(record_add_messages(r, "completion", openai_keys, c, e));
        return label_last(r, c, e);
    }
    c->plain = 1;
    TRY(record_field(r, "prompt", 1, &prompt, e));
    TRY(record_field(r, "completion", 1, &completion, e));
    TRY(record_add(c, ROLE_USER, prompt, e));
    return take_label(r, reply_of(completion), c, e);
}

int detect_openai_label(const json_t *r) { return is_list(r, "messages") ? 3 : 0; }

enum status convert_openai_label(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(record_add_messages(r, "messages", openai_keys, c, e));
    return label_last(r, c, e);
}

int detect_sharegpt_label(const json_t *r) { return is_list(r, "conversations") ? 3 : 0; }

enum status convert_sharegpt_label(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(record_add_system(r, "system", c, e));
    TRY(record_add_messages(r, "conversations", sharegpt_keys, c, e));
    return label_last(r, c, e);
}
