/* cria prepare: by a config, into the cache that train uses; or by options, into a file. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/signals.h"
#include "cli/watch.h"
#include "config/config.h"

struct request {
    const char *data, *format, *tokenizer, *template, *out;
    int64_t max_length, threads;
    int json;
};

/* The report as JSON on stdout, for programs. */
static void print_json(void *context, const struct prepare_report *report, const char *path)
{
    struct buf text;
    (void)context, (void)path;
    buf_init(&text, 1 << 24);
    if (!prepare_report_json(report, &text)) printf("%s\n", text.data);
    buf_free(&text);
}

static struct dataset_watcher watcher(int json)
{
    struct dataset_watcher w = watch_preparing;
    if (json) w.prepared = print_json;
    return w;
}

static enum status by_config(const struct request *r, const struct cli_args *args, struct err *e)
{
    struct config c = {0};
    char path[4096];
    struct tokenizer *tokenizer = NULL;
    const struct template *template = NULL;
    struct dataset_watcher w = watcher(r->json);
    int has_file = !strchr(args->positional[0], '=');
    enum status s =
        config_load(&c, has_file ? args->positional[0] : NULL, args->positional + has_file,
                    args->num_positional - (size_t)has_file, e);
    if (!s) s = config_require(&c, KEY_datasets, e);
    if (!s) s = config_require(&c, KEY_output_dir, e);
    if (!s) s = dataset_tools(&c, &tokenizer, &template, e);
    struct dataset_request request = {&c, KEY_datasets, tokenizer, template, &w};
    if (!s) s = dataset_prepare(&request, path, sizeof path, e);
    request.key = KEY_eval_dataset;
    if (!s) fprintf(stderr, "%s\n", path);
    if (!s && c.eval_dataset.n) s = dataset_prepare(&request, path, sizeof path, e);
    tokenizer_close(tokenizer);
    template_close(template);
    config_free(&c);
    return s;
}

static enum status by_options(const struct cli_verb *v, const struct request *r,
                              const struct cli_args *args, struct err *e)
{
    struct dataset_watcher w = watcher(r->json);
    TRY(cli_require(v, args, "--data", e));
    TRY(cli_require(v, args, "--tokenizer", e));
    TRY(cli_require(v, args, "--out", e));
    if (r->threads < 0 || r->threads > 4096)
        return err_set(e, ERR_CONFIG, "--threads must be between 0 and 4096");
    if (r->max_length < 0 || r->max_length > 1 << 24)
        return err_set(e, ERR_CONFIG, "--max-length must be between 0 and %d", 1 << 24);
    struct dataset_file_request request = {
        r->data, r->format, r->tokenizer, r->template, (int32_t)r->max_length, (size_t)r->threads,
        r->out,  &w};
    return dataset_prepare_file(&request, e);
}

enum status verb_prepare(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    struct request r = {.format = "auto"};
    struct cli_option options[] = {
        {"--data", CLI_TEXT, &r.data, "F[,F]", "JSONL, JSON, CSV or text, packed or not", 0},
        {"--format", CLI_TEXT, &r.format, "FMT",
         "alpaca, sharegpt, openai, oasst, ...; configs/README.md (auto)", 0},
        {"--tokenizer", CLI_TEXT, &r.tokenizer, "DIR", "model directory or tokenizer file", 0},
        {"--template", CLI_TEXT, &r.template, "T",
         "alpaca, vicuna, llama2, llama3, chatml, zephyr, orca, solar; left out: plain text", 0},
        {"--max-length", CLI_INT, &r.max_length, "N", "for the report: what would be cut", 0},
        {"--threads", CLI_INT, &r.threads, "N", "CPU threads; 0: all (0)", 0},
        {"--out", CLI_TEXT, &r.out, "F.h5", "dataset file to write", 0},
        {"--json", CLI_FLAG, &r.json, NULL, "the report as JSON on stdout", 0},
    };
    struct cli_args args = {.options = options, .num_options = sizeof options / sizeof *options};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    TRY(signals_watch(NULL, e));
    if (!args.num_positional) return by_options(v, &r, &args, e);
    if (r.data || r.out || r.tokenizer || r.template || r.max_length || r.threads)
        return err_set(e, ERR_CONFIG,
                       "a config file or options, not both; a key is overridden by key=value");
    return by_config(&r, &args, e);
}
