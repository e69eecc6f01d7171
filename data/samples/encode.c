#include "data/samples/encode.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "data/samples/fastchat.h"

enum { MAX_SPECIALS = 16, MAX_SPELLING = 128, MAX_ENDS = 8 };

struct special {
    char name[MAX_SPELLING]; /* as the tokenizer spells it */
    size_t n;
    int32_t id;
};

struct encoder {
    const struct template *t;
    const struct tokenizer *tok;
    struct encode_options options;
    struct tokenizer_scratch *scratch;
    struct special specials[MAX_SPECIALS];
    int num_specials;
    const char *bos, *eos; /* their spelling, in specials; NULL: none */
    int32_t end_ids[MAX_ENDS];
    size_t num_end_ids;
    struct rendered text;
    struct id_list ids, part; /* of a stretch, and of a part of it */
    struct sample prompt;
    struct sample whole[2]; /* the prompt with a reply behind it */
};

/* ---- setup ---- */

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory to encode a conversation");
}

static enum status add_special(struct encoder *n, const char *name, size_t length, int32_t id,
                               const char **spelling, struct err *e)
{
    for (int i = 0; i < n->num_specials; i++)
        if (n->specials[i].n == length && !memcmp(n->specials[i].name, name, length)) {
            if (spelling) *spelling = n->specials[i].name;
            return OK;
        }
    if (n->num_specials == MAX_SPECIALS || length >= MAX_SPELLING || !length) {
        err_set(e, ERR_CONFIG, "a special token of %zu bytes, or more than %d of them", length,
                MAX_SPECIALS);
        return err_hint(e, "check BOS and EOS in the model's tokenizer_config.json");
    }
    struct special *s = &n->specials[n->num_specials++];
    memcpy(s->name, name, length);
    s->name[length] = 0;
    s->n = length;
    s->id = id;
    if (spelling) *spelling = s->name;
    return OK;
}

/* BOS or EOS: how the tokenizer spells it. */
static enum status add_own(struct encoder *n, int32_t id, const char *fallback,
                           const char **spelling, struct err *e)
{
    struct buf text;
    *spelling = NULL;
    if (id < 0) return OK;
    buf_init(&text, MAX_SPELLING);
    enum status s = tokenizer_decode(n->tok, &id, 1, 0, &text, e);
    if (!s)
        s = text.len ? add_special(n, text.data, text.len, id, spelling, e)
                     : add_special(n, fallback, strlen(fallback), id, spelling, e);
    buf_free(&text);
    return s;
}

/* Finds the token that a pattern names. */
static enum status bind(void *ctx, const char *name, size_t length, struct err *e)
{
    struct encoder *n = ctx;
    char spelling[MAX_SPELLING];
    if (length == 3 && !memcmp(name, "bos", 3) && n->bos) return OK;
    if (length == 3 && !memcmp(name, "eos", 3) && n->eos) return OK;
    int32_t id = -1;
    if (length < MAX_SPELLING) {
        memcpy(spelling, name, length);
        spelling[length] = 0;
        id = tokenizer_find(n->tok, spelling);
    }
    if (id >= 0) return add_special(n, name, length, id, NULL, e);
    err_set(e, ERR_CONFIG, "template %s needs the token %s%.*s, which the tokenizer does not have",
            n->t->name, *name == '<' ? "" : "of kind ", (int)length, name);
    return err_hint(e, "add_special_tokens: auto adds it in a training run; or use a template made "
                       "for this model, such as vicuna or alpaca for a base Llama");
}

static int32_t special_id(const struct encoder *n, const char *name, size_t length)
{
    for (int i = 0; i < n->num_specials; i++)
        if (n->specials[i].n == length && !memcmp(n->specials[i].name, name, length))
            return n->specials[i].id;
    return -1;
}

