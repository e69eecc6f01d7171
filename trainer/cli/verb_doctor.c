/* cria doctor: is this machine fit to train on? */
#include <stdio.h>

#include "cli/cli.h"
#include "run/doctor.h"

static enum status print_json(const struct doctor *d, struct err *e)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    enum status s = doctor_json(d, &text, e);
    if (!s) printf("%s\n", text.data);
    buf_free(&text);
    return s;
}

static void print_text(const struct doctor *d)
{
    for (const struct doctor_check *c = d->checks; c < d->checks + d->count; c++) {
        printf("%-8s %-9s %s\n", c->warning ? "warning" : "ok", c->name, c->found);
        if (c->advice[0]) printf("%-8s %-9s %s\n", "", "", c->advice);
    }
}

enum status verb_doctor(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    static struct doctor d;
    int json = 0;
    struct cli_option options[] = {
        {"--json", CLI_FLAG, &json, NULL, "one JSON object on stdout", 0},
    };
    struct cli_args args = {.about = "DIR: where output would go; the current directory otherwise.",
                            .options = options,
                            .num_options = sizeof options / sizeof *options};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    if (args.num_positional > 1) return err_set(e, ERR_CONFIG, "cria doctor takes one directory");
    doctor_run(&d, args.num_positional ? args.positional[0] : ".");
    if (json) return print_json(&d, e);
    print_text(&d);
    return OK;
}
