#include "data/formats/format.h"

#include <string.h>
#include <strings.h>

#include "data/formats/fields.h"
#include "data/formats/preference.h"
#include "data/jsonl/jsonl.h"

/* ---- the rows ---- */

static int detect_alpaca(const json_t *r)
{
    return json_object_get(r, "instruction") && json_object_get(r, "output")
               ? 2 + !!json_object_get(r, "input")
               : 0;
}

static enum status convert_alpaca(const json_t *r, struct conversation *c, struct err *e)
{
    struct text instruction, input, output;
    TRY(record_add_system(r, "system", c, e));
    TRY(record_field(r, "instruction", 1, &instruction, e));
    TRY(record_field(r, "input", 0, &input, e));
    TRY(record_field(r, "output", 1, &output, e));
    TRY(record_add(c, ROLE_USER, instruction, e));
    c->turns[c->num_turns - 1].input = input;
    return record_add(c, ROLE_ASSISTANT, output, e);
}

static int detect_sharegpt(const json_t *r)
{
    return json_is_array(json_object_get(r, "conversations")) ? 3 : 0;
}

static enum status convert_sharegpt(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(record_add_system(r, "system", c, e));
    return record_add_messages(r, "conversations", sharegpt_keys, c, e);
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
    TRY(record_add_system(r, "system_prompt", c, e));
    TRY(record_field(r, "question", 1, &question, e));
    TRY(record_field(r, "response", 1, &response, e));
    TRY(record_add(c, ROLE_USER, question, e));
    return record_add(c, ROLE_ASSISTANT, response, e);
}

static int detect_openai(const json_t *r)
{
    return json_is_array(json_object_get(r, "messages")) ? 3 : 0;
}

static enum status convert_openai(const json_t *r, struct conversation *c, struct err *e)
{
    return record_add_messages(r, "messages", openai_keys, c, e);
}

static int detect_prompt_completion(const json_t *r)
{
    return json_object_get(r, "prompt") && json_object_get(r, "completion") ? 2 : 0;
}

static enum status convert_prompt_completion(const json_t *r, struct conversation *c, struct err *e)
{
    struct text prompt, completion;
    c->plain = 1;
    TRY(record_field(r, "prompt", 1, &prompt, e));
    TRY(record_field(r, "completion", 1, &completion, e));
    TRY(record_add(c, ROLE_USER, prompt, e));
    return record_add(c, ROLE_ASSISTANT, completion, e);
}

static int detect_text(const json_t *r) { return json_is_string(json_object_get(r, "text")); }

static enum status convert_text(const json_t *r, struct conversation *c, struct err *e)
{
    struct text text;
    c->plain = 1;
    TRY(record_field(r, "text", 1, &text, e));
    return record_add(c, ROLE_TEXT, text, e);
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
    {"orca_pairs", "{system, question, chosen, rejected}", KIND_PAIR, detect_orca_pairs,
     convert_orca_pairs},
    {"alpaca_pairs", "{instruction, input, chosen, rejected}", KIND_PAIR, detect_alpaca_pairs,
     convert_alpaca_pairs},
    {"sharegpt_pairs", "{conversations, chosen, rejected}", KIND_PAIR, detect_sharegpt_pairs,
     convert_sharegpt_pairs},
    {"message_pairs", "{prompt, chosen: [messages], rejected: [messages]}", KIND_PAIR,
     detect_message_pairs, convert_message_pairs},
    {"azure_pairs", "{input: {messages}, preferred_output, non_preferred_output}", KIND_PAIR,
     detect_azure_pairs, convert_azure_pairs},
    {"transcript_pairs", "{chosen, rejected} of Human: and Assistant:", KIND_PAIR,
     detect_transcript_pairs, convert_transcript_pairs},
    {"prompt_pairs", "{prompt, chosen, rejected}", KIND_PAIR, detect_prompt_pairs,
     convert_prompt_pairs},
    {"alpaca_label", "{instruction, input, output, kto_tag}", KIND_UNPAIRED, detect_alpaca_label,
     convert_alpaca_label},
    {"prompt_label", "{prompt, completion, label}", KIND_UNPAIRED, detect_prompt_label,
     convert_prompt_label},
    {"openai_label", "{messages, label}", KIND_UNPAIRED, detect_openai_label, convert_openai_label},
    {"sharegpt_label", "{conversations, kto_tag}", KIND_UNPAIRED, detect_sharegpt_label,
     convert_sharegpt_label},
};
enum { NUM_FORMATS = sizeof formats / sizeof *formats };

