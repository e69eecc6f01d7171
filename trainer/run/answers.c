#include "run/answers.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/formats/format.h"
#include "data/jsonl/jsonl.h"
#include "run/generate.h"
#include "run/session.h"

#define SCANNED 64 /* documents looked at for prompts that are short enough */
#define FILE_BYTES_MAX ((size_t)1 << 24)
#define TEXT_BYTES_MAX ((size_t)1 << 24)
#define SLOW_SECONDS 2.0 /* an answer that takes longer is worth a word */

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for sample prompts");
}

/* The most tokens a prompt may have, so that an answer fits behind it. */
static int32_t room(const struct session *s) { return s->model.max_positions - ANSWER_TOKENS; }

static struct answer *add(struct answers *a) { return a->n < ANSWERS_MAX ? &a->items[a->n] : NULL; }

static void count(struct answers *a)
{
    int32_t length = (int32_t)a->items[a->n++].ids.len;
    if (length > a->longest) a->longest = length;
}

static void forget(struct answer *it)
{
    mem_free(it->prompt);
    mem_free(it->reference);
    for (int t = 0; t < ANSWER_TIMES; t++) mem_free(it->text[t]);
    id_list_free(&it->ids);
    *it = (struct answer){0};
}

void answers_free(struct answers *a)
{
    for (size_t i = 0; i < ANSWERS_MAX; i++) forget(&a->items[i]);
    *a = (struct answers){0};
}

int32_t answers_cache_rows(const struct answers *a)
{
    return a->longest ? a->longest + ANSWER_TOKENS : 0;
}

/* --- prompts that somebody gave --- */

static enum status add_conversation(struct answers *a, struct session *s, struct conversation *c,
                                    struct text reference, struct err *e)
{
    struct answer *it = add(a);
    if (!it || !c->num_turns) return OK;
    c->plain = !s->template;
    struct text question = c->turns[c->num_turns - 1].text;
    it->prompt = mem_strndup(question.data, question.n);
    if (reference.data) it->reference = mem_strndup(reference.data, reference.n);
    if (!it->prompt || (reference.data && !it->reference)) return no_memory(e);
    TRY(encoder_prompt(s->encoder, c, &it->ids, e));
    if (it->ids.len > (size_t)(room(s) > 0 ? room(s) : 0))
        return config_fail(s->config, KEY_sample_prompts, e,
                           "prompt %zu has %zu tokens, the model has room for %d and an answer",
                           a->n + 1, it->ids.len, (int)room(s));
    if (it->ids.len)
        count(a);
    else
        forget(it);
    return OK;
}

static enum status add_text(struct answers *a, struct session *s, struct text text, struct err *e)
{
    struct conversation c = {0};
    struct text none = {NULL, 0};
    if (text_is_blank(text)) return OK;
    enum status status = conversation_add(&c, ROLE_USER, text);
    if (status)
        err_set(e, status, "no memory for sample prompts");
    else
        status = add_conversation(a, s, &c, none, e);
    conversation_free(&c);
    return status;
}

/* The last reply is the reference and not part of the prompt. */
static enum status add_record(struct answers *a, struct session *s, const struct format *format,
                              const json_t *record, struct conversation *c, struct err *e)
{
    struct text reference = {NULL, 0};
    conversation_clear(c);
    TRY(format->convert(record, c, e));
    if (c->num_turns && c->turns[c->num_turns - 1].role == ROLE_ASSISTANT)
        reference = c->turns[--c->num_turns].text;
    if (c->kind != KIND_SFT && c->chosen.given) reference = c->chosen.text;
    return add_conversation(a, s, c, reference, e);
}

static enum status add_records(struct answers *a, struct session *s, const char *path,
                               struct err *e)
{
    const struct format *format;
    struct jsonl *records = NULL;
    struct conversation c = {0};
    TRY(format_detect(path, NULL, NULL, &format, e));
    enum status status = jsonl_open(&records, path, NULL, e);
    while (!status && a->n < ANSWERS_MAX) {
        struct jsonl_record r;
        status = jsonl_next(records, &r, e);
        if (status || r.kind == JSONL_END) break;
        size_t before = a->n;
        status = r.kind == JSONL_BAD ? e->code : add_record(a, s, format, r.value, &c, e);
        if (a->n > before)
            snprintf(a->items[before].origin, sizeof a->items->origin, "%s, %s %lld", path,
                     jsonl_is_array(records) ? "record" : "line", (long long)r.place);
    }
    jsonl_close(records);
    conversation_free(&c);
    return status;
}

