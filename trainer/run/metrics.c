#include "run/metrics.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"

#define METRICS_FILE_MAX ((size_t)1 << 30)
#define LINE_MAX_BYTES ((size_t)1 << 16)

static const char *const names[NUM_METRICS] = {
#define X(name, text) #name,
    METRICS_TABLE(X)
#undef X
};

const char *metric_name(enum metric m) { return names[m]; }

double metric_of_preferences(const struct preference_sums *s, enum preference_metric m)
{
    double value;
    return s && preference_metric(s, m, &value) ? value : (double)NAN;
}

/* The line, or nothing of it. */
static enum status write_line(int fd, const struct buf *line, const char *path, struct err *e)
{
    off_t end = lseek(fd, 0, SEEK_END);
    enum status s =
        end < 0 ? err_errno(e, "%s", path) : io_write_all(fd, line->data, line->len, path, e);
    if (s && end >= 0 && ftruncate(fd, end)) return s;
    return s;
}

/* One line, in one write, so that a crash leaves whole lines. Takes over `object`. */
static enum status append_line(const char *path, json_t *object, struct err *e)
{
    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    enum status s = json_append_text(object, &line, e);
    json_decref(object);
    if (!s && buf_putc(&line, '\n')) s = err_set(e, ERR_MEMORY, "no memory to log");
    int fd = s ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (!s) s = fd < 0 ? err_errno(e, "%s", path) : write_line(fd, &line, path, e);
    if (fd >= 0 && close(fd) && !s) s = err_errno(e, "%s", path);
    buf_free(&line);
    return s;
}

static json_t *real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

/* Those that are there; what a log has under the same name already is replaced. */
static void add_preferences(json_t *o, const char *prefix, const struct preference_sums *s)
{
    for (int m = 0; s && m < NUM_PREFERENCE_METRICS; m++) {
        double value;
        char name[64];
        if (!preference_metric(s, (enum preference_metric)m, &value)) continue;
        snprintf(name, sizeof name, "%s%s", prefix,
                 preference_metric_name((enum preference_metric)m));
        json_object_set_new(o, name, real(value));
    }
}

enum status metrics_append_train(const char *path, const struct train_log *log, struct err *e)
{
    json_t *o = json_pack("{s:I,s:f}", "step", (json_int_t)log->step, "epoch", log->epoch);
    for (int m = 0; m < NUM_METRICS; m++) {
        int whole = m == METRIC_num_tokens || m == METRIC_memory_bytes || m == METRIC_skipped_steps;
        json_object_set_new(o, names[m],
                            whole ? json_integer((json_int_t)log->value[m]) : real(log->value[m]));
    }
    add_preferences(o, "", log->preferences);
    return append_line(path, o, e);
}

enum status metrics_append_eval(const char *path, const struct eval_log *log, struct err *e)
{
    json_t *o =
        json_pack("{s:I,s:f,s:o,s:o,s:I,s:f}", "step", (json_int_t)log->step, "epoch", log->epoch,
                  "eval_loss", real(log->loss), "eval_mean_token_accuracy", real(log->accuracy),
                  "eval_num_tokens", (json_int_t)log->num_tokens, "eval_runtime", log->seconds);
    add_preferences(o, "eval_", log->has_preferences ? &log->preferences : NULL);
    return append_line(path, o, e);
}

enum status metrics_history(const char *path, json_t **out, struct err *e)
{
    struct buf text;
    enum status s = OK;
    *out = json_array();
    if (!*out) return err_set(e, ERR_MEMORY, "no memory for the log's history");
    buf_init(&text, METRICS_FILE_MAX);
    if (io_exists(path)) s = io_read_file(path, &text, e);
    long line = 1;
    for (char *at = text.data, *end; !s && at && *at; at = end + 1, line++) {
        json_t *o;
        end = strchr(at, '\n');
        if (!end) break; /* a line that a crash cut short */
        s = json_parse_text(at, (size_t)(end - at), path, &o, e);
        if (s) e->line = line;
        if (!s && json_array_append_new(*out, o))
            s = err_set(e, ERR_MEMORY, "no memory for %s", path);
    }
    buf_free(&text);
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

enum status metrics_cut(const char *path, int64_t step, struct err *e)
{
    json_t *history;
    struct buf kept;
    if (!io_exists(path)) return OK;
    TRY(metrics_history(path, &history, e));
    enum status s = OK;
    buf_init(&kept, METRICS_FILE_MAX);
    for (size_t i = 0; !s && i < json_array_size(history); i++) {
        json_t *o = json_array_get(history, i);
        if (json_integer_value(json_object_get(o, "step")) > step) continue;
        s = json_append_text(o, &kept, e);
        if (!s && buf_putc(&kept, '\n')) s = err_set(e, ERR_MEMORY, "no memory to cut %s", path);
    }
    if (!s) s = io_write_file(path, kept.data ? kept.data : "", kept.len, e);
    buf_free(&kept);
    json_decref(history);
    return s;
}
