#include "support/tiny_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

#define MOST_OVERRIDES 64

void tiny_path(const struct tiny *t, const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", t->dir, name);
}

/* Conversations of differing length, some with a system turn, some with two rounds. */
static void write_data(const struct tiny *t)
{
    char path[256];
    tiny_path(t, "data.jsonl", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < TINY_RECORDS; i++) {
        fprintf(f, "{\"messages\": [");
        if (i % 3 == 0) fprintf(f, "{\"role\": \"system\", \"content\": \"Be brief.\"}, ");
        fprintf(f, "{\"role\": \"user\", \"content\": \"Add %d and %d%s\"}, ", i, i * 7 % 11,
                i % 4 ? "." : ", please, and tell me how you did it.");
        fprintf(f, "{\"role\": \"assistant\", \"content\": \"%d\"}", i + i * 7 % 11);
        if (i % 5 == 0)
            fprintf(f, ", {\"role\": \"user\", \"content\": \"Sure?\"}, "
                       "{\"role\": \"assistant\", \"content\": \"Yes, I am.\"}");
        fprintf(f, "]}\n");
    }
    fclose(f);
}

static FILE *open_data(const struct tiny *t, const char *name)
{
    char path[256];
    tiny_path(t, name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    return f;
}

/* Replies of differing length; one prompt is a conversation. */
static void write_preferences(const struct tiny *t)
{
    FILE *pairs = open_data(t, "pairs.jsonl"), *labels = open_data(t, "labels.jsonl");
    for (int i = 0; i < TINY_RECORDS; i++) {
        char question[128], shorter[32], longer[160];
        int sum = i + i * 7 % 11;
        snprintf(question, sizeof question, "%sAdd %d and %d%s",
                 i % 5 == 1 ? "Think well, then answer. " : "", i, i * 7 % 11, i % 4 ? "." : "!");
        snprintf(shorter, sizeof shorter, "%d", sum);
        snprintf(longer, sizeof longer, "Well, %s it must be %d%s", i % 3 ? "I would say" : "oh,",
                 sum, i % 2 ? ", as anybody can see." : ".");
        fprintf(pairs,
                "{\"system\": \"%s\", \"question\": \"%s\", \"chosen\": \"%s\", \"rejected\": "
                "\"%s\"}\n",
                i % 3 ? "" : "Be brief.", question, shorter, longer);
        fprintf(labels,
                "{\"messages\": [{\"role\": \"user\", \"content\": \"%s\"}, {\"role\": "
                "\"assistant\", \"content\": \"%s\"}], \"label\": %s}\n",
                question, i % 2 ? longer : shorter, i % 2 ? "false" : "true");
    }
    fclose(pairs);
    fclose(labels);
}

void tiny_init(struct tiny *t)
{
    *t = (struct tiny){.dir = "/tmp/cria-tiny-XXXXXX"};
    assert_non_null(mkdtemp(t->dir));
    write_data(t);
    write_preferences(t);
}

void tiny_free(struct tiny *t)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(t->dir, &e), &e);
}

int tiny_same(const struct tiny *t, const char *a, const char *b)
{
    char path[256];
    struct err e = {0};
    struct buf x, y;
    buf_init(&x, 1 << 26);
    buf_init(&y, 1 << 26);
    tiny_path(t, a, path);
    CHECK_OK(io_read_file(path, &x, &e), &e);
    tiny_path(t, b, path);
    CHECK_OK(io_read_file(path, &y, &e), &e);
    int same = x.len == y.len && !memcmp(x.data, y.data, x.len);
    buf_free(&x);
    buf_free(&y);
    return same;
}

struct watching {
    struct tiny *t;
    atomic_int stop;
    int stop_after;
};

static void on_log(void *context, const struct train_log *log)
{
    struct watching *w = context;
    struct tiny *t = w->t;
    if (!t->num_steps) t->first_step = log->step;
    if (t->num_steps < TINY_STEPS_MAX) {
        t->losses[t->num_steps] = log->value[METRIC_loss];
        t->norms[t->num_steps] = log->value[METRIC_grad_norm];
    }
    t->num_steps++;
    if (t->each_step) t->each_step(t, log->step);
    if (t->num_steps == w->stop_after) w->stop = 1;
}

static void on_profile(void *context, const char *table)
{
    const struct watching *w = context;
    snprintf(w->t->profile, sizeof w->t->profile, "%s", table);
}

/* A key given again replaces the former one. */
static size_t split(char *text, const char **items)
{
    size_t n = 0;
    for (char *rest, *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest)) {
        size_t key = (size_t)(strchr(at, '=') - at) + 1, i = 0;
        while (i < n && strncmp(items[i], at, key)) i++;
        items[i] = at;
        if (i == n) n++;
    }
    return n;
}

void tiny_train(struct tiny *t, const char *out, const char *overrides, int stop_after)
{
    static struct session session;
    struct config config = {0};
    struct watching w = {.t = t, .stop_after = stop_after};
    struct train_observer o = {.context = &w,
                               .logged = on_log,
                               .profile_steps = t->profile_steps,
                               .profiled = on_profile,
                               .stop = &w.stop};
    char text[2048];
    const char *items[MOST_OVERRIDES];
    snprintf(text, sizeof text,
             "model_name_or_path=" TINY_MODEL
             " output_dir=%s/%s datasets=%s/data.jsonl template=orca "
             "max_length=256 per_device_train_batch_size=2 gradient_accumulation_steps=2 "
             "learning_rate=1e-3 logging_steps=1 max_steps=8 save_steps=none %s",
             t->dir, out, t->dir, overrides);
    size_t n = split(text, items);
    t->num_steps = 0;
    t->err = (struct err){0};
    t->status = config_load(&config, NULL, items, n, &t->err);
    if (!t->status) {
        t->status = session_open(&session, &config, NULL, &t->err);
        if (!t->status) t->status = trainer_run(&session, &o, &t->err);
        session_close(&session);
    }
    config_free(&config);
}
