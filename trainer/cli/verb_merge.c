#include <string.h>

#include "cli/cli.h"
#include "run/new_model.h"

static const struct {
    const char *name;
    enum file_type type;
} types[] = {{"auto", FILE_TYPES}, {"fp32", FILE_F32}, {"bf16", FILE_BF16}, {"fp16", FILE_F16}};

enum status verb_merge(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    const char *model = NULL, *adapter = NULL, *out = NULL, *dtype = "auto";
    struct cli_option options[] = {
        {"--model", CLI_TEXT, &model, "DIR", "the base model", 0},
        {"--adapter", CLI_TEXT, &adapter, "DIR", "the adapter, cria's or PEFT's", 0},
        {"--out", CLI_TEXT, &out, "DIR", "where to write the merged model; must be new or empty",
         0},
        {"--save-dtype", CLI_TEXT, &dtype, "T", "auto (the base's), fp32, bf16 or fp16", 0},
    };
    struct cli_args args = {.options = options, .num_options = sizeof options / sizeof *options};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    TRY(cli_require(v, &args, "--model", e));
    TRY(cli_require(v, &args, "--adapter", e));
    TRY(cli_require(v, &args, "--out", e));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, dtype))
            return new_model_merge(model, adapter, out, types[i].type, e);
    err_set(e, ERR_CONFIG, "--save-dtype %s is none of auto, fp32, bf16, fp16", dtype);
    return ERR_CONFIG;
}
