#include "replies.h"

#include <string.h>

#include "base/json.h"
#include "data/jsonl/jsonl.h"
#include "data/tokenizer/tokenizer.h"
#include "manner.h"

#define SHOWN 3

struct reply {
    const char *prompt, *text, *answer; /* until the next is read */
};

/* *found 0: the file has ended. */
static enum status read_reply(struct jsonl *file, struct reply *out, int *found, struct err *e)
{
    struct jsonl_record r;
    const char *path = jsonl_path(file);
    *out = (struct reply){0};
    TRY(jsonl_next(file, &r, e));
    *found = r.kind != JSONL_END;
    if (r.kind == JSONL_END) return OK;
    if (r.kind == JSONL_BAD) return e->code;
    TRY(json_get_string(r.value, "prompt", &out->prompt, path, e));
    TRY(json_get_string(r.value, "response", &out->text, path, e));
    TRY(json_get_string(r.value, "reference", &out->answer, path, e));
    if (!out->prompt || !out->text || !out->answer)
        return err_set(e, ERR_FORMAT, "%s:%lld lacks prompt, response or reference", path,
                       (long long)r.line);
    return OK;
}

static enum status add_replies(struct jsonl *file, const struct tokenizer *t,
                               struct tokenizer_scratch *scratch, struct id_list *ids,
                               struct replies_measure *m, struct err *e)
{
    struct reply r;
    for (int found;;) {
        TRY(read_reply(file, &r, &found, e));
        if (!found) return OK;
        TRY(tokenizer_encode(t, scratch, r.text, strlen(r.text), TOK_TEXT_START, ids, e));
        m->n++;
        m->brief += manner_is_short(r.text);
        m->right += manner_holds(r.text, r.answer);
    }
}

enum status replies_measure(const char *path, const char *model, struct replies_measure *out,
                            struct err *e)
{
    struct jsonl *file = NULL;
    struct tokenizer *t = NULL;
    struct id_list ids = {0};
    struct tokenizer_scratch *scratch = tokenizer_scratch_create();
    *out = (struct replies_measure){0};
    enum status s = scratch ? OK : err_set(e, ERR_MEMORY, "no memory for a tokenizer");
    if (!s) s = tokenizer_open(&t, model, e);
    if (!s) s = jsonl_open(&file, path, NULL, e);
    if (!s) s = add_replies(file, t, scratch, &ids, out, e);
    if (!s && !out->n) s = err_set(e, ERR_FORMAT, "%s holds no replies", path);
    if (!s) {
        out->brief /= out->n;
        out->right /= out->n;
        out->tokens = (double)ids.len / out->n;
    }
    jsonl_close(file);
    id_list_free(&ids);
    tokenizer_close(t);
    tokenizer_scratch_destroy(scratch);
    return s;
}

/* On one line: "/" where the text breaks. */
static void print_reply(FILE *out, const char *label, const char *text)
{
    fprintf(out, "  %-6s  ", label);
    for (; *text; text++)
        if (*text == '\n')
            fputs(" / ", out);
        else
            putc(*text, out);
    putc('\n', out);
}

static enum status print_examples(FILE *out, struct jsonl *before, struct jsonl *after,
                                  struct err *e)
{
    struct reply old, new;
    int shown = 0, found, other;
    for (;;) {
        TRY(read_reply(before, &old, &found, e));
        TRY(read_reply(after, &new, &other, e));
        if (found != other ||
            (found && (strcmp(old.prompt, new.prompt) || strcmp(old.answer, new.answer))))
            return err_set(e, ERR_FORMAT, "%s and %s answer different instructions",
                           jsonl_path(before), jsonl_path(after));
        if (!found) return OK;
        if (shown == SHOWN || manner_is_short(old.text)) continue;
        putc('\n', out);
        print_reply(out, "user", old.prompt);
        print_reply(out, "before", old.text);
        print_reply(out, "after", new.text);
        shown++;
    }
}

static void print_table(FILE *out, const struct replies_measure *b, const struct replies_measure *a)
{
    fprintf(out, "  %-23s  %8s  %8s\n", "", "before", "after");
    fprintf(out, "  %-23s  %6.1f %%  %6.1f %%\n", "in the short form", 100 * b->brief,
            100 * a->brief);
    fprintf(out, "  %-23s  %8.1f  %8.1f\n", "mean length, tokens", b->tokens, a->tokens);
    fprintf(out, "  %-23s  %6.1f %%  %6.1f %%\n", "holds the right answer", 100 * b->right,
            100 * a->right);
}

enum status replies_print(FILE *out, const char *before, const char *after, const char *model,
                          struct err *e)
{
    struct replies_measure b, a;
    struct jsonl *old = NULL, *new = NULL;
    TRY(replies_measure(before, model, &b, e));
    TRY(replies_measure(after, model, &a, e));
    print_table(out, &b, &a);
    enum status s = jsonl_open(&old, before, NULL, e);
    if (!s) s = jsonl_open(&new, after, NULL, e);
    if (!s) s = print_examples(out, old, new, e);
    jsonl_close(old);
    jsonl_close(new);
    return s;
}
