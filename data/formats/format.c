#include "data/formats/format.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "data/formats/fields.h"
#include "data/formats/instruction.h"
#include "data/formats/preference.h"
#include "data/formats/trees.h"

/* ---- the rows ---- */

#define ROW(name, kind, fields, ...)                                    \
    {                                                                   \
#name, fields, kind, detect_##name, convert_##name, __VA_ARGS__ \
    }
#define SFT(name, fields) ROW(name, KIND_SFT, fields, 0, NULL)
#define PAIR(name, fields) ROW(name, KIND_PAIR, fields, 0, NULL)
#define LABEL(name, fields) ROW(name, KIND_UNPAIRED, fields, 0, NULL)

static const struct format formats[] = {
    SFT(alpaca, "{instruction, input, output}"),
    SFT(dolly, "{instruction, context, response}"),
    SFT(gpteacher, "{instruction, input, response}"),
    SFT(longform, "{input, output}"),
    SFT(self_instruct, "{instruction, instances: [{input, output}]}"),
    SFT(openorca, "{system_prompt, question, response}"),
    ROW(sharegpt, KIND_SFT, "{conversations: [{from, value}]}", 1, NULL),
    SFT(openai, "{messages: [{role, content}]}"),
    SFT(guanaco, "{text} of ### Human: and ### Assistant:"),
    ROW(oasst, KIND_SFT, "trees of {text, role, replies}, best replies", 0, "message_tree_id"),
    ROW(oasst_all, KIND_SFT, "trees of {text, role, replies}, all paths", 0, "message_tree_id"),
    SFT(prompt_completion, "{prompt, completion}"),
    SFT(text, "{text}"),
    PAIR(orca_pairs, "{system, question, chosen, rejected}"),
    PAIR(alpaca_pairs, "{instruction, input, chosen, rejected}"),
    ROW(sharegpt_pairs, KIND_PAIR, "{conversations, chosen, rejected}", 1, NULL),
    PAIR(message_pairs, "{prompt, chosen: [messages], rejected: [messages]}"),
    PAIR(azure_pairs, "{input: {messages}, preferred_output, non_preferred_output}"),
    PAIR(transcript_pairs, "{chosen, rejected} of Human: and Assistant:"),
    PAIR(prompt_pairs, "{prompt, chosen, rejected}"),
    LABEL(alpaca_label, "{instruction, input, output, kto_tag}"),
    LABEL(prompt_label, "{prompt, completion, label}"),
    LABEL(openai_label, "{messages, label}"),
    ROW(sharegpt_label, KIND_UNPAIRED, "{conversations, kto_tag}", 1, NULL),
};
enum { NUM_FORMATS = sizeof formats / sizeof *formats };

