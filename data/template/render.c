#include "data/template/pattern.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

static const char *const train_on_names[] = {"assistant", "all", "last"};

const char *train_on_name(enum train_on t) { return train_on_names[t]; }

int train_on_find(const char *name, enum train_on *out)
{
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, train_on_names[i]) != 0) continue;
        *out = (enum train_on)i;
        return 1;
    }
    return 0;
}

/* ---- building the list ---- */

void rendered_init(struct rendered *r)
{
    *r = (struct rendered){0};
    buf_init(&r->text, RENDERED_MAX);
}

void rendered_free(struct rendered *r)
{
    buf_free(&r->text);
    mem_free(r->pieces);
    mem_free(r->turn_roles);
    *r = (struct rendered){0};
}

struct writer {
    const struct template *t;
    const struct render_options *options;
    struct rendered *out;
    struct err *e;
    float weight; /* of what is written now */
    int wraps;    /* a system text is to be written before the next {content}: */
    struct text wrapped;
};

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory to write a conversation down");
}

static enum status put(struct writer *w, const char *s, size_t n, int special)
{
    struct rendered *r = w->out;
    if (!n) return OK;
    struct piece *last = r->num_pieces ? &r->pieces[r->num_pieces - 1] : NULL;
    size_t start = r->text.len;
    enum status st = buf_append(&r->text, s, n);
    if (st == ERR_FORMAT)
        return err_set(w->e, st, "a conversation of more than %zu bytes", r->text.max);
    if (st) return no_memory(w->e);
    int turn = r->num_turns ? (int)r->num_turns - 1 : 0;
    if (last && !special && !last->special && last->turn == turn && last->weight == w->weight) {
        last->n += n;
        return OK;
    }
    if (r->num_pieces == r->cap_pieces) {
        size_t cap = r->cap_pieces ? 2 * r->cap_pieces : 32;
        struct piece *p = mem_resize(r->pieces, cap, sizeof *p);
        if (!p) return no_memory(w->e);
        r->pieces = p;
        r->cap_pieces = cap;
    }
    r->pieces[r->num_pieces++] = (struct piece){start, n, w->weight, turn, special};
    return OK;
}

static enum status put_text(struct writer *w, struct text t) { return put(w, t.data, t.n, 0); }

static enum status put_own_token(struct writer *w, const char *spelling, const char *what)
{
    if (spelling) return put(w, spelling, strlen(spelling), 1);
    err_set(w->e, ERR_CONFIG, "%s%s needs %s token, and the tokenizer has none",
            w->t ? "template " : "plain text", w->t ? w->t->name : "", what);
    return err_hint(w->e, "name it in the model's tokenizer_config.json, or use another template");
}

static enum status put_pattern(struct writer *w, const char *pattern, struct text content,
                               struct text input);

static const struct text nothing = {"", 0};

static enum status put_content(struct writer *w, struct text content)
{
    int wraps = w->wraps;
    w->wraps = 0;
    if (wraps) TRY(put_pattern(w, w->t->system, w->wrapped, nothing));
    return put_text(w, content);
}

static enum status put_pattern(struct writer *w, const char *pattern, struct text content,
                               struct text input)
{
    struct element x;
    while (pattern_next(&pattern, &x)) {
        if (element_is(&x, "content"))
            TRY(put_content(w, content));
        else if (element_is(&x, "input"))
            TRY(put_text(w, input));
        else if (element_is(&x, "bos"))
            TRY(put_own_token(w, w->options->bos, "a BOS"));
        else if (element_is(&x, "eos"))
            TRY(put_own_token(w, w->options->eos, "an EOS"));
        else
            TRY(put(w, x.s, x.n, x.is_name));
    }
    return OK;
}

static enum status begin_turn(struct writer *w, enum role role)
{
    struct rendered *r = w->out;
    if (r->num_turns == r->cap_turns) {
        size_t cap = r->cap_turns ? 2 * r->cap_turns : 16;
        enum role *p = mem_resize(r->turn_roles, cap, sizeof *p);
        if (!p) return no_memory(w->e);
        r->turn_roles = p;
        r->cap_turns = cap;
    }
    r->turn_roles[r->num_turns++] = role;
    return OK;
}

