/* cria chat: a conversation at the terminal, or line by line from a pipe. Answers go to stdout, all
 * else to stderr. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/line_edit.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "config/config.h"
#include "run/chat.h"

#define TEXT_MAX ((size_t)1 << 26)

struct talk {
    struct chat chat;
    struct line_edit *lines;
    struct buf line, answer;
    int left; /* /quit */
};

/* edited: Ctrl-C between answers is a key, and one pressed too late must not end the chat */
static atomic_int edited, answering, interrupted;

/* The first Ctrl-C ends the answer, a second one in the same answer the program. */
static int on_signal(int number)
{
    if (number != SIGINT) return 0;
    return answering ? !atomic_exchange(&interrupted, 1) : edited;
}

static void write_text(void *context, const char *text, size_t n)
{
    (void)context;
    fwrite(text, 1, n, stdout);
    fflush(stdout);
}

/* --- commands --- */

static enum status do_reset(struct talk *t, const char *rest, struct err *e)
{
    (void)rest, (void)e;
    chat_reset(&t->chat);
    progress_say("forgotten; the system message stays");
    return OK;
}

static enum status do_system(struct talk *t, const char *rest, struct err *e)
{
    TRY(chat_set_system(&t->chat, rest, e));
    progress_say(*rest ? "system message set; a new conversation begins"
                       : "no system message; a new conversation begins");
    return OK;
}

static enum status do_save(struct talk *t, const char *rest, struct err *e)
{
    if (!*rest) return err_set(e, ERR_CONFIG, "/save wants the name of a file");
    TRY(chat_save(&t->chat, rest, e));
    progress_say("%zu messages appended to %s", t->chat.num_messages, rest);
    return OK;
}

static enum status do_quit(struct talk *t, const char *rest, struct err *e)
{
    (void)rest, (void)e;
    t->left = 1;
    return OK;
}

static enum status do_help(struct talk *t, const char *rest, struct err *e);

static const struct command {
    const char *name, *value, *help;
    enum status (*run)(struct talk *t, const char *rest, struct err *e);
} commands[] = {
    {"/reset", "", "forget the conversation, keep the system message", do_reset},
    {"/system", "TEXT", "begin anew with this system message; without TEXT: with none", do_system},
    {"/save", "F", "append the conversation to a file that train can take", do_save},
    {"/help", "", "this list", do_help},
    {"/quit", "", "leave; so does Ctrl-D", do_quit},
};
#define NUM_COMMANDS (sizeof commands / sizeof *commands)

static enum status do_help(struct talk *t, const char *rest, struct err *e)
{
    (void)t, (void)rest, (void)e;
    for (size_t i = 0; i < NUM_COMMANDS; i++)
        progress_say("  %-8s %-5s %s", commands[i].name, commands[i].value, commands[i].help);
    progress_say("  A line that ends in \\ goes on in the next; one that begins with // is sent "
                 "from its second / on.");
    progress_say("  Ctrl-C stops an answer, or clears the line.");
    return OK;
}

static enum status run_command(struct talk *t, const char *line, struct err *e)
{
    const char *names[NUM_COMMANDS];
    size_t n = strcspn(line, " \t\n");
    char name[32];
    for (size_t i = 0; i < NUM_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strlen(names[i]) == n && !memcmp(names[i], line, n))
            return commands[i].run(t, line + n + strspn(line + n, " \t\n"), e);
    }
    snprintf(name, sizeof name, "%.*s", (int)(n < 31 ? n : 31), line);
    const char *near = config_nearest(name, names, NUM_COMMANDS);
    err_set(e, ERR_CONFIG, "there is no command %s", name);
    return near ? err_hint(e, "did you mean %s?", near) : err_hint(e, "/help lists them");
}

/* --- talking --- */

static void print_outcome(const struct talk *t, const struct chat_reply *r)
{
    int rows = (int)t->chat.inference->engine.options.cache_rows;
    if (r->forgotten)
        progress_say("[the context of %d tokens is full: rounds forgotten, oldest first: %d]", rows,
                     (int)r->forgotten);
    if (r->answer.end == GENERATE_LISTENER) progress_say("[stopped]");
    if (r->answer.end == GENERATE_LENGTH)
        progress_say("[cut after %d tokens; --max-new-tokens allows more]",
                     (int)t->chat.inference->generate.max_new_tokens);
    if (r->answer.end == GENERATE_CACHE_FULL)
        progress_say("[the context of %d tokens is full: the answer is cut; /reset starts anew]",
                     rows);
}

