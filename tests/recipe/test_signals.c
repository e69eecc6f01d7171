/* What SIGTERM and SIGINT do, to a chat and to a run. A run finishes its step, saves, exits with
 * 75, and resumes to the bytes of the run that nobody disturbed; a second signal ends it at once.
 */
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "support/run_binary.h"
#include "support/tiny_run.h"

#define BATCH_OF_2 "per_device_train_batch_size=2"
#define PATIENCE 60.0 /* seconds to wait for a sign of life */

static struct tiny tiny;

static int setup(void **state)
{
    (void)state;
    tiny_init(&tiny);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static void wait_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* Until the run has logged a step. */
static void wait_for_step(struct running *p, const char *out)
{
    siginfo_t info = {.si_pid = 0};
    char name[64], path[256];
    snprintf(name, sizeof name, "%s/metrics.jsonl", out);
    tiny_path(&tiny, name, path);
    for (int i = 0; i < PATIENCE * 500; i++) {
        if (io_file_size(path) > 0) return;
        wait_ms(2);
        waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT);
        if (info.si_pid) break;
    }
    kill(p->pid, SIGKILL);
    struct ran r = run_wait(p);
    print_error("%s\n", r.err);
    ran_free(&r);
    fail_msg("no step of %s was logged", out);
}

static struct running train(const char *out, const char *batch, const char *steps, const char *more)
{
    char data[320], dir[320];
    snprintf(data, sizeof data, "datasets=%s/data.jsonl", tiny.dir);
    snprintf(dir, sizeof dir, "output_dir=%s/%s", tiny.dir, out);
    return run_start_cria(NULL, "train", "model_name_or_path=" TINY_MODEL, data, dir, batch,
                          "template=orca", "max_length=256", "finetuning=lora", "lora_dropout=0.1",
                          "learning_rate=1e-3", "logging_steps=1", "save_steps=none", steps, more,
                          NULL);
}

static void finish(struct running p, int code)
{
    struct ran r = run_wait(&p);
    CHECK_EXIT(&r, code);
    ran_free(&r);
}

static void stopped_case(const char *out, int number)
{
    char file[64];
    struct running p = train(out, BATCH_OF_2, "max_steps=150", NULL);
    wait_for_step(&p, out);
    kill(p.pid, number);
    struct ran r = run_wait(&p);
    CHECK_EXIT(&r, 75);
    CHECK_HAS(r.err, "stopped after step ");
    CHECK_HAS(r.err, "resume_from_checkpoint=auto");
    ran_free(&r);
    finish(train(out, BATCH_OF_2, "max_steps=150", "resume_from_checkpoint=auto"), 0);
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", out);
    assert_true(tiny_same(&tiny, "whole/adapter_model.safetensors", file));
}

static void test_stopped(void **state)
{
    (void)state;
    finish(train("whole", BATCH_OF_2, "max_steps=150", NULL), 0);
    stopped_case("terminated", SIGTERM);
    stopped_case("interrupted", SIGINT);
}

/* What is half-made goes with the program: `verb` writes OUT aside, out of a long file. */
static void half_made_case(const char *out, const char *const *args)
{
    char aside[256], lock[256], name[64];
    const char *argv[16] = {getenv("CRIA_BIN")};
    size_t n = 1;
    for (; *args; args++) argv[n++] = *args;
    snprintf(name, sizeof name, "%s.tmp", out);
    tiny_path(&tiny, name, aside);
    snprintf(name, sizeof name, "%s.lock", out);
    tiny_path(&tiny, name, lock);
    struct running p = run_start(argv, NULL, -1);
    for (int i = 0; i < PATIENCE * 500 && !io_exists(aside); i++) wait_ms(2);
    kill(p.pid, SIGTERM);
    struct ran r = run_wait(&p);
    assert_int_equal(r.signal, SIGTERM);
    assert_false(io_exists(aside));
    assert_false(io_exists(lock));
    ran_free(&r);
}

static void test_half_made(void **state)
{
    (void)state;
    char data[256], h5[256], jsonl[256];
    tiny_path(&tiny, "long.jsonl", data);
    tiny_path(&tiny, "half.h5", h5);
    tiny_path(&tiny, "half.jsonl", jsonl);
    FILE *f = fopen(data, "w");
    assert_non_null(f);
    for (int i = 0; i < 200000; i++)
        fprintf(f,
                "{\"instruction\": \"What is %d and one, and why is it so?\", \"input\": \"\", "
                "\"output\": \"It is %d, for one comes after another, and that is all.\"}\n",
                i, i + 1);
    assert_int_equal(fclose(f), 0);
    half_made_case("half.h5", (const char *[]){"prepare", "--data", data, "--tokenizer", TINY_MODEL,
                                               "--template", "orca", "--out", h5, NULL});
    half_made_case("half.jsonl", (const char *[]){"clean", data, "--out", jsonl, NULL});
    unlink(data);
}

