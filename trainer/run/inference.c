#include "run/inference.h"

#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "data/formats/format.h"
#include "data/jsonl/jsonl.h"
#include "run/chat_template.h"
#include "run/sidecar.h"
#include "run/text_stream.h"
#include "run/weights.h"

#define DECODE_ROWS 256  /* prompt tokens fed at once */
#define CONTEXT_MAX 4096 /* rows of the cache unless asked for more: models claim up to 131072 */
#define TEXT_MAX ((size_t)1 << 26)

/* --- opening --- */

static enum status find_template(const struct inference_options *o, const struct template **out,
                                 struct err *e)
{
    const char *dir = o->adapter ? o->adapter : o->model;
    int jinja = 0;
    *out = NULL;
    if (o->raw) return OK;
    if (o->template) return chat_template_named(o->template, out, e);
    TRY(sidecar_template(dir, out, e));
    if (*out) return OK;
    TRY(chat_template_of_model(o->model, out, &jinja, e));
    if (*out) {
        log_notice("template: %s, as %s has it", (*out)->name, o->model);
        return OK;
    }
    err_set(e, ERR_CONFIG, "no template is known for %s%s", dir,
            jinja ? ": its chat_template is none of cria's" : "");
    return err_hint(e, "give --template NAME; generate can also continue text as it is: --raw");
}

static void add_stops(struct inference *f, const struct sidecar *s)
{
    const int32_t *ends;
    size_t n = encoder_end_ids(f->encoder, &ends);
    for (size_t i = 0; i < n; i++) generate_add_stop(&f->generate, ends[i]);
    for (int32_t i = 0; i < s->num_ends; i++) generate_add_stop(&f->generate, s->ends[i]);
    for (int32_t i = 0; i < f->config.num_eos; i++)
        generate_add_stop(&f->generate, f->config.eos[i]);
}

/* An adapter of ours has the tokenizer it was trained with, which may have more tokens. */
static int has_tokenizer(const char *dir, const struct sidecar *s)
{
    char path[IO_PATH_MAX];
    struct err ignored = {0};
    return s->tokenizer_hash[0] && !io_join(path, sizeof path, dir, "tokenizer.json", &ignored) &&
           io_file_size(path) >= 0;
}

static enum status open_text(struct inference *f, const struct inference_options *o, struct err *e)
{
    struct sidecar sidecar;
    const char *dir = o->adapter ? o->adapter : o->model;
    struct encode_options encode = {.train_on = TRAIN_ASSISTANT};
    TRY(sidecar_read(&sidecar, dir, e));
    TRY(find_template(o, &f->template, e));
    if (!has_tokenizer(dir, &sidecar)) dir = o->model;
    TRY(tokenizer_open(&f->tokenizer, dir, e));
    if (tokenizer_vocab_size(f->tokenizer) > f->config.vocab_size) {
        err_set(e, ERR_CONFIG, "%s: the tokenizer has %d tokens, the model %d", dir,
                (int)tokenizer_vocab_size(f->tokenizer), (int)f->config.vocab_size);
        return err_hint(e, "take the base that adapter_config.json names, or the tokenizer that "
                           "belongs to this model");
    }
    TRY(encoder_create(&f->encoder, f->template, f->tokenizer, &encode, e));
    add_stops(f, &sidecar);
    return OK;
}

/* The reference's weights first, where they are not the model's own. */
static enum status load_weights(struct inference *f, const struct inference_options *o,
                                struct err *e)
{
    struct engine *g = &f->engine;
    if (o->reference == ENGINE_REFERENCE_MODEL) {
        TRY(weights_load_base(g, o->reference_dir, e));
        engine_keep_reference(g);
    }
    TRY(weights_load_base(g, o->model, e));
    if (g->rows.rows.count) rows_adopt(&g->rows, &g->device);
    if (o->reference == ENGINE_REFERENCE_BASE) engine_keep_reference(g);
    if (o->reference == ENGINE_REFERENCE_ADAPTER) {
        TRY(weights_load_adapter(g, o->reference_dir, e));
        engine_keep_reference(g);
    }
    return o->adapter ? weights_load_adapter(g, o->adapter, e) : OK;
}