static enum status add_lines(struct answers *a, struct session *s, const char *path, struct err *e)
{
    struct buf text;
    buf_init(&text, FILE_BYTES_MAX);
    enum status status = io_read_file(path, &text, e);
    const char *at = text.data, *end = at + text.len;
    for (int line = 1; !status && at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop ? stop : end) - at), before = a->n;
        if (n && at[n - 1] == '\r') n--;
        status = add_text(a, s, (struct text){at, n}, e);
        if (a->n > before)
            snprintf(a->items[before].origin, sizeof a->items->origin, "%s, line %d", path, line);
        at = stop ? stop + 1 : end;
    }
    buf_free(&text);
    return status;
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static enum status add_given(struct answers *a, struct session *s, struct err *e)
{
    const struct config_list *given = &s->config->sample_prompts;
    const char *only = given->n == 1 ? given->items[0] : "";
    if (io_file_size(only) >= 0) {
        int records = ends_with(only, ".jsonl") || ends_with(only, ".json");
        enum status status = records ? add_records(a, s, only, e) : add_lines(a, s, only, e);
        return status ? err_wrap(e, "sample_prompts: %s", only) : OK;
    }
    if (given->n > ANSWERS_MAX)
        return config_fail(s->config, KEY_sample_prompts, e, "%zu prompts; at most %d are answered",
                           given->n, ANSWERS_MAX);
    for (size_t i = 0; i < given->n; i++)
        TRY(add_text(a, s, (struct text){given->items[i], strlen(given->items[i])}, e));
    return OK;
}

/* --- prompts of the data --- */

static enum status decode(const struct tokenizer *t, const int32_t *ids, size_t n, int skip_special,
                          char **out, struct err *e)
{
    struct buf text;
    buf_init(&text, TEXT_BYTES_MAX);
    enum status status = tokenizer_decode(t, ids, n, skip_special, &text, e);
    *out = status ? NULL : mem_strndup(text.data ? text.data : "", text.len);
    buf_free(&text);
    if (!status && !*out) return no_memory(e);
    return status;
}

/* The first reply; of a preference the chosen one, which may be absent. */
static void find_reply(const struct sample *doc, size_t *start, size_t *end)
{
    if (doc->kind != KIND_SFT) {
        *start = (size_t)doc->chosen;
        *end = (size_t)doc->rejected;
        return;
    }
    for (*start = 0; *start < doc->n && doc->weights[*start] == 0;) ++*start;
    for (*end = *start; *end < doc->n && doc->weights[*end] != 0;) ++*end;
}

static enum status add_document(struct answers *a, struct session *s, struct store *store,
                                const struct sample *doc, struct err *e)
{
    size_t start, end;
    int32_t most = room(s) < ANSWERS_PROMPT_MAX ? room(s) : ANSWERS_PROMPT_MAX;
    find_reply(doc, &start, &end);
    if (!start || start == doc->n || (int64_t)start > most) return OK;
    struct answer *it = add(a);
    TRY(decode(s->tokenizer, doc->ids, start, 0, &it->prompt, e));
    if (end > start) TRY(decode(s->tokenizer, doc->ids + start, end - start, 1, &it->reference, e));
    if (id_list_append(&it->ids, doc->ids, start)) return no_memory(e);
    dataset_origin(store, doc->source, doc->line, it->origin, sizeof it->origin);
    count(a);
    return OK;
}

static enum status add_documents(struct answers *a, struct session *s, struct err *e)
{
    struct store *store = s->eval_store ? s->eval_store : s->store;
    struct loader_subset set = {0};
    struct sample doc = {0};
    enum status status = OK;
    a->held_out = s->eval_loader != NULL;
    if (!s->eval_store) set = s->mix.eval.num_documents ? s->mix.eval : s->mix.train;
    int64_t n = set.documents ? set.num_documents : store_info(store)->num_documents;
    for (int64_t i = 0; !status && i < n && i < SCANNED && a->n < ANSWERS_OF_DATA; i++) {
        status = store_document(store, set.documents ? set.documents[i] : i, &doc, e);
        if (!status) status = add_document(a, s, store, &doc, e);
    }
    sample_free(&doc);
    return status;
}

/* What a plan without tokenizer or data has to reckon with. */
static void expect_longest(struct answers *a, const struct session *s)
{
    a->longest = room(s) < ANSWERS_PROMPT_MAX ? room(s) : ANSWERS_PROMPT_MAX;
    if (a->longest < 0) a->longest = 0;
}

enum status answers_open(struct answers *a, struct session *s, struct err *e)
{
    const struct config_list *given = &s->config->sample_prompts;
    int none = given->n == 1 && !strcmp(given->items[0], "none");
    *a = (struct answers){0};
    if (none || (!given->n && (!s->template || !config_has(s->config, KEY_report_to, "html"))))
        return OK; /* nobody wants them, or would see them */
    if (s->encoder && given->n) return add_given(a, s, e);
    if (s->encoder && s->store) return add_documents(a, s, e);
    expect_longest(a, s);
    return OK;
}

/* --- answering --- */

size_t answers_memory(const struct answers *a, const struct session *s)
{
    size_t logits = sizeof(float) + sizeof(struct sampler_entry);
    return a->longest ? (size_t)s->model.vocab_size * logits : 0;
}