/* Documents enough for steps of a second: the second signal does not wait for the step's end. */
static void write_much(void)
{
    char path[256];
    tiny_path(&tiny, "data.jsonl", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 2000; i++)
        fprintf(f, "{\"instruction\": \"Say %d\", \"output\": \"%d\"}\n", i, i);
    fclose(f);
}

static void test_second_signal(void **state)
{
    (void)state;
    char path[256];
    write_much();
    struct running p = train("twice", "per_device_train_batch_size=1", "max_steps=1000",
                             "gradient_accumulation_steps=500");
    wait_for_step(&p, "twice");
    wait_ms(50);
    kill(p.pid, SIGINT);
    wait_ms(50);
    kill(p.pid, SIGINT);
    struct ran r = run_wait(&p);
    if (!r.signal) print_error("exit %d: %s\n", r.code, r.err);
    assert_int_equal(r.signal, SIGINT);
    ran_free(&r);
    tiny_path(&tiny, "twice/adapter_model.safetensors", path);
    assert_false(io_exists(path));
}

/* --- a terminal --- */

/* What the terminal has shown and nobody has waited for yet. */
static struct {
    char text[1 << 16];
    size_t n;
} shown;

static int read_more(int terminal)
{
    struct pollfd p = {terminal, POLLIN, 0};
    if (poll(&p, 1, 50) < 1) return 1;
    ssize_t got = read(terminal, shown.text + shown.n, sizeof shown.text - 1 - shown.n);
    if (got < 1) return 0; /* the program has left */
    shown.n += (size_t)got;
    shown.text[shown.n] = 0;
    return 1;
}

/* Waits until `mark` has come, and forgets all up to it; fails the test if it does not come. */
static void expect(int terminal, const char *mark)
{
    char *at = NULL;
    double end = clock_seconds() + PATIENCE;
    while (!(at = strstr(shown.text, mark)))
        if (clock_seconds() > end || !read_more(terminal)) break;
    if (!at) fail_msg("\"%s\" did not come, but: %s", mark, shown.text);
    at += strlen(mark);
    shown.n -= (size_t)(at - shown.text);
    memmove(shown.text, at, shown.n + 1);
}

static void type(int terminal, const char *keys)
{
    assert_int_equal(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

/* The prompt stands a moment before the terminal gives keys instead of lines and signals. */
static void wait_for_editor(int terminal)
{
    struct termios t;
    expect(terminal, "> ");
    for (int i = 0; i < PATIENCE * 500; i++, wait_ms(2))
        if (!tcgetattr(terminal, &t) && !(t.c_lflag & (ICANON | ISIG))) return;
    fail_msg("the terminal takes no keys");
}

/* A model that takes its time for an answer. */
static void make_slow_model(char model[256])
{
    char config[256], to[512];
    struct err e = {0};
    json_t *o;
    tiny_path(&tiny, "slow", model);
    tiny_path(&tiny, "slow.json", config);
    CHECK_OK(json_parse_file(TINY_MODEL "/config.json", &o, &e), &e);
    json_object_set_new(o, "hidden_size", json_integer(256));
    json_object_set_new(o, "intermediate_size", json_integer(1024));
    json_object_set_new(o, "num_hidden_layers", json_integer(8));
    CHECK_OK(json_write_file(o, config, &e), &e);
    json_decref(o);
    struct ran r = run_cria(NULL, "init", "--config", config, "--out", model, NULL);
    CHECK_EXIT(&r, 0);
    ran_free(&r);
    snprintf(to, sizeof to, "%s/tokenizer.json", model);
    CHECK_OK(io_copy_file(TINY_MODEL "/tokenizer.json", to, &e), &e);
    snprintf(to, sizeof to, "%s/tokenizer_config.json", model);
    CHECK_OK(io_copy_file(TINY_MODEL "/tokenizer_config.json", to, &e), &e);
}

/* Ctrl-C ends the answer, or clears the line, and never the program; Ctrl-D leaves. */
static void test_chat_terminal(void **state)
{
    (void)state;
    char model[256];
    int terminal, status;
    make_slow_model(model);
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    if (!pid) {
        setenv("TERM", "dumb", 1);
        execl(getenv("CRIA_BIN"), "cria", "chat", "--model", model, "--template", "vicuna",
              "--max-new-tokens", "400", (char *)NULL);
        _exit(127);
    }
    wait_for_editor(terminal);
    type(terminal, "Hello\r");
    expect(terminal, "Hello\r\n");
    wait_ms(200);
    type(terminal, "\003");
    expect(terminal, "[stopped]");
    wait_for_editor(terminal);
    type(terminal, "not sent\003/save /dev/null\r");
    expect(terminal, "2 messages appended");
    wait_for_editor(terminal);
    type(terminal, "\004");
    double end = clock_seconds() + PATIENCE;
    while (clock_seconds() < end && read_more(terminal)) continue;
    kill(pid, SIGKILL); /* it has left by now */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
    close(terminal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_half_made),
        cmocka_unit_test(test_second_signal),
        cmocka_unit_test(test_chat_terminal),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
