#include "data/formats/instruction.h"

#include <string.h>

#include "data/formats/fields.h"

static int has(const json_t *r, const char *key) { return json_object_get(r, key) != NULL; }

static int is_text(const json_t *r, const char *key)
{
    return json_is_string(json_object_get(r, key));
}

static int is_list(const json_t *r, const char *key)
{
    return json_is_array(json_object_get(r, key));
}

/* ---- an instruction and its answer ---- */

/* What a row calls them; input NULL: there is none. */
struct answer_keys {
    const char *instruction, *input, *output;
};

static enum status add_answer(const json_t *r, struct answer_keys keys, struct conversation *c,
                              struct err *e)
{
    struct text instruction, input = {"", 0}, output;
    TRY(record_field(r, keys.instruction, 1, &instruction, e));
    if (keys.input) TRY(record_field(r, keys.input, 0, &input, e));
    TRY(record_field(r, keys.output, 1, &output, e));
    TRY(record_add(c, ROLE_USER, instruction, e));
    c->turns[c->num_turns - 1].input = input;
    return record_add(c, ROLE_ASSISTANT, output, e);
}

int detect_alpaca(const json_t *r)
{
    return has(r, "instruction") && has(r, "output") ? 2 + has(r, "input") : 0;
}

/* Earlier rounds: [[question, answer], ...]. */
static enum status add_history(const json_t *r, struct conversation *c, struct err *e)
{
    const json_t *list = json_object_get(r, "history");
    if (!list || json_is_null(list)) return OK;
    if (!json_is_array(list)) return err_set(e, ERR_FORMAT, "\"history\" is no list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        for (size_t k = 0; k < 2; k++) {
            const json_t *v = json_array_get(pair, k);
            if (!json_is_string(v) || json_array_size(pair) != 2) {
                err_set(e, ERR_FORMAT, "item %zu of \"history\" is no pair of texts", i + 1);
                return err_hint(e, "history is a list of [question, answer]");
            }
            TRY(record_add(c, k ? ROLE_ASSISTANT : ROLE_USER,
                           (struct text){json_string_value(v), json_string_length(v)}, e));
        }
    }
    return OK;
}

enum status convert_alpaca(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(record_add_system(r, "system", c, e));
    TRY(add_history(r, c, e));
    return add_answer(r, (struct answer_keys){"instruction", "input", "output"}, c, e);
}

int detect_dolly(const json_t *r)
{
    return has(r, "instruction") && has(r, "response") && !has(r, "output") ? 2 + has(r, "context")
                                                                            : 0;
}

enum status convert_dolly(const json_t *r, struct conversation *c, struct err *e)
{
    return add_answer(r, (struct answer_keys){"instruction", "context", "response"}, c, e);
}

int detect_gpteacher(const json_t *r)
{
    return has(r, "instruction") && has(r, "input") && has(r, "response") && !has(r, "output") ? 3
                                                                                               : 0;
}

enum status convert_gpteacher(const json_t *r, struct conversation *c, struct err *e)
{
    return add_answer(r, (struct answer_keys){"instruction", "input", "response"}, c, e);
}

int detect_longform(const json_t *r)
{
    return is_text(r, "input") && is_text(r, "output") && !has(r, "instruction") ? 2 : 0;
}

enum status convert_longform(const json_t *r, struct conversation *c, struct err *e)
{
    return add_answer(r, (struct answer_keys){"input", NULL, "output"}, c, e);
}

int detect_self_instruct(const json_t *r)
{
    return has(r, "instruction") && is_list(r, "instances") ? 4 : 0;
}

enum status convert_self_instruct(const json_t *r, struct conversation *c, struct err *e)
{
    const json_t *instances = json_object_get(r, "instances");
    struct text instruction, input, output;
    if (!json_is_array(instances)) return err_set(e, ERR_FORMAT, "\"instances\" is no list");
    const json_t *one = json_array_get(instances, c->part);
    c->more = c->part + 1 < json_array_size(instances);
    if (!one) {
        c->drop = DROP_NO_REPLY;
        return OK;
    }
    if (!json_is_object(one)) return err_set(e, ERR_FORMAT, "an instance is no object");
    TRY(record_field(r, "instruction", 1, &instruction, e));
    TRY(record_field(one, "input", 0, &input, e));
    TRY(record_field(one, "output", 1, &output, e));
    TRY(record_add(c, ROLE_USER, instruction, e));
    c->turns[c->num_turns - 1].input = input;
    return record_add(c, ROLE_ASSISTANT, output, e);
}