/* ---- turns ---- */

static struct text maybe_strip(const struct writer *w, struct text t)
{
    return w->t->strip ? text_strip(t) : t;
}

static int all(const struct writer *w) { return w->options->train_on == TRAIN_ALL; }

/* The text of a template where there is no system turn; NULL: none. */
static const char *default_system(const struct template *t, const struct turn *user)
{
    int with_input = user && user->input.n && t->default_system_input;
    return with_input ? t->default_system_input : t->default_system;
}

/* Has the system text written with the first user turn, and stripped as one with it: where the
 * pattern begins with it, on its left. */
static void wrap_system(struct writer *w, struct text t)
{
    int first = !strncmp(w->t->system, "{content}", strlen("{content}"));
    struct text stripped = text_strip(t);
    w->wraps = 1;
    w->wrapped = t;
    if (!w->t->strip || !first) return;
    w->wraps = stripped.n != 0;
    w->wrapped = (struct text){stripped.data, (size_t)(t.data + t.n - stripped.data)};
}

/* What stands before the first user turn. `system` is NULL without a system turn. */
static enum status write_system(struct writer *w, const struct turn *system,
                                const struct turn *user)
{
    const struct template *t = w->t;
    const char *instead = system ? NULL : default_system(t, user);
    struct text text = system ? system->text : nothing;
    if (instead) text = (struct text){instead, strlen(instead)};
    w->weight = all(w) ? 1 : 0;
    /* A default is counted to the first user turn. */
    TRY(begin_turn(w, system && !t->system_in_user ? ROLE_SYSTEM : ROLE_USER));
    TRY(put_pattern(w, t->start, nothing, nothing));
    if (system ? t->skip_empty_system && !text.n : !instead) return OK;
    if (t->system_in_user) {
        wrap_system(w, text);
        return OK;
    }
    if (all(w) && system) w->weight = system->weight;
    return put_pattern(w, t->system, system ? maybe_strip(w, text) : text, nothing);
}

static enum status write_user(struct writer *w, const struct turn *user, struct text text)
{
    const struct template *t = w->t;
    w->weight = all(w) ? user->weight : 0;
    if (user->role == ROLE_TOOL && t->tool) return put_pattern(w, t->tool, text, nothing);
    if (user->input.n && t->user_input) return put_pattern(w, t->user_input, text, user->input);
    return put_pattern(w, t->user, text, nothing);
}

static enum status write_reply(struct writer *w, const struct turn *reply, int last)
{
    const struct template *t = w->t;
    int ends = last && !w->options->generation_prompt;
    int trained = w->options->train_on != TRAIN_LAST || ends;
    TRY(begin_turn(w, ROLE_ASSISTANT));
    w->weight = trained ? reply->weight : 0;
    TRY(put_pattern(w, ends && t->last_reply ? t->last_reply : t->reply,
                    maybe_strip(w, reply->text), nothing));
    if (!w->options->train_tail) w->weight = all(w) ? reply->weight : 0;
    return put_pattern(w, t->tail, nothing, nothing);
}

/* A user turn's text; where the template has no place for an input it follows on a line of its
 * own, both in `joined`. Behind a system text it is stripped with that as one, so only on the
 * right. */
static enum status user_text(struct writer *w, const struct turn *user, struct buf *joined,
                             struct text *out)
{
    struct text whole = user->text;
    if (user->input.n && !w->t->user_input) {
        buf_clear(joined);
        if (buf_append(joined, whole.data, whole.n) || buf_putc(joined, '\n') ||
            buf_append(joined, user->input.data, user->input.n))
            return no_memory(w->e);
        whole = (struct text){joined->data, joined->len};
    }
    *out = maybe_strip(w, whole);
    if (w->wraps) *out = (struct text){whole.data, (size_t)(out->data + out->n - whole.data)};
    return OK;
}