static void set_stops(const struct session *s, struct generate_options *o)
{
    const int32_t *ends;
    size_t n = encoder_end_ids(s->encoder, &ends);
    for (size_t i = 0; i < n; i++) generate_add_stop(o, ends[i]);
    for (int32_t i = 0; i < s->model.num_eos; i++) generate_add_stop(o, s->model.eos[i]);
}

static enum status ask(struct answer *it, struct session *s, struct sampler *sampler,
                       const struct generate_options *o, enum answer_time when, struct err *e)
{
    struct id_list ids = {0};
    enum generate_end end = GENERATE_LENGTH;
    enum status status =
        generate(&s->engine, sampler, it->ids.ids, it->ids.len, o, 0, NULL, NULL, &ids, &end, e);
    if (!status) {
        mem_free(it->text[when]);
        status = decode(s->tokenizer, ids.ids, ids.len, 1, &it->text[when], e);
        it->cut[when] = end != GENERATE_STOP_TOKEN;
    }
    id_list_free(&ids);
    return status;
}

/* --- samples.json --- */

/* Texts may hold what JSON cannot: those become null and are shown in no later process. */
static json_t *maybe(const char *text) { return text ? json_string(text) : json_null(); }

static json_t *to_json(const struct answer *it)
{
    json_t *o = json_object();
    json_t *texts[] = {maybe(it->text[ANSWER_BEFORE]), maybe(it->text[ANSWER_AFTER])};
    json_object_set_new(o, "prompt", maybe(it->prompt));
    json_object_set_new(o, "origin", maybe(it->origin));
    json_object_set_new(o, "reference", maybe(it->reference));
    json_object_set_new(o, "before", texts[ANSWER_BEFORE]);
    json_object_set_new(o, "before_cut", json_boolean(it->cut[ANSWER_BEFORE]));
    json_object_set_new(o, "after", texts[ANSWER_AFTER]);
    json_object_set_new(o, "after_cut", json_boolean(it->cut[ANSWER_AFTER]));
    return o;
}

static enum status write_file(const struct answers *a, const char *output_dir, struct err *e)
{
    char path[IO_PATH_MAX];
    TRY(io_join(path, sizeof path, output_dir, ANSWERS_FILE, e));
    json_t *all = json_array();
    for (size_t i = 0; i < a->n; i++) json_array_append_new(all, to_json(&a->items[i]));
    enum status s = all ? json_write_file(all, path, e) : no_memory(e);
    json_decref(all);
    return s;
}

static struct answer *find(struct answers *a, const char *prompt)
{
    for (size_t i = 0; prompt && i < a->n; i++)
        if (!strcmp(a->items[i].prompt, prompt)) return &a->items[i];
    return NULL;
}

static enum status recall(struct answers *a, const json_t *o, const char *path, struct err *e)
{
    const char *prompt = NULL, *before = NULL;
    int cut = 0;
    TRY(json_get_string(o, "prompt", &prompt, path, e));
    TRY(json_get_string(o, "before", &before, path, e));
    TRY(json_get_bool(o, "before_cut", &cut, path, e));
    struct answer *it = find(a, prompt);
    if (!it || !before) return OK;
    mem_free(it->text[ANSWER_BEFORE]);
    it->text[ANSWER_BEFORE] = mem_strdup(before);
    it->cut[ANSWER_BEFORE] = cut;
    return it->text[ANSWER_BEFORE] ? OK : no_memory(e);
}

enum status answers_recall(struct answers *a, const char *output_dir, struct err *e)
{
    char path[IO_PATH_MAX];
    json_t *all;
    TRY(io_join(path, sizeof path, output_dir, ANSWERS_FILE, e));
    if (!a->n || !io_exists(path)) return OK;
    TRY(json_parse_file(path, &all, e));
    enum status s = OK;
    for (size_t i = 0; !s && i < json_array_size(all); i++)
        s = recall(a, json_array_get(all, i), path, e);
    json_decref(all);
    return s;
}

enum status answers_ask(struct answers *a, struct session *s, enum answer_time when, struct err *e)
{
    struct sampler sampler = {0};
    struct sampler_options greedy = {.top_p = 1};
    struct generate_options o = {.max_new_tokens = ANSWER_TOKENS};
    if (!a->n) return OK;
    set_stops(s, &o);
    enum status status = sampler_init(&sampler, &greedy, s->model.vocab_size, e);
    double began = clock_seconds();
    for (size_t i = 0; !status && i < a->n; i++) {
        status = ask(&a->items[i], s, &sampler, &o, when, e);
        double took = clock_seconds() - began;
        if (!i && took > SLOW_SECONDS)
            log_notice("answering %zu sample prompts, %.0f s each; sample_prompts: none leaves "
                       "them out",
                       a->n, took);
    }
    sampler_free(&sampler);
    return status ? status : write_file(a, s->config->output_dir, e);
}
