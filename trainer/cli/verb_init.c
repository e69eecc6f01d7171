#include "cli/cli.h"
#include "run/new_model.h"

enum status verb_init(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    const char *config = NULL, *out = NULL;
    int64_t seed = 42;
    struct cli_option options[] = {
        {"--config", CLI_TEXT, &config, "F.json", "config.json of the new model, or its directory",
         0},
        {"--out", CLI_TEXT, &out, "DIR", "where to write it; must be new or empty", 0},
        {"--seed", CLI_INT, &seed, "S", "of the random weights (42)", 0},
    };
    struct cli_args args = {.options = options, .num_options = sizeof options / sizeof *options};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    TRY(cli_require(v, &args, "--config", e));
    TRY(cli_require(v, &args, "--out", e));
    return new_model_init(config, out, (uint64_t)seed, e);
}
