/* tok_json.c - reads tokenizer.json, as far as models of the Llama family use it.
 *
 * Each section is a step or a Sequence of steps; a table a section says which reader takes a
 * step's "type". What is not in the tables is refused, never passed over. The two long lists are
 * read aside (tok_lists.h).
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "data/tokenizer/bytes.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/scan.h"
#include "data/tokenizer/tok_lists.h"
#include "data/tokenizer/utf8.h"

struct reader {
    struct tokenizer *t;
    const char *path;
    struct err *e;
    struct buf scratch;
    struct token_lists lists;
    struct token_walk walk;
    int byte_level;                     /* the pre-tokenizer maps bytes */
    int32_t template_bos, template_eos; /* -1: the post-processor puts none */
};

typedef enum status step_reader(struct reader *r, const json_t *step);

struct step_type {
    const char *name;
    step_reader *read;
};

static enum status unsupported(struct reader *r, const char *what, const char *which)
{
    err_at(r->e, ERR_UNSUPPORTED, r->path, 0, 0, "%s \"%.100s\" is not supported", what, which);
    return err_hint(r->e, "cria reads BPE tokenizers of the Llama, Mistral and Qwen families");
}

static enum status malformed(struct reader *r, const char *what)
{
    return err_at(r->e, ERR_FORMAT, r->path, 0, 0, "%s is not as it should be", what);
}

static enum status no_memory(struct reader *r)
{
    return err_at(r->e, ERR_MEMORY, r->path, 0, 0, "no memory for the tokenizer");
}

/* A section: null, one step, or a Sequence, whose list has one of several names. */
static enum status read_section(struct reader *r, const json_t *value, const char *what,
                                const struct step_type *types)
{
    static const char *const lists[] = {"normalizers", "pretokenizers", "processors", "decoders"};
    if (!value || json_is_null(value)) return OK;
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type) return malformed(r, what);
    if (!strcmp(type, "Sequence")) {
        for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
            const json_t *list = json_object_get(value, lists[i]), *step;
            size_t k;
            json_array_foreach(list, k, step)
            {
                const char *inner = json_string_value(json_object_get(step, "type"));
                if (inner && !strcmp(inner, "Sequence"))
                    return unsupported(r, what, "Sequence in a Sequence");
                TRY(read_section(r, step, what, types));
            }
        }
        return OK;
    }
    for (; types->name; types++)
        if (!strcmp(types->name, type)) return types->read(r, value);
    return unsupported(r, what, type);
}

/* A short string into out[size]; absent is malformed. */
static enum status short_string(struct reader *r, const json_t *value, const char *what, char *out,
                                size_t size)
{
    const char *s = json_string_value(value);
    if (!s) return malformed(r, what);
    if (strlen(s) >= size) return unsupported(r, what, s);
    snprintf(out, size, "%s", s);
    return OK;
}

static enum status get_bool(struct reader *r, const json_t *o, const char *key, int *out)
{
    return json_get_bool(o, key, out, r->path, r->e);
}

/* ---- normalizer ---- */

static enum status add_normalizer(struct reader *r, const struct normalizer_step *step)
{
    struct normalizer *z = &r->t->normalizer;
    if (z->count == NORMALIZER_STEPS) return unsupported(r, "normalizer", "so many steps");
    z->steps[z->count++] = *step;
    return OK;
}

static enum status read_prepend(struct reader *r, const json_t *step)
{
    struct normalizer_step z = {.kind = NORMALIZE_PREPEND};
    TRY(short_string(r, json_object_get(step, "prepend"), "Prepend", z.to, sizeof z.to));
    return add_normalizer(r, &z);
}

static enum status read_replace(struct reader *r, const json_t *step)
{
    struct normalizer_step z = {.kind = NORMALIZE_REPLACE};
    const json_t *from = json_object_get(json_object_get(step, "pattern"), "String");
    if (!from) return unsupported(r, "Replace", "with a regular expression");
    TRY(short_string(r, from, "Replace pattern", z.from, sizeof z.from));
    TRY(short_string(r, json_object_get(step, "content"), "Replace", z.to, sizeof z.to));
    return add_normalizer(r, &z);
}

static enum status read_nfc(struct reader *r, const json_t *step)
{
    (void)step;
    return add_normalizer(r, &(struct normalizer_step){.kind = NORMALIZE_NFC});
}

static const struct step_type normalizers[] = {
    {"Prepend", read_prepend}, {"Replace", read_replace}, {"NFC", read_nfc}, {NULL, NULL}};

/* ---- pre-tokenizer ---- */

