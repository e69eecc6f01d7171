#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "config/config.h"
#include "run/preflight.h"

static void print_help(const struct cli_verb *verb, const struct cli_args *args)
{
    printf("cria %s %s\n\n%s\n", verb->name, verb->usage, verb->summary);
    if (args->about) printf("\n%s\n", args->about);
    if (args->num_options) printf("\nOptions\n");
    for (size_t i = 0; i < args->num_options; i++) {
        const struct cli_option *o = &args->options[i];
        char head[64];
        snprintf(head, sizeof head, "%s %s", o->name, o->value ? o->value : "");
        printf("  %-24s %s\n", head, o->help);
    }
}

static struct cli_option *find(struct cli_args *args, const char *name, size_t n)
{
    for (size_t i = 0; i < args->num_options; i++)
        if (strlen(args->options[i].name) == n && !memcmp(args->options[i].name, name, n))
            return &args->options[i];
    return NULL;
}

static enum status unknown(const struct cli_verb *verb, const struct cli_args *args,
                           const char *given, struct err *e)
{
    const char *names[64];
    size_t n = 0;
    for (; n < args->num_options && n < 64; n++) names[n] = args->options[n].name;
    const char *near = config_nearest(given, names, n);
    err_set(e, ERR_CONFIG, "cria %s has no option %s", verb->name, given);
    if (near) return err_hint(e, "did you mean %s?", near);
    if (strstr(verb->usage, "key=value"))
        return err_hint(e, "cria %s --help lists them; a config's keys are written %s=VALUE",
                        verb->name, given + strspn(given, "-"));
    return err_hint(e, "cria %s --help lists them", verb->name);
}

static enum status set_value(struct cli_option *o, const char *text, struct err *e)
{
    char *end = NULL;
    errno = 0;
    o->given = 1;
    switch (o->kind) {
    case CLI_FLAG: *(int *)o->out = 1; return OK;
    case CLI_TEXT: *(const char **)o->out = text; return OK;
    case CLI_INT: *(int64_t *)o->out = strtoll(text, &end, 10); break;
    case CLI_REAL: *(double *)o->out = strtod(text, &end); break;
    }
    if (errno || end == text || *end)
        return err_set(e, ERR_CONFIG, "%s wants %s, not \"%s\"", o->name,
                       o->kind == CLI_INT ? "a whole number" : "a number", text);
    return OK;
}

static enum status parse_option(const struct cli_verb *verb, struct cli_args *args, int argc,
                                char **argv, int *at, struct err *e)
{
    const char *text = argv[*at], *equals = strchr(text, '=');
    size_t n = equals ? (size_t)(equals - text) : strlen(text);
    struct cli_option *o = find(args, text, n);
    if (!o) return unknown(verb, args, text, e);
    if (o->kind == CLI_FLAG && equals) return err_set(e, ERR_CONFIG, "%s takes no value", o->name);
    if (o->kind == CLI_FLAG) return set_value(o, NULL, e);
    if (equals) return set_value(o, equals + 1, e);
    if (++*at == argc) return err_set(e, ERR_CONFIG, "%s wants %s behind it", o->name, o->value);
    return set_value(o, argv[*at], e);
}

enum status cli_parse(const struct cli_verb *verb, struct cli_args *args, int argc, char **argv,
                      struct err *e)
{
    int only_positional = 0;
    for (int i = 0; i < argc; i++) {
        if (!only_positional && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
            print_help(verb, args);
            args->help = 1;
            return OK;
        }
        if (!only_positional && !strcmp(argv[i], "--")) {
            only_positional = 1;
        } else if (!only_positional && argv[i][0] == '-' && argv[i][1]) {
            TRY(parse_option(verb, args, argc, argv, &i, e));
        } else {
            if (args->num_positional == CLI_POSITIONALS_MAX)
                return err_set(e, ERR_CONFIG, "more than %d arguments", CLI_POSITIONALS_MAX);
            args->positional[args->num_positional++] = argv[i];
        }
    }
    return OK;
}

enum status cli_require(const struct cli_verb *verb, const struct cli_args *args, const char *name,
                        struct err *e)
{
    for (size_t i = 0; i < args->num_options; i++)
        if (!strcmp(args->options[i].name, name) && args->options[i].given) return OK;
    err_set(e, ERR_CONFIG, "cria %s needs %s", verb->name, name);
    return err_hint(e, "cria %s %s", verb->name, verb->usage);
}

enum status cli_load_config(const struct cli_verb *verb, const struct cli_args *args,
                            struct config *out, struct err *e)
{
    size_t n = args->num_positional;
    if (!n) {
        err_set(e, ERR_CONFIG, "cria %s needs a config file", verb->name);
        return err_hint(e, "cria %s CONFIG [key=value ...]; configs/ has recipes", verb->name);
    }
    size_t file = !strchr(args->positional[0], '=');
    return config_load(out, file ? args->positional[0] : NULL, args->positional + file, n - file,
                       e);
}

void cli_say_findings(const struct preflight *p)
{
    for (const struct preflight_finding *f = p->findings; f < p->findings + p->count; f++) {
        progress_say("cria: warning: %s", f->what);
        progress_say("      in %s", f->where);
        if (f->hint[0]) progress_say("      %s", f->hint);
    }
}
