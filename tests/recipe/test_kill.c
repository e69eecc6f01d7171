/* A run that is killed again and again, also inside its saves, and goes on each time, ends in the
 * same bytes as one that never was.
 *
 *     test_kill [kills]        12 by default; at least a quarter of them inside a save
 *
 * Every run is a child process. "Inside a save" is proven by what the kill left: the directory of
 * a half-written (or half-removed) checkpoint. This process trains nothing itself, since a fork
 * would inherit OpenMP's threads only by name. */
#include "support/tiny_run.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/rng.h"

#define RUN                                                                           \
    "threads=1 max_steps=20 save_steps=1 save_total_limit=2 val_size=4 eval_steps=4 " \
    "load_best_model_at_end=true resume_from_checkpoint=auto "

static const char *const kinds[][2] = {
    {"finetuning=lora lora_r=4 lora_dropout=0.1 " RUN, "adapter_model.safetensors"},
    {"finetuning=full learning_rate=3e-3 on_spike=skip spike_window=8 spike_zscore=1 " RUN,
     "model.safetensors"},
    {"finetuning=full learning_rate=3e-3 async_save=true " RUN, "model.safetensors"},
};

enum { KINDS = sizeof kinds / sizeof *kinds };

static struct tiny tiny;
static int wanted = 12, kills, inside, starts, finished;
static struct mt19937 random_numbers;

static int draw(int n) { return (int)(mt19937_next(&random_numbers) % (uint32_t)n); }

static pid_t start(const char *out, int kind)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child) {
        starts++;
        return child;
    }
    tiny_train(&tiny, out, kinds[kind][0], 0);
    if (tiny.status) fprintf(stderr, "%s: %s (%s)\n", out, tiny.err.message, tiny.err.hint);
    _exit(tiny.status);
}

/* 1: it ended by itself, and well. */
static int has_ended(pid_t child, int flags)
{
    int status;
    if (waitpid(child, &status, flags) != child) return 0;
    if (WIFSIGNALED(status)) return 0;
    assert_int_equal(WEXITSTATUS(status), 0);
    return 1;
}

/* 1 when a directory named .checkpoint-* is made in the watched one within `ms`. */
static int save_begins(int watch, int ms)
{
    _Alignas(struct inotify_event) char events[4096];
    struct pollfd p = {.fd = watch, .events = POLLIN};
    if (poll(&p, 1, ms) != 1) return 0;
    ssize_t n = read(watch, events, sizeof events);
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const struct inotify_event *)(events + at);
        if (e->len && !strncmp(e->name, ".checkpoint-", 12)) return 1;
        at += (ssize_t)sizeof *e + (ssize_t)e->len;
    }
    return 0;
}

/* Waits for one of the next saves, then up to four milliseconds. 1: the child ended before. */
static int wait_for_save(pid_t child, const char *path)
{
    int watch = inotify_init1(IN_NONBLOCK), skip = draw(6), ended = 0;
    assert_true(inotify_add_watch(watch, path, IN_CREATE | IN_MOVED_TO) >= 0);
    for (int waited = 0; !ended && waited < 30000; waited += 5) {
        if (save_begins(watch, 5) && !skip--) break;
        ended = has_ended(child, WNOHANG);
    }
    close(watch);
    usleep((useconds_t)draw(4000));
    return ended;
}

static int leftovers(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    for (struct dirent *entry; (entry = readdir(d));)
        n += !strncmp(entry->d_name, ".checkpoint-", 12);
    closedir(d);
    return n;
}

/* One life of a run. 1: it came to its end. */
static int live(const char *out, int kind, int in_save)
{
    char path[256];
    int status, ended = 0;
    tiny_path(&tiny, out, path);
    pid_t child = start(out, kind);
    if (in_save)
        ended = wait_for_save(child, path);
    else
        usleep((useconds_t)draw(500000));
    if (ended || has_ended(child, WNOHANG)) return 1;
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
        return 1;
    }
    kills++;
    inside += leftovers(path) > 0;
    return 0;
}

static void assert_same(const char *a, const char *b, const char *file)
{
    char x[128], y[128];
    snprintf(x, sizeof x, "%s/%s", a, file);
    snprintf(y, sizeof y, "%s/%s", b, file);
    assert_true(tiny_same(&tiny, x, y));
}

/* The logs, but for what clocks say. */
static void assert_same_metrics(const char *a, const char *b)
{
    static const char *const clocks[] = {"tokens_per_second", "floor_share", "eval_runtime"};
    const char *const runs[2] = {a, b};
    json_t *history[2];
    struct err e = {0};
    for (int i = 0; i < 2; i++) {
        char name[64], path[256];
        size_t k;
        json_t *line;
        snprintf(name, sizeof name, "%s/metrics.jsonl", runs[i]);
        tiny_path(&tiny, name, path);
        CHECK_OK(metrics_history(path, &history[i], &e), &e);
        json_array_foreach(history[i], k, line)
        {
            for (size_t c = 0; c < sizeof clocks / sizeof *clocks; c++)
                json_object_del(line, clocks[c]);
        }
    }
    assert_true(json_array_size(history[0]) == 25);
    assert_true(json_equal(history[0], history[1]));
    json_decref(history[0]);
    json_decref(history[1]);
}

static void compare(const char *out, const char *whole, int kind)
{
    assert_same(out, whole, kinds[kind][1]);
    assert_same(out, whole, "checkpoint-20/state.safetensors");
    assert_same(out, whole, "checkpoint-20/cria_state.json");
    assert_same_metrics(out, whole);
    finished++;
}

static void make_output(const char *out)
{
    char path[256];
    tiny_path(&tiny, out, path);
    assert_int_equal(mkdir(path, 0777), 0); /* an empty one is fine, and can be watched */
}

static void kill_one_run(int kind)
{
    char out[32], whole[32];
    int ended = 0;
    snprintf(whole, sizeof whole, "whole-%d", kind);
    snprintf(out, sizeof out, "cut-%d-%d", kind, starts);
    make_output(out);
    for (int n = 0; !ended && n < 200; n++) {
        int enough = kills >= wanted && inside >= wanted / 4;
        if (enough) break;
        ended = live(out, kind, inside < wanted / 2 || n % 2);
    }
    if (!ended) assert_true(has_ended(start(out, kind), 0));
    compare(out, whole, kind);
}

static void test_kills(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        char whole[32];
        snprintf(whole, sizeof whole, "whole-%d", kind);
        assert_true(has_ended(start(whole, kind), 0));
    }
    for (int round = 0; kills < wanted || inside < wanted / 4 || round < KINDS; round++) {
        assert_true(round < 100);
        kill_one_run(round % KINDS);
    }
    print_message("%d kills, %d of them inside a save; %d runs came to the uninterrupted end\n",
                  kills, inside, finished);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kills)};
    if (argc > 1) wanted = (int)strtol(argv[1], NULL, 10);
    mt19937_seed(&random_numbers, (uint32_t)getpid());
    tiny_init(&tiny);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_free(&tiny);
    return failed;
}