/* NULL after an error. */
static struct pre_step *new_pre(struct reader *r, enum pre_kind kind)
{
    struct tokenizer *t = r->t;
    if (r->byte_level || t->pre_count == PRE_STEPS) {
        unsupported(r, "pre_tokenizer", r->byte_level ? "step behind ByteLevel" : "so many steps");
        return NULL;
    }
    struct pre_step *p = &t->pre[t->pre_count++];
    p->kind = kind;
    return p;
}

static enum status add_split(struct reader *r, const char *pattern, int literal)
{
    struct pre_step *p = new_pre(r, PRE_SPLIT);
    if (!p) return r->e->code;
    p->pattern = mem_strdup(pattern);
    if (!p->pattern) return no_memory(r);
    p->split = literal;
    enum status s =
        splitter_create(&p->splitter, pattern, literal ? SPLIT_LITERAL : SPLIT_PATTERN, r->e);
    return s ? err_wrap(r->e, "%s", r->path) : OK;
}

static enum status read_split(struct reader *r, const json_t *step)
{
    const json_t *pattern = json_object_get(step, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    const char *behavior = "";
    int invert = 0;
    if (!regex && !literal) return malformed(r, "Split pattern");
    TRY(json_get_string(step, "behavior", &behavior, r->path, r->e));
    TRY(get_bool(r, step, "invert", &invert));
    if (strcmp(behavior, "Isolated")) return unsupported(r, "Split behavior", behavior);
    if (invert) return unsupported(r, "Split", "invert");
    return add_split(r, regex ? regex : literal, !regex);
}

static enum status read_byte_level(struct reader *r, const json_t *step)
{
    int prefix = 1, regex = 1;
    TRY(get_bool(r, step, "add_prefix_space", &prefix));
    TRY(get_bool(r, step, "use_regex", &regex));
    if (prefix) {
        struct pre_step *p = new_pre(r, PRE_PREFIX_SPACE);
        if (!p) return r->e->code;
        p->prefix = PREFIX_ALWAYS;
    }
    if (regex) TRY(add_split(r, scan_gpt2_pattern, 0));
    r->byte_level = 1;
    return OK;
}

static enum status read_scheme(struct reader *r, const json_t *step, enum prefix_scheme *out)
{
    const char *scheme = "always";
    int add = -1;
    TRY(json_get_string(step, "prepend_scheme", &scheme, r->path, r->e));
    TRY(get_bool(r, step, "add_prefix_space", &add));
    *out = !strcmp(scheme, "first")   ? PREFIX_FIRST
           : !strcmp(scheme, "never") ? PREFIX_NEVER
                                      : PREFIX_ALWAYS;
    if (*out == PREFIX_ALWAYS && strcmp(scheme, "always"))
        return unsupported(r, "prepend_scheme", scheme);
    if (!add) *out = PREFIX_NEVER;
    return OK;
}

static enum status read_metaspace(struct reader *r, const json_t *step)
{
    int split = 1;
    struct pre_step *p = new_pre(r, PRE_METASPACE);
    if (!p) return r->e->code;
    TRY(read_scheme(r, step, &p->prefix));
    TRY(get_bool(r, step, "split", &split));
    p->split = split;
    TRY(short_string(r, json_object_get(step, "replacement"), "Metaspace replacement",
                     p->replacement, sizeof p->replacement));
    return *p->replacement ? OK : malformed(r, "Metaspace replacement");
}

static const struct step_type pre_tokenizers[] = {{"Split", read_split},
                                                  {"ByteLevel", read_byte_level},
                                                  {"Metaspace", read_metaspace},
                                                  {NULL, NULL}};

/* ---- decoder ---- */

static enum status add_decoder(struct reader *r, const struct decoder_step *step)
{
    struct decoder *d = &r->t->decoder;
    if (d->count == DECODER_STEPS) return unsupported(r, "decoder", "so many steps");
    d->steps[d->count++] = *step;
    return OK;
}

static enum status read_decode_replace(struct reader *r, const json_t *step)
{
    struct decoder_step d = {.kind = DECODE_REPLACE};
    const json_t *from = json_object_get(json_object_get(step, "pattern"), "String");
    if (!from) return unsupported(r, "Replace", "with a regular expression");
    TRY(short_string(r, from, "Replace pattern", d.from, sizeof d.from));
    TRY(short_string(r, json_object_get(step, "content"), "Replace", d.to, sizeof d.to));
    return add_decoder(r, &d);
}

static enum status read_decode_strip(struct reader *r, const json_t *step)
{
    struct decoder_step d = {.kind = DECODE_STRIP};
    int64_t start = 0, stop = 0;
    TRY(short_string(r, json_object_get(step, "content"), "Strip", d.from, sizeof d.from));
    TRY(json_get_int(step, "start", &start, r->path, r->e));
    TRY(json_get_int(step, "stop", &stop, r->path, r->e));
    if (start < 0 || start > 1000000 || stop < 0 || stop > 1000000) return malformed(r, "Strip");
    d.start = (int)start;
    d.stop = (int)stop;
    return add_decoder(r, &d);
}

static enum status read_decode_metaspace(struct reader *r, const json_t *step)
{
    struct decoder_step d = {.kind = DECODE_METASPACE};
    enum prefix_scheme scheme;
    TRY(read_scheme(r, step, &scheme));
    TRY(short_string(r, json_object_get(step, "replacement"), "Metaspace replacement", d.from,
                     sizeof d.from));
    d.start = scheme != PREFIX_NEVER;
    return add_decoder(r, &d);
}

static enum status read_decode_bytes(struct reader *r, const json_t *step)
{
    (void)step;
    return add_decoder(r, &(struct decoder_step){.kind = DECODE_BYTE_FALLBACK});
}

static enum status read_decode_fuse(struct reader *r, const json_t *step)
{
    (void)step;
    return add_decoder(r, &(struct decoder_step){.kind = DECODE_FUSE});
}

static enum status read_decode_byte_level(struct reader *r, const json_t *step)
{
    (void)step;
    return add_decoder(r, &(struct decoder_step){.kind = DECODE_BYTE_LEVEL});
}

static const struct step_type decoders[] = {{"Replace", read_decode_replace},
                                            {"Strip", read_decode_strip},
                                            {"Metaspace", read_decode_metaspace},
                                            {"ByteFallback", read_decode_bytes},
                                            {"Fuse", read_decode_fuse},
                                            {"ByteLevel", read_decode_byte_level},
                                            {NULL, NULL}};

/* ---- post-processor ---- */

static enum status skip_step(struct reader *r, const json_t *step)
{
    (void)r;
    (void)step;
    return OK;
}

/* Of a template only "A", with at most one special token on each side, can be told apart as BOS
 * and EOS. */
static enum status read_template(struct reader *r, const json_t *step)
{
    const json_t *item;
    size_t i;
    int seen = 0;
    json_array_foreach(json_object_get(step, "single"), i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        if (!special) {
            seen++;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        if (!name) return malformed(r, "TemplateProcessing");
        int32_t id = vocab_find(&r->t->vocab, name, strlen(name));
        int32_t *place = seen ? &r->template_eos : &r->template_bos;
        if (id < 0)
            return err_at(r->e, ERR_FORMAT, r->path, 0, 0,
                          "the post-processor names %.100s, which is no token", name);
        if (*place >= 0) return unsupported(r, "post_processor", "several special tokens in a row");
        *place = id;
    }
    return seen == 1 ? OK : malformed(r, "TemplateProcessing");
}

static const struct step_type post_processors[] = {
    {"TemplateProcessing", read_template}, {"ByteLevel", skip_step}, {NULL, NULL}};

/* ---- model ---- */

static enum status walk_failed(struct reader *r, enum token_walk_result result, const char *what)
{
    return result == WALK_NO_MEMORY ? no_memory(r) : malformed(r, what);
}

static enum status read_vocab(struct reader *r, const struct token_list *list)
{
    struct tokenizer *t = r->t;
    struct token_text spelling;
    enum token_walk_result result;
    long long id, limit = (long long)list->count * 2 + 1024; /* gaps, but not huge ones */
    if (!list->start) return malformed(r, "model.vocab");
    r->walk.at = list->start;
    r->walk.end = list->end;
    r->walk.begun = 0;
    if (vocab_reserve(&t->vocab, list->count)) return no_memory(r);
    while ((result = token_walk_vocab(&r->walk, &spelling, &id)) == WALK_ENTRY) {
        if (id < 0 || id >= limit)
            return err_at(r->e, ERR_FORMAT, r->path, 0, 0,
                          "token \"%.*s\" has no id, or one out of range",
                          (int)(spelling.n < 80 ? spelling.n : 80), spelling.data);
        TRY(tokenizer_put(&t->vocab, (int32_t)id, spelling.data, spelling.n, r->path, r->e));
    }
    t->model_size = t->vocab.size;
    return result == WALK_END ? OK : walk_failed(r, result, "model.vocab");
}

static int32_t merge_part(struct reader *r, const char *text, size_t n)
{
    int32_t id = vocab_find(&r->t->vocab, text, n);
    if (id < 0)
        err_at(r->e, ERR_FORMAT, r->path, 0, 0, "\"%.*s\" of a merge is not in the vocabulary",
               (int)(n < 80 ? n : 80), text);
    return id;
}

static enum status read_merges(struct reader *r, const struct token_list *list)
{
    struct token_text part[2];
    enum token_walk_result result;
    int32_t rank = 0;
    if (!list->start) return malformed(r, "model.merges");
    r->walk.at = list->start;
    r->walk.end = list->end;
    r->walk.begun = 0;
    if (merge_table_reserve(&r->t->merges, list->count)) return no_memory(r);
    while ((result = token_walk_merge(&r->walk, part)) == WALK_ENTRY) {
        int32_t left = merge_part(r, part[0].data, part[0].n);
        if (left < 0) return r->e->code;
        int32_t right = merge_part(r, part[1].data, part[1].n);
        if (right < 0) return r->e->code;
        buf_clear(&r->scratch);
        if (buf_append(&r->scratch, part[0].data, part[0].n) ||
            buf_append(&r->scratch, part[1].data, part[1].n))
            return no_memory(r);
        int32_t id = merge_part(r, r->scratch.data, r->scratch.len);
        if (id < 0) return r->e->code;
        if (merge_table_put(&r->t->merges, left, right, rank++, id)) return no_memory(r);
    }
    return result == WALK_END ? OK : walk_failed(r, result, "a merge");
}

static enum status read_model(struct reader *r, const json_t *model)
{
    struct tokenizer *t = r->t;
    const char *type = "BPE", *unknown = NULL, *affix = "";
    double dropout = 0;
    if (!json_is_object(model)) return malformed(r, "model");
    TRY(json_get_string(model, "type", &type, r->path, r->e));
    if (strcmp(type, "BPE")) return unsupported(r, "model type", type);
    TRY(json_get_string(model, "unk_token", &unknown, r->path, r->e));
    TRY(get_bool(r, model, "fuse_unk", &t->fuse_unknown));
    TRY(get_bool(r, model, "byte_fallback", &t->byte_fallback));
    TRY(get_bool(r, model, "ignore_merges", &t->ignore_merges));
    TRY(json_get_double(model, "dropout", &dropout, r->path, r->e));
    if (dropout != 0) return unsupported(r, "model", "dropout");
    TRY(json_get_string(model, "continuing_subword_prefix", &affix, r->path, r->e));
    if (*affix) return unsupported(r, "continuing_subword_prefix", affix);
    TRY(json_get_string(model, "end_of_word_suffix", &affix, r->path, r->e));
    if (*affix) return unsupported(r, "end_of_word_suffix", affix);
    TRY(read_vocab(r, &r->lists.vocab));
    TRY(read_merges(r, &r->lists.merges));
    if (!unknown) return OK;
    t->unknown = vocab_find(&t->vocab, unknown, strlen(unknown));
    return t->unknown >= 0 ? OK
                           : err_at(r->e, ERR_FORMAT, r->path, 0, 0,
                                    "the unknown token %.80s is not in the vocabulary", unknown);
}

/* The symbols of a byte-level model: its spellings as bytes. */
static enum status derive_symbols(struct reader *r)
{
    struct tokenizer *t = r->t;
    if (vocab_reserve(&t->symbols, (size_t)t->model_size)) return no_memory(r);
    for (int32_t id = 0; id < t->model_size; id++) {
        size_t n;
        int whole;
        const char *text = vocab_text(&t->vocab, id, &n);
        if (!text) continue;
        buf_clear(&r->scratch);
        if (bytes_append_raw(&r->scratch, text, n, &whole)) return no_memory(r);
        if (!whole) continue;
        TRY(tokenizer_put(&t->symbols, id, r->scratch.data, r->scratch.len, r->path, r->e));
    }
    return t->symbols.size ? OK : malformed(r, "the vocabulary of a byte-level model");
}

/* ---- added tokens ---- */

static enum status read_added(struct reader *r, const json_t *token)
{
    static const struct {
        const char *key;
        unsigned flag;
    } keys[] = {{"special", ADDED_SPECIAL},
                {"normalized", ADDED_NORMALIZED},
                {"lstrip", ADDED_LSTRIP},
                {"rstrip", ADDED_RSTRIP},
                {"single_word", ADDED_SINGLE_WORD}};
    struct tokenizer *t = r->t;
    const char *content = NULL;
    int64_t id = -1;
    unsigned flags = 0;
    TRY(json_get_string(token, "content", &content, r->path, r->e));
    TRY(json_get_int(token, "id", &id, r->path, r->e));
    if (!content || id < 0) return malformed(r, "added_tokens");
    if (!*content) return OK; /* the reference passes over it */
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int on = 0;
        TRY(get_bool(r, token, keys[i].key, &on));
        if (on) flags |= keys[i].flag;
    }
    size_t n = strlen(content);
    int32_t there = vocab_find(&t->vocab, content, n);
    /* The reference numbers new tokens itself and only warns when that is not what the file says.
     */
    int32_t will_be = there >= 0 ? there : t->vocab.size;
    if (id != will_be)
        return err_at(r->e, ERR_FORMAT, r->path, 0, 0,
                      "added token \"%.80s\" says id %lld, but by its place it is %d", content,
                      (long long)id, will_be);
    if (there < 0) TRY(tokenizer_put(&t->vocab, will_be, content, n, r->path, r->e));
    return tokenizer_add(t, will_be, flags) ? no_memory(r) : OK;
}

/* tokenizer.json does not name BOS and EOS; where no other file does, they are told by spelling. */
static const char *const usual_bos[] = {"<s>", "<|begin_of_text|>", NULL};
static const char *const usual_eos[] = {"</s>", "<|end_of_text|>", "<|endoftext|>", NULL};

static int32_t usual_special(const struct tokenizer *t, const char *const *names)
{
    for (; *names; names++) {
        int32_t id = vocab_find(&t->vocab, *names, strlen(*names));
        for (size_t i = 0; i < t->added_count && id >= 0; i++)
            if (t->added[i].id == id && t->added[i].flags & ADDED_SPECIAL) return id;
    }
    return -1;
}

static enum status read_root(struct reader *r, json_t *root)
{
    struct tokenizer *t = r->t;
    const json_t *token;
    size_t i;
    TRY(read_model(r, json_object_get(root, "model")));
    json_array_foreach(json_object_get(root, "added_tokens"), i, token) TRY(read_added(r, token));
    TRY(read_section(r, json_object_get(root, "normalizer"), "normalizer", normalizers));
    TRY(read_section(r, json_object_get(root, "pre_tokenizer"), "pre_tokenizer", pre_tokenizers));
    TRY(read_section(r, json_object_get(root, "post_processor"), "post_processor",
                     post_processors));
    TRY(read_section(r, json_object_get(root, "decoder"), "decoder", decoders));
    if (!t->decoder.count) TRY(add_decoder(r, &(struct decoder_step){.kind = DECODE_JOIN}));
    if (r->byte_level) {
        t->alphabet = ALPHABET_BYTES;
        TRY(derive_symbols(r));
    }
    t->adds_bos = r->template_bos >= 0;
    t->adds_eos = r->template_eos >= 0;
    t->bos = t->adds_bos ? r->template_bos : usual_special(t, usual_bos);
    t->eos = t->adds_eos ? r->template_eos : usual_special(t, usual_eos);
    return OK;
}

static enum status read_text(struct reader *r, const char *text, size_t n)
{
    json_t *root = NULL;
    struct buf rest;
    buf_init(&rest, JSON_FILE_MAX);
    if (utf8_valid_prefix(text, n) == n) token_lists_find(text, n, &r->lists);
    enum status s = token_lists_rest(text, n, &r->lists, &rest);
    if (s) s = no_memory(r);
    if (!s) s = json_parse_text(rest.data ? rest.data : "", rest.len, r->path, &root, r->e);
    if (!s) s = json_is_object(root) ? read_root(r, root) : malformed(r, "the file");
    json_decref(root);
    buf_free(&rest);
    return s;
}

enum status tok_json_read(struct tokenizer *t, const char *path, const char *text, size_t n,
                          struct err *e)
{
    struct reader r = {.t = t, .path = path, .e = e, .template_bos = -1, .template_eos = -1};
    buf_init(&r.scratch, (size_t)1 << 31);
    for (int i = 0; i < 2; i++) buf_init(&r.walk.scratch[i], (size_t)1 << 31);
    enum status s = read_text(&r, text, n);
    buf_free(&r.scratch);
    for (int i = 0; i < 2; i++) buf_free(&r.walk.scratch[i]);
    if (s != ERR_FORMAT) return s;
    /* If it is no JSON at all, jansson knows where. */
    struct err better = {0};
    json_t *root = NULL;
    if (json_parse_text(text, n, path, &root, &better) == ERR_FORMAT) *e = better;
    json_decref(root);
    return s;
}