enum status inference_open_engine(struct inference *f, const struct inference_options *o,
                                  const struct loader_limits *limits, int32_t max_length,
                                  struct err *e)
{
    int64_t most = f->config.max_positions, rows = o->context ? o->context : most;
    if (!o->context && rows > CONTEXT_MAX) rows = CONTEXT_MAX;
    if (rows < 2 || rows > most)
        return err_set(e, ERR_CONFIG, "--context %lld: this model takes 2 to %lld tokens",
                       (long long)rows, (long long)most);
    if (o->device && !strcmp(o->device, "null"))
        return err_set(e, ERR_CONFIG, "--device null computes nothing: give auto, cpu or cuda");
    struct engine_options options = {
        .device = o->device ? o->device : "cpu",
        .threads = o->threads,
        .config = &f->config,
        .lora = o->adapter ? &f->adapter.options : NULL,
        .positions = rows > max_length ? (int32_t)rows : max_length,
        .cache_rows = (int32_t)rows,
        .decode_rows = rows < DECODE_ROWS ? (int32_t)rows : DECODE_ROWS,
        .pairs = o->pairs,
        .reference = o->reference,
    };
    if (limits) options.eval_limits = *limits;
    enum status s = engine_describe(&f->engine, &options, e);
    if (s == ERR_CONFIG && o->adapter) return adapter_dir_blame(o->adapter, e);
    TRY(s);
    TRY(engine_allocate(&f->engine, e));
    return load_weights(f, o, e);
}

enum status inference_open_text(struct inference *f, const struct inference_options *o,
                                struct err *e)
{
    *f = (struct inference){.raw = o->raw};
    if (o->max_new_tokens < 1 || o->max_new_tokens > INT32_MAX)
        return err_set(e, ERR_CONFIG, "--max-new-tokens must be at least 1");
    f->generate.max_new_tokens = (int32_t)o->max_new_tokens;
    f->generate.reuse = 1; /* a template's opening words, or the conversation so far */
    TRY(model_config_read(&f->config, o->model, e));
    TRY(sampler_init(&f->sampler, &o->sampling, f->config.vocab_size, e));
    TRY(open_text(f, o, e));
    return o->adapter ? adapter_dir_open(&f->adapter, o->adapter, e) : OK;
}

enum status inference_open(struct inference *f, const struct inference_options *o, struct err *e)
{
    TRY(inference_open_text(f, o, e));
    return inference_open_engine(f, o, NULL, 0, e);
}

void inference_close(struct inference *f)
{
    engine_free(&f->engine);
    sampler_free(&f->sampler);
    encoder_destroy(f->encoder);
    template_close(f->template);
    tokenizer_close(f->tokenizer);
    adapter_dir_close(&f->adapter);
    model_config_free(&f->config);
    *f = (struct inference){0};
}

/* --- prompts --- */

enum status inference_prompt(struct inference *f, const struct conversation *c, struct id_list *out,
                             struct err *e)
{
    return encoder_prompt(f->encoder, c, out, e);
}

enum status inference_raw_prompt(struct inference *f, const char *text, struct id_list *out,
                                 struct err *e)
{
    int32_t bos = tokenizer_bos(f->tokenizer);
    int wanted = tokenizer_adds_bos(f->tokenizer) || !text[0];
    if (wanted && bos >= 0 && id_list_append(out, &bos, 1))
        return err_set(e, ERR_MEMORY, "no memory for the prompt");
    struct tokenizer_scratch *s = tokenizer_scratch_create();
    if (!s) return err_set(e, ERR_MEMORY, "no memory to tokenize");
    enum status status =
        tokenizer_encode(f->tokenizer, s, text, strlen(text), TOK_TEXT_START, out, e);
    tokenizer_scratch_destroy(s);
    return status;
}

/* --- answers --- */