int detect_openorca(const json_t *r)
{
    return has(r, "question") && has(r, "response") ? 2 + has(r, "system_prompt") : 0;
}

enum status convert_openorca(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(record_add_system(r, "system_prompt", c, e));
    return add_answer(r, (struct answer_keys){"question", NULL, "response"}, c, e);
}

/* ---- conversations ---- */

/* Pictures and sounds beside the messages. */
static int has_media(const json_t *r)
{
    static const char *const keys[] = {"images", "videos", "audios"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_array_size(json_object_get(r, keys[i]))) return 1;
    return 0;
}

static enum status add_chat(const json_t *r, const char *key, struct message_keys keys,
                            struct conversation *c, struct err *e)
{
    if (json_object_size(r) > 1) {
        if (has_media(r)) c->drop = DROP_NOT_TEXT;
        TRY(record_add_system(r, "system", c, e));
    }
    TRY(record_add_messages(r, key, keys, c, e));
    return json_object_size(r) > 1 ? record_add_tools(r, c, e) : OK;
}

int detect_sharegpt(const json_t *r) { return is_list(r, "conversations") ? 3 : 0; }

enum status convert_sharegpt(const json_t *r, struct conversation *c, struct err *e)
{
    return add_chat(r, "conversations", sharegpt_keys, c, e);
}

int detect_openai(const json_t *r) { return is_list(r, "messages") ? 3 : 0; }

enum status convert_openai(const json_t *r, struct conversation *c, struct err *e)
{
    return add_chat(r, "messages", openai_keys, c, e);
}

static const struct markers guanaco_markers = {"### Human:", "### Assistant:"};

static int is_guanaco(const json_t *r, const char *key)
{
    const char *text = json_string_value(json_object_get(r, key));
    return text &&
           !strncmp(text + strspn(text, " \n"), guanaco_markers.user, strlen(guanaco_markers.user));
}

int detect_guanaco(const json_t *r)
{
    if (is_guanaco(r, "input") && is_text(r, "output")) return 5;
    return is_guanaco(r, "text") ? 4 : 0;
}

enum status convert_guanaco(const json_t *r, struct conversation *c, struct err *e)
{
    struct text text, output;
    int apart = is_guanaco(r, "input") && is_text(r, "output"); /* the last reply */
    TRY(record_field(r, apart ? "input" : "text", 1, &text, e));
    TRY(record_add_transcript(text, guanaco_markers, c, e));
    if (!apart || c->drop) return OK;
    TRY(record_field(r, "output", 1, &output, e));
    return record_add(c, ROLE_ASSISTANT, text_strip(output), e);
}

/* ---- without a template ---- */

int detect_prompt_completion(const json_t *r)
{
    int lists = is_list(r, "prompt") && is_list(r, "completion");
    return lists || (is_text(r, "prompt") && (is_text(r, "completion") || is_text(r, "response")))
               ? 3
               : 0;
}

/* Lists of messages: the completion's replies are trained. */
static enum status add_lists(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(record_add_messages(r, "prompt", openai_keys, c, e));
    for (size_t i = 0; i < c->num_turns; i++)
        if (c->turns[i].role == ROLE_ASSISTANT) c->turns[i].weight = 0;
    if (!c->drop) TRY(record_add_messages(r, "completion", openai_keys, c, e));
    return record_add_tools(r, c, e);
}

enum status convert_prompt_completion(const json_t *r, struct conversation *c, struct err *e)
{
    struct text prompt, completion;
    if (is_list(r, "prompt")) return add_lists(r, c, e);
    c->plain = 1;
    TRY(record_field(r, "prompt", 1, &prompt, e));
    TRY(record_field(r, has(r, "completion") || !has(r, "response") ? "completion" : "response", 1,
                     &completion, e));
    TRY(record_add(c, ROLE_USER, prompt, e));
    return record_add(c, ROLE_ASSISTANT, completion, e);
}

int detect_text(const json_t *r) { return is_text(r, "text"); }

enum status convert_text(const json_t *r, struct conversation *c, struct err *e)
{
    struct text text;
    c->plain = 1;
    TRY(record_field(r, "text", 1, &text, e));
    return record_add(c, ROLE_TEXT, text, e);
}
