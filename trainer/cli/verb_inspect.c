/* cria inspect: a dataset, model or adapter, in the terminal, as a page or as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/cli.h"
#include "cli/pager.h"
#include "cli/progress.h"
#include "cli/watch.h"
#include "run/inspect.h"

#define SHOWN 5        /* documents unless --limit says otherwise */
#define SHOWN_MANY 100 /* the same on a page, and where one can leaf through them */
#define TEXT_MAX ((size_t)1 << 30)

static const char about[] =
    "PATH is a dataset file (.h5), the directory of a model or an adapter, or a config (.yaml) "
    "and\n"
    "key=value overrides: then its data is prepared into the cache, and its tokenizer is known.\n"
    "A dataset file holds ids and its tokenizer's hash, not the tokenizer: to see texts, name it\n"
    "with --tokenizer. Trained tokens are bold and green; where colours are off (no terminal, or\n"
    "NO_COLOR is set) they stand {+between such marks+}. In a terminal the text goes through "
    "$PAGER\n"
    "(less -R; PAGER=cat for none).\n\n"
    "All documents are audited: lengths and trained shares as histograms, what each source gives,\n"
    "what max_length cuts, documents that are there twice, texts and prompts that sources, or "
    "what\n"
    "is trained on and what is held out (of a config), have in common. The page searches its\n"
    "documents by text, source, truncated and duplicate.";

struct request {
    const char *html, *tokenizer;
    int64_t limit, from, max_length;
    int json, tokens;
};

static int is_config(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"));
}

static int has_colors(void)
{
    const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(none && none[0]) && !(term && !strcmp(term, "dumb"));
}

static enum status show(struct inspection *in, const struct request *r, struct err *e)
{
    struct inspect_look look = {has_colors(), r->tokens};
    struct buf text;
    enum status s = OK;
    buf_init(&text, TEXT_MAX);
    if (r->html) s = inspect_html(in, r->html, e);
    if (!s && r->html) progress_say("wrote %s", r->html);
    if (!s && r->json) {
        s = inspect_json(in, &text, e);
        if (!s && buf_putc(&text, '\n')) s = err_set(e, ERR_MEMORY, "no memory for the JSON form");
    } else if (!s && !r->html) {
        s = inspect_text(in, &look, &text, e);
    }
    if (!s && text.len) s = r->json ? pager_skip(&text, e) : pager_show(&text, e);
    buf_free(&text);
    return s;
}

static enum status inspect(const struct request *r, const struct cli_args *args, struct err *e)
{
    const char *path = args->positional[0];
    struct config c = {0};
    struct inspection in = {0};
    struct inspect_options o = {.path = path,
                                .watcher = &watch_preparing,
                                .tokenizer = r->tokenizer,
                                .max_length = (int32_t)r->max_length,
                                .from = r->from,
                                .limit = r->limit};
    enum status s = OK;
    if (is_config(path)) {
        o.config = &c;
        if (r->tokenizer)
            s = err_set(e, ERR_CONFIG,
                        "--tokenizer is for dataset files; the config names its own");
        if (!s && r->max_length)
            s = err_set(e, ERR_CONFIG, "--max-length is for dataset files; add max_length=%lld",
                        (long long)r->max_length);
        if (!s) s = config_load(&c, path, args->positional + 1, args->num_positional - 1, e);
    } else if (args->num_positional > 1) {
        s = err_set(e, ERR_CONFIG, "one path at a time; key=value goes with a config");
    }
    if (!s) s = inspect_open(&in, &o, e);
    if (!s) s = show(&in, r, e);
    inspect_close(&in);
    config_free(&c);
    return s;
}

enum status verb_inspect(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    struct request r = {.limit = -1};
    struct cli_option options[] = {
        {"--html", CLI_TEXT, &r.html, "F.html", "write a page that needs nothing else", 0},
        {"--json", CLI_FLAG, &r.json, NULL, "one JSON object on stdout", 0},
        {"--limit", CLI_INT, &r.limit, "N", "documents shown (5; 100 on a page or in a pager)", 0},
        {"--from", CLI_INT, &r.from, "N", "the first document shown; they count from 0", 0},
        {"--max-length", CLI_INT, &r.max_length, "N", "count what would be cut behind N tokens", 0},
        {"--tokens", CLI_FLAG, &r.tokens, NULL, "show where tokens begin and end", 0},
        {"--tokenizer", CLI_TEXT, &r.tokenizer, "DIR", "model directory or tokenizer file", 0},
    };
    struct cli_args args = {
        .options = options, .num_options = sizeof options / sizeof *options, .about = about};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    if (!args.num_positional) {
        err_set(e, ERR_CONFIG, "cria inspect needs a path");
        return err_hint(e, "cria inspect %s", v->usage);
    }
    if (r.limit < -1) return err_set(e, ERR_CONFIG, "--limit must be 0 or more");
    if (r.max_length < 0 || r.max_length > INT32_MAX)
        return err_set(e, ERR_CONFIG, "--max-length must be 0 (not looked at) to %d", INT32_MAX);
    if (r.limit < 0) r.limit = r.html || (!r.json && pager_wanted()) ? SHOWN_MANY : SHOWN;
    return inspect(&r, &args, e);
}