static enum status add_end(void *ctx, const char *name, size_t length, struct err *e)
{
    struct encoder *n = ctx;
    int own_bos = length == 3 && !memcmp(name, "bos", 3);
    int own_eos = length == 3 && !memcmp(name, "eos", 3);
    int32_t id = own_bos   ? tokenizer_bos(n->tok)
                 : own_eos ? tokenizer_eos(n->tok)
                           : special_id(n, name, length);
    (void)e;
    for (size_t i = 0; i < n->num_end_ids; i++)
        if (n->end_ids[i] == id) return OK;
    if (id >= 0 && n->num_end_ids < MAX_ENDS) n->end_ids[n->num_end_ids++] = id;
    return OK;
}

/* The template's, then the tokenizer's own. */
static enum status find_end_ids(struct encoder *n, struct err *e)
{
    if (n->t) TRY(template_ends(n->t, add_end, n, e));
    return add_end(n, "eos", 3, e);
}

static enum status check_compat(struct encoder *n, struct err *e)
{
    if (n->options.compat != COMPAT_FASTCHAT) return OK;
    n->options.tokenize_whole = 1;
    if (n->t && !strcmp(n->t->name, "vicuna") && !n->t->own && n->eos && !strcmp(n->eos, "</s>") &&
        n->options.train_on == TRAIN_ASSISTANT)
        return OK;
    err_set(e, ERR_CONFIG,
            "compat: fastchat is for template vicuna, a tokenizer that ends texts "
            "with </s>, and train_on assistant");
    return err_hint(e, "leave compat out: every reply is then labelled to the token");
}

enum status encoder_create(struct encoder **out, const struct template *t,
                           const struct tokenizer *tok, const struct encode_options *options,
                           struct err *e)
{
    *out = NULL;
    struct encoder *n = mem_calloc(1, sizeof *n);
    if (!n) return no_memory(e);
    n->t = t;
    n->tok = tok;
    n->options = *options;
    rendered_init(&n->text);
    enum status s = (n->scratch = tokenizer_scratch_create()) ? OK : no_memory(e);
    if (!s) s = add_own(n, tokenizer_bos(tok), "<s>", &n->bos, e);
    if (!s) s = add_own(n, tokenizer_eos(tok), "</s>", &n->eos, e);
    if (!s && t) s = template_specials(t, bind, n, e);
    if (!s) s = find_end_ids(n, e);
    if (!s) s = check_compat(n, e);
    if (s)
        encoder_destroy(n);
    else
        *out = n;
    return s;
}

void encoder_destroy(struct encoder *n)
{
    if (!n) return;
    tokenizer_scratch_destroy(n->scratch);
    rendered_free(&n->text);
    id_list_free(&n->ids);
    id_list_free(&n->part);
    sample_free(&n->prompt);
    for (int k = 0; k < 2; k++) sample_free(&n->whole[k]);
    mem_free(n);
}

size_t encoder_end_ids(const struct encoder *n, const int32_t **out)
{
    *out = n->end_ids;
    return n->num_end_ids;
}

const struct rendered *encoder_text(const struct encoder *n) { return &n->text; }

/* ---- ids ---- */

/* Pieces first .. last-1: text between two cuts. */
struct stretch {
    size_t first, last;
    unsigned flags; /* for the tokenizer */
};

static enum status encode_text(struct encoder *n, size_t from, size_t to, unsigned flags,
                               struct id_list *out, struct err *e)
{
    out->len = 0;
    return tokenizer_encode(n->tok, n->scratch, n->text.text.data + from, to - from, flags, out, e);
}

/* Begins the piece's turn where it differs from the one before. */
static enum status maybe_begin_turn(const struct encoder *n, size_t piece, struct sample *out)
{
    const struct piece *p = &n->text.pieces[piece];
    if (piece ? p[-1].turn == p->turn : out->num_turns) return OK;
    return sample_begin_turn(out, n->text.turn_roles[p->turn]);
}

/* Appends the ids of a stretch. Where weight or turn change inside, as many ids go before the
 * change as the text up to there has alone. */
