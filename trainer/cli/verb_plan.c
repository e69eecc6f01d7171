/* cria plan: what a run will take, before it takes it. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/watch.h"
#include "config/config.h"
#include "run/plan.h"

static enum status answer(const struct plan *p, const struct session *s, int json, struct err *e)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    enum status status = json ? plan_json(p, s, &text, e) : plan_print(p, s, &text);
    if (!status) printf("%s%s", text.data, json ? "\n" : "");
    buf_free(&text);
    return status;
}

static enum status make(struct plan *p, struct session *s, struct err *e)
{
    plan_make(p, s);
    TRY(plan_advise(p, s, e));
    return plan_measure(p, s, e);
}

static enum status plan(const struct config *c, int json, struct err *e)
{
    static struct session session; /* large, and only one */
    static struct plan p;
    enum status s = session_prepare(&session, c, SESSION_PLAN, &watch_preparing, e);
    if (!s) s = make(&p, &session, e);
    progress_clear();
    if (!s && !json) cli_say_findings(&session.preflight);
    if (!s) s = answer(&p, &session, json, e);
    if (!s) s = plan_refuse(&p, e);
    session_close(&session);
    return s;
}

enum status verb_plan(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    struct config c = {0};
    int json = 0;
    struct cli_option options[] = {
        {"--json", CLI_FLAG, &json, NULL, "one JSON object on stdout", 0},
    };
    struct cli_args args = {.options = options, .num_options = sizeof options / sizeof *options};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    TRY(cli_load_config(v, &args, &c, e));
    enum status s = plan(&c, json, e);
    config_free(&c);
    return s;
}
