/* template.h - how a conversation is written down for a model, and what of it is learned.
 *
 * A template is a row of one const table, or a user's own, read from a YAML file with the same
 * fields (template_open; TEMPLATES.md is the manual for people). Its strings are patterns:
 * {content} stands for a turn's text, {input} for Alpaca's second field, {bos} and {eos} for the
 * tokenizer's own tokens, {<|name|>} for a special token that the tokenizer must have, {{ for a
 * brace; all else is itself. A conversation becomes
 *
 *     start, then per turn:  system                      the system turn, or default_system
 *                            user, with `between` before each but the first
 *                            tool, likewise              what a tool answered
 *                            prompt reply tail           the assistant turn
 *
 * `reply` is what is trained: content, end token, and what the row glues to them. Everything up to
 * the last `prompt` is the generation prompt. template_jinja says the same thing to Transformers;
 * a golden test holds the two together.
 *
 * BOS: a row that writes {bos} has it there. Before any other the tokenizer's own is put
 * if the tokenizer is one that adds it; the saved Jinja says so too (template_jinja). Never two.
 *
 * Text of users and of records is data, yet a special token spelled out in it is recognised as that
 * token, as the reference tokenizers do.
 */
#ifndef CRIA_DATA_TEMPLATE_H
#define CRIA_DATA_TEMPLATE_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/status.h"
#include "data/formats/conversation.h"

struct template
{
    const char *name;
    const char *about; /* for help */

    const char *start;
    const char *system;
    const char *default_system;       /* text of the system turn where there is none; NULL: none */
    const char *default_system_input; /* the same when the first user turn has an input; NULL */
    const char *user;
    const char *user_input; /* for a user turn with an input; NULL: text, newline, input */
    const char *tool;       /* a tool's answer; NULL: like a user turn */
    const char *between;    /* before a user or tool turn that follows a reply */
    const char *prompt;
    const char *reply;
    const char *last_reply; /* the reply that ends a conversation; NULL: like all */
    const char *tail;       /* untrained text behind a reply */

    const char *end;       /* the tokens that end a reply, as a pattern: "{<|eot_id|>}{eos}" */
    int strip;             /* contents are stripped of white space */
    int system_in_user;    /* the system text, or its default, is put before the first user turn's
                              content (and stripped with it) */
    int skip_empty_system; /* an empty system turn leaves no trace */

    char *own; /* heap: the strings of a template that was read; NULL: a row */
};

const struct template *template_find(const char *name); /* a row; NULL if there is none */
const struct template *template_at(size_t i);           /* NULL behind the last */

/* ---- a user's own ---- */

#define TEMPLATE_FILE_MAX ((size_t)256 << 10) /* bytes */
#define TEMPLATE_NAME_MAX 48

/* Whether `name` means a file: it ends in .yaml, .yml or .json. */
int template_is_file(const char *name);

/* The row of that name, or the file's template. The caller closes it. ERR_CONFIG: no such row (no
 * hint), or a file that says something wrong (file, line, column, hint); ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status template_open(const struct template **out, const char *name, struct err *e);
void template_close(const struct template *t); /* NULL and rows are fine */

/* The text of such a file; `file` is for messages, and names the template where the text does not.
 * ERR_CONFIG, ERR_MEMORY. */
MUST_CHECK enum status template_parse(const struct template **out, const char *text, size_t n,
                                      const char *file, struct err *e);

/* Appends the template as such a text, which reads back as the same. ERR_MEMORY, ERR_FORMAT (over
 * out->max). */
MUST_CHECK enum status template_write(const struct template *t, struct buf *out);

/* Of everything in the row that decides text or supervision. ERR_MEMORY. */
MUST_CHECK enum status template_hash(const struct template *t, char out[HASH_HEX_SIZE],
                                     struct err *e);

/* The chat_template to save beside a model whose tokenizer puts a BOS first (or not): all of the
 * above in Jinja. ERR_MEMORY, ERR_FORMAT (over the buffer's cap). */
MUST_CHECK enum status template_jinja(const struct template *t, int adds_bos, struct buf *out);

/* The row that a model's chat_template comes to, by its text: what template_jinja writes, and the
 * published ones of known_table.h. NULL: none. ERR_MEMORY. */
MUST_CHECK enum status template_recognise(const char *jinja, const struct template **out,
                                          struct err *e);

/* The hash by which such a text is known: of the text without the white space that Jinja does not
 * look at. ERR_MEMORY, ERR_FORMAT (over 64 MB). */
MUST_CHECK enum status template_fingerprint(const char *jinja, char out[HASH_HEX_SIZE]);

/* ---- writing a conversation down ---- */

enum train_on { TRAIN_ASSISTANT, TRAIN_ALL, TRAIN_LAST };

const char *train_on_name(enum train_on t);              /* "assistant" */
int train_on_find(const char *name, enum train_on *out); /* 0 when there is no such name */

/* A stretch of the text: either one special token or plain text, never both. */
struct piece {
    size_t start, n;
    float weight;
    int turn;    /* index in rendered.turn_roles */
    int special; /* one special token, spelled as the tokenizer spells it */
};

/* Pieces lie end to end and cover the text. Reused from call to call. */
struct rendered {
    struct buf text; /* cap: RENDERED_MAX */
    struct piece *pieces;
    size_t num_pieces, cap_pieces;
    enum role *turn_roles;
    size_t num_turns, cap_turns;
};

#define RENDERED_MAX ((size_t)1 << 30) /* bytes */

void rendered_init(struct rendered *r);
void rendered_free(struct rendered *r);

struct render_options {
    const char *bos, *eos; /* how the tokenizer spells them; NULL: it has none */
    enum train_on train_on;
    int generation_prompt; /* the conversation ends with a user turn; the reply is to be written */
    int train_tail;        /* the tail weighs as much as its reply (TRL) */
};

/* Writes `c` into *out. A plain conversation ignores the template (which may then be NULL) and
 * ends with EOS, unless its text does. ERR_MEMORY; ERR_FORMAT (text larger than RENDERED_MAX);
 * ERR_CONFIG: the template needs a BOS or EOS and the tokenizer has none. */
MUST_CHECK enum status template_render(const struct template *t, const struct conversation *c,
                                       const struct render_options *options, struct rendered *out,
                                       struct err *e);

/* Calls `visit` for each special token the row names, {bos} and {eos} as those words. Stops at
 * the first that returns not OK and returns that. template_ends: those of `end` alone. */
MUST_CHECK enum status template_specials(const struct template *t,
                                         enum status (*visit)(void *ctx, const char *name, size_t n,
                                                              struct err *e),
                                         void *ctx, struct err *e);
MUST_CHECK enum status template_ends(const struct template *t,
                                     enum status (*visit)(void *ctx, const char *name, size_t n,
                                                          struct err *e),
                                     void *ctx, struct err *e);

#endif
