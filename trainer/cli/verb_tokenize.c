/* cria tokenize: stdin to stdout, ids separated by spaces. */
#include "cli/cli.h"
#include "run/tokenize.h"

enum status verb_tokenize(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    struct tokenize_options o = {0};
    struct cli_option options[] = {
        {"--tokenizer", CLI_TEXT, &o.tokenizer, "DIR", "model directory or tokenizer file", 0},
        {"--lines", CLI_FLAG, &o.lines, NULL, "each line is a text of its own", 0},
        {"--decode", CLI_FLAG, &o.decode, NULL, "ids to text", 0},
        {"--no-special", CLI_FLAG, &o.no_special, NULL,
         "encoding: add no BOS or EOS; decoding: leave special tokens out", 0},
    };
    struct cli_args args = {.options = options, .num_options = sizeof options / sizeof *options};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    TRY(cli_require(v, &args, "--tokenizer", e));
    return tokenize_stream(&o, stdin, stdout, e);
}
