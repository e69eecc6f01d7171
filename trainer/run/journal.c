#include "run/journal.h"

#include <stdio.h>

#include "base/log.h"

static void warn(const char *what, const struct err *e)
{
    char text[1024];
    err_format(e, text, sizeof text);
    log_warning("%s: %s", what, text);
}

static void open_board(struct journal *j)
{
    char dir[IO_PATH_MAX];
    struct err e = {0};
    if (!config_has(j->session->config, KEY_report_to, "tensorboard")) return;
    j->has_board = !io_join(dir, sizeof dir, j->session->config->output_dir, TENSORBOARD_DIR, &e) &&
                   !tensorboard_open(&j->board, dir, j->session->done + 1, &e);
    if (j->has_board) return;
    warn("no TensorBoard events", &e);
    tensorboard_close(&j->board);
}

static void answer(struct journal *j, enum answer_time when)
{
    struct err e = {0};
    if (answers_ask(&j->session->answers, j->session, when, &e)) warn("sample answers", &e);
}

#define PAGE_BYTES ((size_t)1 << 20)

size_t journal_memory(const struct session *s)
{
    size_t answers = answers_memory(&s->answers, s);
    size_t page = config_has(s->config, KEY_report_to, "html") ? PAGE_BYTES : 0;
    return answers > page ? answers : page;
}

void journal_begin(struct journal *j, struct session *s)
{
    struct err e = {0};
    *j = (struct journal){.session = s, .board = {.fd = -1}};
    j->has_page = config_has(s->config, KEY_report_to, "html");
    open_board(j);
    if (!s->done)
        answer(j, ANSWER_BEFORE);
    else if (answers_recall(&s->answers, s->config->output_dir, &e))
        warn("the answers of before", &e);
    j->began = clock_seconds();
}

static void write_events(struct journal *j, int64_t step, const struct tensorboard_scalar *scalars,
                         size_t n)
{
    struct err e = {0};
    if (!j->has_board || !tensorboard_write(&j->board, step, scalars, n, &e)) return;
    warn("no more TensorBoard events", &e);
    tensorboard_close(&j->board);
    j->has_board = 0;
}

struct preference_tags {
    char text[NUM_PREFERENCE_METRICS][64];
};

/* Behind the first n scalars; returns how many there are then. The accuracy of tokens is among the
 * others already. */
static size_t add_preferences(struct tensorboard_scalar *scalars, size_t n,
                              struct preference_tags *tags, const char *group,
                              const struct preference_sums *s)
{
    for (int m = 0; s && m < NUM_PREFERENCE_METRICS; m++) {
        double value;
        if (m == PREFERENCE_TOKEN_ACCURACY ||
            !preference_metric(s, (enum preference_metric)m, &value))
            continue;
        snprintf(tags->text[m], sizeof tags->text[m], "%s/%s", group,
                 preference_metric_name((enum preference_metric)m));
        scalars[n++] = (struct tensorboard_scalar){tags->text[m], value};
    }
    return n;
}

void journal_train(struct journal *j, const struct train_log *log)
{
    struct tensorboard_scalar scalars[NUM_METRICS + 1 + NUM_PREFERENCE_METRICS];
    char tags[NUM_METRICS][64];
    struct preference_tags preferences;
    for (int m = 0; m < NUM_METRICS; m++) {
        snprintf(tags[m], sizeof tags[m], "train/%s", metric_name((enum metric)m));
        scalars[m] = (struct tensorboard_scalar){tags[m], log->value[m]};
    }
    scalars[NUM_METRICS] = (struct tensorboard_scalar){"train/epoch", log->epoch};
    size_t n = add_preferences(scalars, NUM_METRICS + 1, &preferences, "train", log->preferences);
    write_events(j, log->step, scalars, n);
}

void journal_eval(struct journal *j, const struct eval_log *log)
{
    struct preference_tags preferences;
    struct tensorboard_scalar scalars[4 + NUM_PREFERENCE_METRICS] = {
        {"eval/loss", log->loss},
        {"eval/mean_token_accuracy", log->accuracy},
        {"eval/num_tokens", (double)log->num_tokens},
        {"eval/runtime", log->seconds},
    };
    size_t n = add_preferences(scalars, 4, &preferences, "eval",
                               log->has_preferences ? &log->preferences : NULL);
    write_events(j, log->step, scalars, n);
}

static void show(struct journal *j, enum report_phase phase, const char *message)
{
    struct err e = {0};
    struct report r = {j->session, phase, message, clock_seconds() - j->began};
    if (!j->has_page || !report_write(&r, &e)) return;
    if (!j->warned) warn("no report", &e);
    j->warned = 1;
}

void journal_show(struct journal *j) { show(j, REPORT_RUNNING, NULL); }

void journal_end(struct journal *j, enum status status, const struct err *e)
{
    char message[1024] = "";
    if (status && status != ERR_STOPPED) err_format(e, message, sizeof message);
    if (!status) answer(j, ANSWER_AFTER);
    show(j,
         !status      ? REPORT_DONE
         : message[0] ? REPORT_FAILED
                      : REPORT_STOPPED,
         message[0] ? message : NULL);
    tensorboard_close(&j->board);
    j->has_board = 0;
}
