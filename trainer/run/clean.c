#include "run/clean.h"

#include <string.h>

#include "base/mem.h"

#define SIMILARITY 0.7
#define LIST_MAX 64

/* A comma-separated list, cut up in a copy. Zero-initialise. */
struct list {
    char *text;
    const char *items[LIST_MAX];
    size_t n;
};

static enum status cut(struct list *l, const char *text, const char *what, struct err *e)
{
    if (!(l->text = mem_strdup(text))) return err_set(e, ERR_MEMORY, "no memory for the options");
    for (char *at = l->text; at;) {
        char *comma = strchr(at, ',');
        if (comma) *comma++ = 0;
        if (l->n == LIST_MAX) return err_set(e, ERR_CONFIG, "more than %d %s", LIST_MAX, what);
        if (!*at) return err_set(e, ERR_CONFIG, "an empty name among the %s", what);
        l->items[l->n++] = at;
        at = comma;
    }
    return OK;
}

static void list_free(struct list *l) { mem_free(l->text); }

static enum status choose_steps(const struct clean_request *r, struct clean_options *o,
                                struct err *e)
{
    o->html_by_file = !r->steps;
    o->steps = CLEAN_DEFAULT_STEPS;
    if (r->steps) TRY(clean_parse_steps(r->steps, &o->steps, e));
    if (r->keep_language || r->skip_language) o->steps |= CLEAN_BIT(CLEAN_LANGUAGE);
    if (r->against) o->steps |= CLEAN_BIT(CLEAN_AGAINST);
    if (r->similarity != 0) o->steps |= CLEAN_BIT(CLEAN_NEAR);
    if (r->tokenizer || r->max_length) o->steps |= CLEAN_BIT(CLEAN_SPLIT);
    if (o->steps & CLEAN_BIT(CLEAN_SPLIT) && (!r->tokenizer || !r->max_length)) {
        err_set(e, ERR_CONFIG, "to split, --tokenizer and --max-length are needed");
        return err_hint(e, "the model's directory, and the max_length of the training");
    }
    if (o->steps & CLEAN_BIT(CLEAN_LANGUAGE) && !r->keep_language && !r->skip_language)
        return err_set(e, ERR_CONFIG, "the step language needs --lang or --skip-lang");
    if (o->steps & CLEAN_BIT(CLEAN_AGAINST) && !r->against)
        return err_set(e, ERR_CONFIG, "the step against needs --against FILE[,FILE]");
    return OK;
}

static enum status check_numbers(const struct clean_request *r, struct err *e)
{
    if (r->threads < 0 || r->threads > 4096)
        return err_set(e, ERR_CONFIG, "--threads must be between 0 and 4096");
    if (r->max_length < 0 || r->max_length > 1 << 24)
        return err_set(e, ERR_CONFIG, "--max-length must be between 1 and %d", 1 << 24);
    if (r->ngram < 2 || r->ngram > AGAINST_NGRAM_MAX)
        return err_set(e, ERR_CONFIG, "--ngram must be between 2 and %d", AGAINST_NGRAM_MAX);
    return OK;
}

static enum status load_against(const struct clean_request *r, struct against **out, struct err *e)
{
    struct list files = {0};
    enum status s = cut(&files, r->against, "evaluation files", e);
    if (!s && against_open(out, (int)r->ngram))
        s = err_set(e, ERR_MEMORY, "no memory for evaluation files");
    for (size_t i = 0; !s && i < files.n; i++) s = against_add_file(*out, files.items[i], e);
    list_free(&files);
    return s;
}

static void lower(struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        for (char *c = (char *)l->items[i]; *c; c++)
            if (*c >= 'A' && *c <= 'Z') *c |= 32;
}

enum status clean_request_run(const struct clean_request *r, struct clean_done *out, struct err *e)
{
    struct clean_options o = {.format = r->format,
                              .keep_language = r->keep_language,
                              .skip_language = r->skip_language,
                              .similarity = r->similarity != 0 ? r->similarity : SIMILARITY,
                              .max_length = (int32_t)r->max_length,
                              .skip_bad = r->skip_bad,
                              .threads = (size_t)r->threads};
    struct list files = {0}, blocked = {0};
    struct tokenizer *tokenizer = NULL;
    enum status s = check_numbers(r, e);
    if (!s) s = choose_steps(r, &o, e);
    if (!s) s = cut(&files, r->files, "files", e);
    if (!s && r->blocked) s = cut(&blocked, r->blocked, "blocked words", e);
    if (!s && o.steps & CLEAN_BIT(CLEAN_SPLIT)) s = tokenizer_open(&tokenizer, r->tokenizer, e);
    if (!s && r->against) s = load_against(r, &out->against, e);
    lower(&blocked);
    o.sources = files.items, o.num_sources = files.n;
    o.blocked = r->blocked ? blocked.items : NULL, o.num_blocked = blocked.n;
    o.tokenizer = tokenizer, o.against = out->against;
    if (!s) s = clean_files(&o, r->out, &out->report, r->watch, r->context, e);
    if (r->report && out->report.num_sources && (!s || s == ERR_DATA)) {
        struct err ignored = {0};
        enum status written = clean_report_write(&out->report, r->report, s ? &ignored : e);
        if (!s) s = written;
    }
    tokenizer_close(tokenizer);
    list_free(&files);
    list_free(&blocked);
    return s;
}

void clean_request_free(struct clean_done *x)
{
    clean_report_free(&x->report);
    against_close(x->against);
}