static enum status add_stretch(struct encoder *n, struct stretch x, struct sample *out,
                               struct err *e)
{
    const struct piece *p = n->text.pieces;
    size_t start = p[x.first].start, done = 0;
    TRY(encode_text(n, start, p[x.last - 1].start + p[x.last - 1].n, x.flags, &n->ids, e));
    for (size_t i = x.first; i < x.last; i++) {
        size_t upto = n->ids.len;
        if (i + 1 < x.last) {
            TRY(encode_text(n, start, p[i + 1].start, x.flags, &n->part, e));
            upto = size_max(done, size_min(n->part.len, upto));
        }
        if (maybe_begin_turn(n, i, out) ||
            sample_append(out, n->ids.ids + done, upto - done, p[i].weight))
            return no_memory(e);
        done = upto;
    }
    return OK;
}

static enum status add_special_piece(struct encoder *n, size_t piece, struct sample *out,
                                     struct err *e)
{
    const struct piece *p = &n->text.pieces[piece];
    int32_t id = special_id(n, n->text.text.data + p->start, p->n);
    if (maybe_begin_turn(n, piece, out) || sample_append(out, &id, 1, p->weight))
        return no_memory(e);
    return OK;
}

static int begins_with_bos(const struct encoder *n)
{
    const struct buf *text = &n->text.text;
    size_t m = n->bos ? strlen(n->bos) : 0;
    return m && text->len >= m && !memcmp(text->data, n->bos, m);
}

static enum status encode(struct encoder *n, const struct conversation *c, int prompt,
                          struct sample *out, struct err *e)
{
    struct render_options o = {n->bos, n->eos, n->options.train_on, prompt,
                               n->options.compat == COMPAT_TRL};
    if (!n->t && !c->plain) {
        err_set(e, ERR_CONFIG, "a conversation needs a template");
        return err_hint(e,
                        "set stage: sft and template: alpaca, vicuna, llama2, llama3, chatml, ...; "
                        "plain text alone (stage: pt, format: text) needs none");
    }
    sample_clear(out);
    TRY(template_render(n->t, c, &o, &n->text, e));
    const struct piece *p = n->text.pieces;
    size_t count = n->text.num_pieces;
    unsigned flags = TOK_TEXT_START;
    if (tokenizer_adds_bos(n->tok) && !begins_with_bos(n)) {
        int32_t bos = tokenizer_bos(n->tok);
        if ((count && sample_begin_turn(out, n->text.turn_roles[p[0].turn])) ||
            sample_append(out, &bos, 1, 0))
            return no_memory(e);
    }
    for (size_t i = 0; i < count;) {
        if (p[i].special) {
            TRY(add_special_piece(n, i++, out, e));
            flags = TOK_AFTER_ADDED;
            continue;
        }
        struct stretch x = {i, i + 1, flags};
        while (x.last < count && !p[x.last].special &&
               (n->options.tokenize_whole || p[x.last].weight == p[i].weight))
            x.last++;
        TRY(add_stretch(n, x, out, e));
        i = x.last;
        flags = 0;
    }
    return OK;
}

enum status encoder_sample(struct encoder *n, const struct conversation *c, struct sample *out,
                           struct err *e)
{
    TRY(encode(n, c, 0, out, e));
    if (n->options.compat != COMPAT_FASTCHAT || c->plain) return OK;
    struct fastchat f = {.tok = n->tok,
                         .scratch = n->scratch,
                         .ids = &n->ids,
                         .max_length = n->options.max_length,
                         .unanswered = (c->repairs & REPAIR_TRAILING_QUESTION) != 0};
    return fastchat_label(&f, &n->text.text, out, e);
}

enum status encoder_prompt(struct encoder *n, const struct conversation *c, struct id_list *out,
                           struct err *e)
{
    TRY(encode(n, c, 1, &n->prompt, e));
    if (id_list_append(out, n->prompt.ids, n->prompt.n)) return no_memory(e);
    return OK;
}

/* ---- preferences ---- */