struct streaming {
    const struct tokenizer *tokenizer;
    struct inference_answer *answer;
    struct text_stream characters;
    struct buf bytes, ready; /* of one token; whole characters */
    int started;
    enum status failed;
};

static void hand_over(struct streaming *s)
{
    if (s->ready.len) s->answer->grown(s->answer->context, s->ready.data, s->ready.len);
    buf_clear(&s->ready);
}

static int stream_token(void *context, int32_t id)
{
    struct streaming *s = context;
    const struct inference_answer *a = s->answer;
    if (a->grown) {
        buf_clear(&s->bytes);
        s->failed = tokenizer_token_bytes(s->tokenizer, id, !s->started, &s->bytes);
        if (s->bytes.len) s->started = 1;
        if (!s->failed)
            s->failed = text_stream_push(&s->characters, s->bytes.data, s->bytes.len, &s->ready);
        hand_over(s);
    }
    return s->failed || (a->stop && *a->stop);
}

/* What the new ids add to the prompt's text: a leading space stays, since the text goes on. */
static enum status decode_continuation(struct inference *f, const struct id_list *prompt,
                                       const struct id_list *ids, struct buf *out, struct err *e)
{
    struct buf before, both;
    struct id_list all = {0};
    buf_init(&before, TEXT_MAX);
    buf_init(&both, TEXT_MAX);
    enum status s = id_list_append(&all, prompt->ids, prompt->len);
    if (!s) s = id_list_append(&all, ids->ids, ids->len);
    if (s) err_set(e, s, "no memory for the answer");
    if (!s) s = tokenizer_decode(f->tokenizer, prompt->ids, prompt->len, 1, &before, e);
    if (!s) s = tokenizer_decode(f->tokenizer, all.ids, all.len, 1, &both, e);
    size_t n = before.len;
    if (!s && n <= both.len && (!n || !memcmp(before.data, both.data, n)))
        s = both.len > n ? buf_append(out, both.data + n, both.len - n) : OK;
    else if (!s) /* the prompt ended inside a character */
        s = tokenizer_decode(f->tokenizer, ids->ids, ids->len, 1, out, e);
    id_list_free(&all);
    buf_free(&before);
    buf_free(&both);
    return s;
}

enum status inference_tokens(struct inference *f, const struct id_list *prompt, uint64_t sequence,
                             generate_listener *listen, void *context, struct id_list *out,
                             enum generate_end *end, struct err *e)
{
    return generate(&f->engine, &f->sampler, prompt->ids, prompt->len, &f->generate, sequence,
                    listen, context, out, end, e);
}

enum status inference_answer(struct inference *f, const struct id_list *prompt, uint64_t sequence,
                             struct inference_answer *a, struct err *e)
{
    struct streaming stream = {
        .tokenizer = f->tokenizer, .answer = a, .started = f->raw && prompt->len > 1};
    struct id_list ids = {0};
    buf_init(&stream.bytes, TEXT_MAX);
    buf_init(&stream.ready, TEXT_MAX);
    enum status s = inference_tokens(f, prompt, sequence, stream_token, &stream, &ids, &a->end, e);
    if (!s && !stream.failed) stream.failed = text_stream_end(&stream.characters, &stream.ready);
    if (a->grown) hand_over(&stream);
    if (!s && stream.failed) s = err_set(e, stream.failed, "no memory for the answer");
    if (!s)
        s = f->raw ? decode_continuation(f, prompt, &ids, a->text, e)
                   : tokenizer_decode(f->tokenizer, ids.ids, ids.len, 1, a->text, e);
    id_list_free(&ids);
    buf_free(&stream.bytes);
    buf_free(&stream.ready);
    return s;
}

/* --- files --- */

/* The last reply, if the conversation ends with one, is the reference and not part of the prompt;
 * of a preference it is the chosen one. */
static struct text take_reference(struct conversation *c)
{
    struct text none = {NULL, 0};
    if (c->kind != KIND_SFT) return c->chosen.given ? c->chosen.text : none;
    if (!c->num_turns || c->turns[c->num_turns - 1].role != ROLE_ASSISTANT) return none;
    return c->turns[--c->num_turns].text;
}