static enum status write_turns(struct writer *w, const struct conversation *c, struct buf *joined)
{
    size_t first = c->num_turns && c->turns[0].role == ROLE_SYSTEM;
    const struct turn *system = first ? &c->turns[0] : NULL;
    TRY(write_system(w, system, first < c->num_turns ? &c->turns[first] : NULL));
    for (size_t i = first; i < c->num_turns; i++) {
        const struct turn *turn = &c->turns[i];
        if (turn->role == ROLE_ASSISTANT) {
            TRY(put_pattern(w, w->t->prompt, nothing, nothing));
            TRY(write_reply(w, turn, i + 1 == c->num_turns));
            continue;
        }
        if (i > first || (system && !w->t->system_in_user)) TRY(begin_turn(w, turn->role));
        w->weight = all(w) ? turn->weight : 0;
        if (i > first && c->turns[i - 1].role == ROLE_ASSISTANT)
            TRY(put_pattern(w, w->t->between, nothing, nothing));
        struct text text;
        TRY(user_text(w, turn, joined, &text));
        TRY(write_user(w, turn, text));
    }
    if (!w->options->generation_prompt) return OK;
    return put_pattern(w, w->t->prompt, nothing, nothing);
}

/* Text that is in no template: glued together, EOS behind it once. */
static enum status write_plain(struct writer *w, const struct conversation *c)
{
    const char *eos = w->options->eos;
    size_t m = eos ? strlen(eos) : 0;
    for (size_t i = 0; i < c->num_turns; i++) {
        const struct turn *turn = &c->turns[i];
        struct text text = turn->text;
        TRY(begin_turn(w, turn->role));
        w->weight = turn->role == ROLE_USER && !all(w) ? 0 : turn->weight;
        if (i + 1 == c->num_turns && m && text.n >= m && !memcmp(text.data + text.n - m, eos, m))
            text.n -= m;
        TRY(put_text(w, text));
    }
    return w->options->generation_prompt ? OK : put_own_token(w, eos, "an EOS");
}

enum status template_render(const struct template *t, const struct conversation *c,
                            const struct render_options *options, struct rendered *out,
                            struct err *e)
{
    struct writer w = {.t = c->plain ? NULL : t, .options = options, .out = out, .e = e};
    struct buf joined;
    buf_clear(&out->text);
    out->num_pieces = out->num_turns = 0;
    if (c->plain) return write_plain(&w, c);
    buf_init(&joined, RENDERED_MAX);
    enum status s = write_turns(&w, c, &joined);
    buf_free(&joined);
    return s;
}

/* ---- what a row says, for others ---- */

static void hash_string(struct hasher *h, const char *s)
{
    hasher_u64(h, s != NULL);
    if (s) hasher_string(h, s);
}

enum status template_hash(const struct template *t, char out[HASH_HEX_SIZE], struct err *e)
{
    struct hasher *h = hasher_create();
    if (!h) return err_set(e, ERR_MEMORY, "no memory to hash a template");
    hasher_string(h, t->name);
#define P(field, use) hash_string(h, t->field);
#define X(field) hash_string(h, t->field);
    TEMPLATE_PATTERNS(P)
    TEMPLATE_TEXTS(X)
#undef P
#undef X
#define X(field) hasher_u64(h, (uint64_t)t->field);
    TEMPLATE_FLAGS(X)
#undef X
    hasher_hex(h, out);
    hasher_destroy(h);
    return OK;
}

static enum status visit_tokens(const char *pattern,
                                enum status (*visit)(void *ctx, const char *name, size_t n,
                                                     struct err *e),
                                void *ctx, struct err *e)
{
    struct element x;
    while (pattern && pattern_next(&pattern, &x))
        if (element_is_token(&x)) TRY(visit(ctx, x.s, x.n, e));
    return OK;
}

enum status template_specials(const struct template *t,
                              enum status (*visit)(void *ctx, const char *name, size_t n,
                                                   struct err *e),
                              void *ctx, struct err *e)
{
#define X(field, use) TRY(visit_tokens(t->field, visit, ctx, e));
    TEMPLATE_PATTERNS(X)
#undef X
    return OK;
}

enum status template_ends(const struct template *t,
                          enum status (*visit)(void *ctx, const char *name, size_t n,
                                               struct err *e),
                          void *ctx, struct err *e)
{
    return visit_tokens(t->end, visit, ctx, e);
}