/* The prompt's turns with the reply as one more, which is trained. */
static enum status encode_reply(struct encoder *n, struct conversation *c, struct text reply,
                                struct sample *out, struct err *e)
{
    if (conversation_add(c, ROLE_ASSISTANT, reply)) return no_memory(e);
    enum status s = encode(n, c, 0, out, e);
    c->num_turns--;
    return s;
}

/* How many ids both begin with. */
static size_t common_length(const struct sample *a, const struct sample *b)
{
    size_t n = 0, most = size_min(a->n, b->n);
    while (n < most && a->ids[n] == b->ids[n]) n++;
    return n;
}

/* One behind the last trained id: text that a template puts behind a reply is left out. */
static size_t trained_end(const struct sample *s)
{
    size_t n = s->n;
    while (n && s->weights[n - 1] == 0) n--;
    return n;
}

/* The first `end` ids with their turns, untrained. */
static enum status copy_prompt(const struct sample *from, size_t end, struct sample *to)
{
    size_t at = 0;
    for (size_t t = 0; t < from->num_turns && (size_t)from->turns[t].start < end; t++) {
        size_t start = (size_t)from->turns[t].start;
        TRY(sample_append(to, from->ids + at, start - at, 0));
        TRY(sample_begin_turn(to, (enum role)from->turns[t].role));
        at = start;
    }
    return sample_append(to, from->ids + at, end - at, 0);
}

static enum status copy_reply(const struct sample *from, size_t start, struct sample *to)
{
    TRY(sample_begin_turn(to, ROLE_ASSISTANT));
    return sample_append(to, from->ids + start, trained_end(from) - start, 1);
}

/* Puts the record together; `start` is where its replies begin. */
static enum status join_replies(struct encoder *n, struct conversation *c, size_t start,
                                struct sample *out, struct err *e)
{
    const struct sample *x = c->chosen.given ? &n->whole[0] : NULL;
    const struct sample *y = c->rejected.given ? &n->whole[1] : NULL;
    sample_clear(out);
    if (!start) c->drop = DROP_NO_PROMPT;
    if ((x && trained_end(x) <= start) || (y && trained_end(y) <= start))
        c->drop = DROP_NOT_TRAINED;
    if (x && y && trained_end(x) == trained_end(y) && common_length(x, y) >= trained_end(x))
        c->drop = DROP_IDENTICAL;
    if (c->drop) return OK;
    enum status s = copy_prompt(x ? x : y, start, out);
    out->kind = c->kind;
    out->chosen = (int32_t)out->n;
    if (!s && x) s = copy_reply(x, start, out);
    out->rejected = (int32_t)out->n;
    if (!s && y) s = copy_reply(y, start, out);
    return s ? no_memory(e) : OK;
}

enum status encoder_preference(struct encoder *n, struct conversation *c, struct sample *out,
                               struct err *e)
{
    if (n->options.train_on == TRAIN_ALL) {
        err_set(e, ERR_CONFIG, "train_on: all, with preference data");
        return err_hint(e, "of preferences the replies alone are trained: leave train_on out");
    }
    TRY(encode(n, c, 1, &n->prompt, e));
    if (n->options.compat == COMPAT_FASTCHAT) {
        err_set(e, ERR_CONFIG, "compat: fastchat, with preference data");
        return err_hint(e, "FastChat has no labels for it: leave compat out");
    }
    const struct reply *replies[] = {&c->chosen, &c->rejected};
    size_t start = n->prompt.n;
    for (int k = 0; k < 2; k++) {
        if (!replies[k]->given) continue;
        TRY(encode_reply(n, c, replies[k]->text, &n->whole[k], e));
        start = size_min(start, common_length(&n->prompt, &n->whole[k]));
        if (n->whole[k].n > INT32_MAX / 2)
            return err_set(e, ERR_FORMAT, "a record of more than %d tokens", INT32_MAX / 2);
    }
    return join_replies(n, c, start, out, e);
}
