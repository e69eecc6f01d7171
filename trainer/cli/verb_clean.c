/* cria clean: conversations as people saved them, made fit to be trained on. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "run/clean.h"

#define QUIET_SECONDS 2

static const char about[] =
    "Reads conversations (or instructions, or plain text) in any form that cria prepare reads, "
    "and\n"
    "writes those that are fit for training as ShareGPT JSONL, in one pass. Each step says what "
    "it\n"
    "left out and why. In this order:\n"
    "\n"
    "  html       HTML, as chat pages are saved, becomes Markdown (*)\n"
    "  repair     roles alternate, from a question to a reply; an empty message ends the rest (*)\n"
    "  blocked    no conversation that says openai or chatgpt, or the words of --block (*)\n"
    "  quality    none under 16 characters, refused for too many requests, or made with plugins "
    "(*)\n"
    "  exact      none whose id, or first question and reply, was there before (*)\n"
    "  language   the language of --lang alone, or without that of --skip-lang\n"
    "  repeats    none with a digit nine times in a row; addresses may have such\n"
    "  against    nothing that an evaluation file (--against) holds too\n"
    "  near       none that says almost the same as an earlier one\n"
    "  split      long conversations become several, between pairs; no turn is lost\n"
    "  numbering  no list whose second item is numbered 1 again (*)\n"
    "\n"
    "(*) are the default, and what FastChat did for Vicuna; html only where the file holds HTML,\n"
    "since it would escape the * and _ of Markdown. The options of another step switch it on.\n"
    "\n"
    "  cria clean chats.json --out clean.jsonl --report report.json\n"
    "  cria clean chats.json --out clean.jsonl --tokenizer llama --max-length 2048 --lang en\n"
    "  cria clean more.jsonl --out less.jsonl --steps exact,near\n"
    "  cria clean chats.json --out clean.jsonl --steps default,repeats,-blocked\n"
    "  cria clean orca.jsonl --out pure.jsonl --steps against --against gsm8k_test.jsonl,mmlu.csv\n"
    "\n"
    "Of two near-duplicates or repeated ids the first stays. An evaluation item is recognised by\n"
    "--ngram words in a row. The output appears whole or not at all.";

static void progress(void *context, const struct clean_progress *p)
{
    const double *began = context;
    char left[16];
    double spent = clock_seconds() - *began;
    double share = p->total_bytes ? (double)p->bytes / (double)p->total_bytes : 1;
    if (spent < QUIET_SECONDS || share <= 0) return;
    progress_show("cleaning %s  %3.0f %%  %lld records, %lld kept  %s left", p->path, 100 * share,
                  (long long)p->records, (long long)p->kept,
                  progress_time(spent * (1 - share) / share, left));
}

static void print_report(const struct clean_report *r)
{
    struct buf text;
    buf_init(&text, 1 << 22);
    if (!clean_report_print(r, &text) && text.len) {
        text.data[text.len - 1] = 0; /* progress_say ends the line */
        progress_say("%s", text.data);
    }
    buf_free(&text);
}

enum status verb_clean(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    double began = clock_seconds();
    struct clean_request r = {
        .format = "auto", .ngram = AGAINST_NGRAM, .watch = progress, .context = &began};
    struct cli_option options[] = {
        {"--out", CLI_TEXT, &r.out, "F.jsonl", "file to write", 0},
        {"--steps", CLI_TEXT, &r.steps, "LIST", "which steps: default, all, names; -NAME: without",
         0},
        {"--report", CLI_TEXT, &r.report, "F.json", "counts and samples, for programs", 0},
        {"--format", CLI_TEXT, &r.format, "FMT", "sharegpt, alpaca, openai, ... (auto)", 0},
        {"--block", CLI_TEXT, &r.blocked, "W[,W]", "blocked words (openai,chatgpt)", 0},
        {"--lang", CLI_TEXT, &r.keep_language, "CODE", "the language to keep: en, de, zh, ...", 0},
        {"--skip-lang", CLI_TEXT, &r.skip_language, "CODE", "a language to leave out", 0},
        {"--against", CLI_TEXT, &r.against, "F[,F]",
         "evaluation files: JSON, JSONL, CSV, plain text", 0},
        {"--ngram", CLI_INT, &r.ngram, "N", "words in a row that give an item away (13)", 0},
        {"--similarity", CLI_REAL, &r.similarity, "S",
         "of near-duplicates, 0.4 to 1: shared runs of three words (0.7)", 0},
        {"--tokenizer", CLI_TEXT, &r.tokenizer, "DIR", "to split: the model's tokenizer", 0},
        {"--max-length", CLI_INT, &r.max_length, "N", "to split: the most tokens of a conversation",
         0},
        {"--skip-bad", CLI_FLAG, &r.skip_bad, NULL, "go on behind records that are none", 0},
        {"--threads", CLI_INT, &r.threads, "N", "CPU threads; 0: all (0)", 0},
    };
    struct cli_args args = {
        .options = options, .num_options = sizeof options / sizeof *options, .about = about};
    struct clean_done done = {0};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    if (args.num_positional != 1) {
        err_set(e, ERR_CONFIG,
                args.num_positional ? "files to clean are separated by commas"
                                    : "cria clean needs a file");
        return err_hint(e, "cria clean %s", v->usage);
    }
    TRY(cli_require(v, &args, "--out", e));
    TRY(signals_watch(NULL, e));
    r.files = args.positional[0];
    enum status s = clean_request_run(&r, &done, e);
    if (!s || s == ERR_DATA) print_report(&done.report);
    if (!s) progress_say("cleaned into %s", r.out);
    clean_request_free(&done);
    return s;
}