/* answer NULL: there is none. */
static enum status write_answer(FILE *out, const char *path, const struct conversation *c,
                                struct text reference, const struct buf *answer, struct err *e)
{
    struct buf line;
    const struct text *question = c->num_turns ? &c->turns[c->num_turns - 1].text : NULL;
    buf_init(&line, TEXT_MAX);
    json_t *o = json_object();
    if (question) json_object_set_new(o, "prompt", json_stringn(question->data, question->n));
    json_object_set_new(o, "response",
                        answer ? json_stringn(answer->data ? answer->data : "", answer->len)
                               : json_null());
    if (reference.data)
        json_object_set_new(o, "reference", json_stringn(reference.data, reference.n));
    enum status s = json_append_text(o, &line, e);
    if (!s && (fprintf(out, "%s\n", line.data) < 0 || fflush(out))) s = err_errno(e, "%s", path);
    json_decref(o);
    buf_free(&line);
    return s;
}

struct file_job {
    struct inference *f;
    struct conversation conversation;
    struct id_list prompt;
    struct buf text;
    int64_t done, too_long;
};

static enum status answer_record(struct file_job *j, const struct format *format,
                                 const json_t *record, FILE *out, const char *out_path,
                                 struct err *e)
{
    struct inference_answer a = {.text = &j->text};
    conversation_clear(&j->conversation);
    TRY(format->convert(record, &j->conversation, e));
    struct text reference = take_reference(&j->conversation);
    j->prompt.len = 0;
    buf_clear(&j->text);
    TRY(inference_prompt(j->f, &j->conversation, &j->prompt, e));
    int fits = j->prompt.len < (size_t)j->f->engine.options.cache_rows;
    if (fits) TRY(inference_answer(j->f, &j->prompt, (uint64_t)j->done, &a, e));
    j->done++;
    j->too_long += !fits;
    return write_answer(out, out_path, &j->conversation, reference, fits ? &j->text : NULL, e);
}

static enum status answer_all(struct file_job *j, struct jsonl *records,
                              const struct format *format, FILE *out, const char *out_path,
                              void (*told)(void *context, int64_t done, double share),
                              void *context, struct err *e)
{
    double size = (double)io_file_size(jsonl_path(records));
    for (;;) {
        struct jsonl_record r;
        TRY(jsonl_next(records, &r, e));
        if (r.kind == JSONL_END) return OK;
        if (r.kind == JSONL_BAD) return e->code;
        enum status s = answer_record(j, format, r.value, out, out_path, e);
        if (s) return err_wrap(e, "record %lld", (long long)r.place);
        if (told) told(context, j->done, size > 0 ? (double)jsonl_offset(records) / size : 1);
    }
}

enum status inference_file(struct inference *f, const char *data, const char *out_path,
                           void (*told)(void *context, int64_t done, double share), void *context,
                           struct err *e)
{
    const struct format *format;
    struct jsonl *records = NULL;
    struct file_job j = {.f = f};
    if (io_same(data, out_path)) {
        err_set(e, ERR_CONFIG, "%s is the data itself", out_path);
        return err_hint(e, "give another --out");
    }
    TRY(format_detect(data, NULL, NULL, &format, e));
    buf_init(&j.text, TEXT_MAX);
    FILE *out = fopen(out_path, "w");
    enum status s = out ? jsonl_open(&records, data, NULL, e) : err_errno(e, "%s", out_path);
    if (!s) s = answer_all(&j, records, format, out, out_path, told, context, e);
    if (s && j.done)
        log_notice("%s holds the %lld answers until then", out_path, (long long)j.done);
    if (out && fclose(out) && !s) s = err_errno(e, "%s", out_path);
    if (j.too_long)
        log_warning("%s: %lld prompts do not fit the context of %d tokens and have no response",
                    data, (long long)j.too_long, (int)f->engine.options.cache_rows);
    jsonl_close(records);
    conversation_free(&j.conversation);
    id_list_free(&j.prompt);
    buf_free(&j.text);
    return s;
}