static const struct {
    const char *name, *row;
} spellings[] = {
    {"vicuna", "sharegpt"},
    {"messages", "openai"},
    {"chatml", "openai"},
    {"orca", "openorca"},
    {"completion", "text"},
    {"pretrain", "text"},
    {"chat_template", "openai"},
    {"prompt-completion", "prompt_completion"},
    {"orca_dpo_pairs", "orca_pairs"},
    {"ultrafeedback", "message_pairs"},
    {"hh_rlhf", "transcript_pairs"},
    {"hh-rlhf", "transcript_pairs"},
    {"azure", "azure_pairs"},
    {"kto", "prompt_label"},
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

/* What kind a record's fields say it is. */
static enum record_kind kind_of(const json_t *r)
{
    if (record_has(r, "chosen") || record_has(r, "rejected") || record_has(r, "preferred_output"))
        return KIND_PAIR;
    return record_has(r, "label") || record_has(r, "kto_tag") ? KIND_UNPAIRED : KIND_SFT;
}

/* The hint names the forms of the kind that most of the records are of. */
static enum status undetected(const char *path, const char *fields, const int *of_kind,
                              struct err *e)
{
    char known[336];
    size_t at = 0;
    enum record_kind kind = KIND_SFT;
    if (!fields[0]) {
        err_at(e, ERR_DATA, path, 0, 0, "no readable record among the first %d",
               FORMAT_DETECT_RECORDS);
        return err_hint(e, "a dataset holds one JSON object a line, or one array of objects");
    }
    err_at(e, ERR_DATA, path, 0, 0, "no format fits records with the fields %s", fields);
    for (int k = 1; k < NUM_KINDS; k++)
        if (of_kind[k] > of_kind[kind]) kind = (enum record_kind)k;
    known[0] = 0;
    for (size_t i = 0; i < NUM_FORMATS && at < sizeof known; i++)
        if (formats[i].kind == kind)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? "; " : "",
                                   formats[i].fields);
    return err_hint(e, "known are %s", known);
}

enum status format_detect(const char *path, size_t max_record, const struct format **out,
                          struct err *e)
{
    struct jsonl *j = NULL;
    struct jsonl_record r;
    int score[NUM_FORMATS] = {0}, of_kind[NUM_KINDS] = {0}, best = 0;
    char fields[200] = "";
    *out = NULL;
    enum status s = jsonl_open(&j, path, max_record, e);
    for (int n = 0; !s && n < FORMAT_DETECT_RECORDS; n++) {
        s = jsonl_next(j, &r, e);
        if (s || r.kind == JSONL_END) break;
        if (r.kind == JSONL_BAD) continue;
        if (!fields[0]) list_fields(r.value, fields, sizeof fields);
        enum record_kind kind = kind_of(r.value);
        of_kind[kind]++;
        for (int i = 0; i < NUM_FORMATS; i++)
            if (formats[i].kind == kind) score[i] += formats[i].detect(r.value);
    }
    jsonl_close(j);
    if (s) return s;
    for (int i = 1; i < NUM_FORMATS; i++)
        if (score[i] > score[best]) best = i;
    if (!score[best]) return undetected(path, fields, of_kind, e);
    *out = &formats[best];
    return OK;
}

enum status format_convert(const struct format *f, const json_t *record, struct conversation *out,
                           struct err *e)
{
    conversation_clear(out);
    out->kind = f->kind;
    TRY(f->convert(record, out, e));
    conversation_finish(out);
    return OK;
}