static const struct {
    const char *name, *row;
} spellings[] = {
    {"vicuna", "sharegpt"},
    {"messages", "openai"},
    {"chatml", "openai"},
    {"chat_template", "openai"},
    {"orca", "openorca"},
    {"completion", "text"},
    {"pretrain", "text"},
    {"prompt-completion", "prompt_completion"},
    {"self-instruct", "self_instruct"},
    {"seeds", "self_instruct"},
    {"oasst1", "oasst"},
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

/* What was seen of the first records. */
struct votes {
    int score[NUM_FORMATS], of_kind[NUM_KINDS], records;
    char fields[200];
    struct err bad; /* what was wrong with the first record that could not be read */
};

static void vote(struct votes *v, const json_t *record)
{
    enum record_kind kind = kind_of(record);
    if (!v->fields[0]) list_fields(record, v->fields, sizeof v->fields);
    v->of_kind[kind]++;
    for (int i = 0; i < NUM_FORMATS; i++)
        if (formats[i].kind == kind) v->score[i] += formats[i].detect(record);
}

/* With the dataset's own names the record votes under the names of either spelling. */
static enum status vote_renamed(struct votes *v, const json_t *record,
                                const struct format_names *names, struct err *e)
{
    for (int sharegpt = 0; sharegpt < 2; sharegpt++) {
        json_t *copy = json_deep_copy(record);
        enum status s = copy ? format_rename(names, sharegpt, copy, e)
                             : err_set(e, ERR_MEMORY, "no memory for a record");
        enum record_kind kind = s ? KIND_SFT : kind_of(copy);
        if (!s && !sharegpt) {
            list_fields(record, v->fields, sizeof v->fields);
            v->of_kind[kind]++;
        }
        for (int i = 0; !s && i < NUM_FORMATS; i++)
            if (formats[i].kind == kind && formats[i].sharegpt == sharegpt)
                v->score[i] += formats[i].detect(copy);
        json_decref(copy);
        TRY(s);
    }
    return OK;
}

/* The hint names the forms of the kind that most of the records are of. */
static enum status undetected(const char *path, const struct votes *v, struct err *e)
{
    char known[300];
    size_t at = 0;
    enum record_kind kind = KIND_SFT;
    if (!v->fields[0] && v->bad.code) {
        *e = v->bad;
        return e->code;
    }
    if (!v->fields[0]) {
        if (v->records)
            err_at(e, ERR_DATA, path, 0, 0, "the first %d records have no field", v->records);
        else
            err_at(e, ERR_DATA, path, 0, 0, "holds no record");
        return err_hint(e, "a dataset holds one JSON object a line, or one array of objects");
    }
    err_at(e, ERR_DATA, path, 0, 0, "no format fits records with the fields %s", v->fields);
    for (int k = 1; k < NUM_KINDS; k++)
        if (v->of_kind[k] > v->of_kind[kind]) kind = (enum record_kind)k;
    known[0] = 0;
    for (size_t i = 0; i < NUM_FORMATS && at < sizeof known; i++)
        if (formats[i].kind == kind)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "",
                                   formats[i].name);
    return err_hint(e, "known are %s; say which field is which, as in field_instruction: NAME",
                    known);
}

static enum status ambiguous(const char *path, const struct votes *v, int best, struct err *e)
{
    char names[200];
    size_t at = 0;
    for (int i = 0; i < NUM_FORMATS && at < sizeof names; i++)
        if (v->score[i] == v->score[best])
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", at ? " or " : "",
                                   formats[i].name);
    err_at(e, ERR_DATA, path, 0, 0, "the records fit several formats: %s", names);
    return err_hint(e, "name the one that is meant: format: %s", formats[best].name);
}

enum status format_detect(const char *path, const struct jsonl_options *options,
                          const struct format_names *names, const struct format **out,
                          struct err *e)
{
    struct jsonl *j = NULL;
    struct jsonl_record r;
    struct votes v = {0};
    int best = 0;
    *out = NULL;
    enum status s = jsonl_open(&j, path, options, e);
    for (int n = 0; !s && n < FORMAT_DETECT_RECORDS; n++) {
        s = jsonl_next(j, &r, e);
        if (s || r.kind == JSONL_END) break;
        v.records++;
        if (r.kind == JSONL_BAD && !v.bad.code) v.bad = *e;
        if (r.kind == JSONL_BAD) continue;
        if (names && names->n)
            s = vote_renamed(&v, r.value, names, e);
        else
            vote(&v, r.value);
    }
    jsonl_close(j);
    if (s) return s;
    for (int i = 1; i < NUM_FORMATS; i++)
        if (v.score[i] > v.score[best]) best = i;
    if (!v.score[best]) return undetected(path, &v, e);
    for (int i = 0; i < NUM_FORMATS; i++)
        if (i != best && v.score[i] == v.score[best]) return ambiguous(path, &v, best, e);
    *out = &formats[best];
    return OK;
}

/* ---- conversion ---- */

static enum status convert_part(const struct format *f, const json_t *record, size_t part,
                                struct conversation *out, struct err *e)
{
    conversation_clear(out);
    out->kind = f->kind;
    out->part = part;
    TRY(f->convert(record, out, e));
    conversation_finish(out);
    return OK;
}

enum status format_convert(const struct format *f, const json_t *record, struct conversation *out,
                           struct err *e)
{
    out->left_out = 0;
    return convert_part(f, record, 0, out, e);
}

enum status format_next(const struct format *f, const json_t *record, struct conversation *out,
                        struct err *e)
{
    return convert_part(f, record, out->part + 1, out, e);
}
