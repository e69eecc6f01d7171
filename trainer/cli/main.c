/* main.c - the verbs' table, and how a run ends. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "config/config.h"
#include "run/memory.h"

const struct cli_verb cli_verbs[] = {
    {"prepare", "CONFIG [key=value ...] | --data F[,F] --tokenizer DIR --template T --out F.h5",
     "Turns JSON records into a dataset file: token ids, and which of them are trained.",
     verb_prepare},
    {"clean", "F[,F] --out F.jsonl [--steps LIST] [--report F]",
     "Makes conversations fit to be trained on: Markdown, roles, duplicates, languages, lengths.",
     verb_clean},
    {"plan", "CONFIG [key=value ...] [--json]",
     "Says what a run will take: memory by name, tokens, steps, time.", verb_plan},
    {"train", "CONFIG [key=value ...]", "Fine-tunes a model; raw data is prepared on the way.",
     verb_train},
    {"eval", "CONFIG [key=value ...] | --model DIR [--adapter DIR] --data F[,F] [--generate]",
     "Measures loss, perplexity and exact match on documents held out.", verb_eval},
    {"generate", "--model DIR [--adapter DIR] --prompt TEXT | --data F --out F.jsonl",
     "Lets a model answer.", verb_generate},
    {"chat", "--model DIR [--adapter DIR] [--template T]", "Talks with a model, turn by turn.",
     verb_chat},
    {"merge", "--model DIR --adapter DIR --out DIR",
     "Adds an adapter to its base: a model that needs no adapter.", verb_merge},
    {"inspect", "PATH [--html F] [--json] [--limit N] [--max-length N] [--tokenizer DIR]",
     "Audits a dataset and shows what of it is trained; or a model, an adapter.", verb_inspect},
    {"init", "--config F.json --out DIR [--seed S]", "Makes a new model with random weights.",
     verb_init},
    {"tokenize", "--tokenizer DIR [--lines] [--decode] [--no-special]",
     "Text to ids, or ids to text, from stdin to stdout.", verb_tokenize},
    {"doctor", "[DIR] [--json]",
     "Looks at this machine: is it fit to train, and what to do if not.", verb_doctor},
    {NULL, NULL, NULL, NULL},
};

static void print_overview(FILE *out)
{
    fprintf(out, "cria fine-tunes Llama-family models: full or LoRA, one binary, exact.\n\n");
    for (const struct cli_verb *v = cli_verbs; v->name; v++)
        fprintf(out, "  cria %-9s %s\n", v->name, v->summary);
    fprintf(out, "\ncria VERB --help says more.\n");
}

static void say(enum log_level level, const char *line)
{
    fprintf(stderr, "cria: %s%s\n", level == LOG_WARNING ? "warning: " : "", line);
}

static int report(enum status s, const struct err *e)
{
    struct err place = *e;
    char text[1024];
    if (!s) return 0;
    place.hint[0] = 0;
    err_format(&place, text, sizeof text);
    fprintf(stderr, "cria: %s%s\n", s == ERR_STOPPED ? "" : "error: ", text);
    if (e->hint[0]) fprintf(stderr, "      %s\n", e->hint);
    return status_exit_code(s);
}

static int unknown_verb(const char *given)
{
    struct err e = {0};
    const char *names[32];
    size_t n = 0;
    for (; cli_verbs[n].name; n++) names[n] = cli_verbs[n].name;
    const char *near = config_nearest(given, names, n);
    err_set(&e, ERR_CONFIG, "there is no verb \"%s\"", given);
    err_hint(&e, near ? "did you mean cria %s?" : "cria --help lists them", near);
    return report(ERR_CONFIG, &e);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    memory_steady();
    log_set_sink(say);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error of the write, not the end */
    if (argc < 2) {
        print_overview(stderr);
        return status_exit_code(ERR_CONFIG);
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_overview(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("cria %s\n", CRIA_VERSION);
        return 0;
    }
    for (const struct cli_verb *v = cli_verbs; v->name; v++) {
        if (strcmp(argv[1], v->name)) continue;
        enum status s = v->run(v, argc - 2, argv + 2, &e);
        if (!s && (fflush(stdout) || ferror(stdout))) s = err_errno(&e, "standard output");
        if (s == ERR_CONFIG) err_hint(&e, "cria %s --help says more", v->name);
        if (s == ERR_DISK_FULL)
            err_hint(&e, "free space there, then run it again; train goes on from its last "
                         "checkpoint with resume_from_checkpoint=auto");
        return report(s, &e);
    }
    return unknown_verb(argv[1]);
}