static enum status say(struct talk *t, const char *text, struct err *e)
{
    int live = line_edit_is_live(t->lines); /* else whole, as generate does */
    struct chat_reply r = {
        .answer = {.text = &t->answer, .grown = live ? write_text : NULL, .stop = &interrupted}};
    buf_clear(&t->answer);
    interrupted = 0;
    answering = 1;
    enum status s = chat_say(&t->chat, text, &r, e);
    answering = 0;
    if (s) return s;
    if (!live) write_text(NULL, t->answer.data ? t->answer.data : "", t->answer.len);
    putchar('\n');
    if (fflush(stdout) || ferror(stdout)) return err_errno(e, "standard output");
    print_outcome(t, &r);
    return OK;
}

/* What a person can do something about is said, and the conversation goes on. */
static int goes_on(enum status s)
{
    return s == ERR_CONFIG || s == ERR_DATA || s == ERR_IO || s == ERR_DISK_FULL ||
           s == ERR_UNSUPPORTED;
}

static enum status answer_line(struct talk *t, const char *line, struct err *e)
{
    if (line[0] != '/') return say(t, line, e);
    return line[1] == '/' ? say(t, line + 1, e) : run_command(t, line, e);
}

static enum status talk(struct talk *t, struct err *e)
{
    edited = line_edit_is_live(t->lines);
    while (!t->left) {
        int end;
        TRY(line_edit_read(t->lines, &t->line, &end, e));
        if (end) return OK;
        if (text_is_blank((struct text){t->line.data, t->line.len})) continue;
        enum status s = answer_line(t, t->line.data, e);
        if (s && (!goes_on(s) || ferror(stdout))) return s;
        if (s) progress_say("%s%s%s", e->message, e->hint[0] ? ": " : "", e->hint);
        *e = (struct err){0};
    }
    return OK;
}

static enum status run(const struct inference_options *o, const char *system, struct err *e)
{
    static struct inference inference; /* large, and only one */
    struct talk t = {.left = 0};
    TRY(signals_watch(on_signal, e));
    buf_init(&t.line, TEXT_MAX);
    buf_init(&t.answer, TEXT_MAX);
    enum status s = inference_open(&inference, o, e);
    chat_init(&t.chat, &inference);
    if (!s && system) s = chat_set_system(&t.chat, system, e);
    if (!s) s = line_edit_open(&t.lines, "> ", e);
    if (!s && line_edit_is_live(t.lines))
        progress_say("%s%s%s, template %s; /help says what else there is, Ctrl-D leaves", o->model,
                     o->adapter ? " with " : "", o->adapter ? o->adapter : "",
                     inference.template->name);
    if (!s) s = talk(&t, e);
    if (!s && t.lines && line_edit_is_live(t.lines) && !t.left) putchar('\n');
    line_edit_close(t.lines);
    chat_free(&t.chat);
    buf_free(&t.line);
    buf_free(&t.answer);
    inference_close(&inference);
    return s;
}

enum status verb_chat(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    struct inference_options o = {
        .device = "auto", .max_new_tokens = 512, .sampling = {.top_p = 1}};
    const char *system = NULL;
    int64_t top_k = 0, seed = 42, threads = 0;
    struct cli_option options[] = {
        {"--model", CLI_TEXT, &o.model, "DIR", "model directory", 0},
        {"--adapter", CLI_TEXT, &o.adapter, "DIR", "LoRA adapter, cria's or PEFT's", 0},
        {"--template", CLI_TEXT, &o.template, "T", "default: what cria.json says", 0},
        {"--system", CLI_TEXT, &system, "TEXT", "system message to begin with", 0},
        {"--max-new-tokens", CLI_INT, &o.max_new_tokens, "N", "at most, in an answer (512)", 0},
        {"--context", CLI_INT, &o.context, "N", "tokens the conversation may take", 0},
        {"--temperature", CLI_REAL, &o.sampling.temperature, "T", "0: always the likeliest (0)", 0},
        {"--top-k", CLI_INT, &top_k, "K", "sample among the K likeliest; 0: all (0)", 0},
        {"--top-p", CLI_REAL, &o.sampling.top_p, "P", "sample among the likeliest that reach P (1)",
         0},
        {"--seed", CLI_INT, &seed, "S", "of the sampling (42)", 0},
        {"--device", CLI_TEXT, &o.device, "D", "auto, cpu or cuda (auto)", 0},
        {"--threads", CLI_INT, &threads, "N", "CPU threads; 0: all (0)", 0},
    };
    struct cli_args args = {
        .options = options,
        .num_options = sizeof options / sizeof *options,
        .about = "Type a message, read the answer. /reset, /system TEXT, /save F, /help, /quit.\n"
                 "From a pipe, each line is a message."};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    TRY(cli_require(v, &args, "--model", e));
    if (seed < 0 || top_k < 0 || top_k > INT32_MAX || threads < 0 || threads > 4096)
        return err_set(e, ERR_CONFIG, "--seed, --top-k and --threads must be 0 or more");
    o.sampling.top_k = (int32_t)top_k;
    o.sampling.seed = (uint64_t)seed;
    o.threads = (int)threads;
    return run(&o, system, e);
}
