#include "support/run_line.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "support/check.h"

#define WORDS_MAX 600

/* Cuts `text` into words in place. */
static void split(char *text, char **words)
{
    size_t n = 1; /* words[0] is the program */
    char *to = text;
    for (char *at = text; *at;) {
        int quoted = 0;
        while (*at == ' ') at++;
        if (!*at) break;
        assert_true(n + 1 < WORDS_MAX);
        words[n++] = to;
        for (; *at && (quoted || *at != ' '); at++) {
            if (*at == '\'')
                quoted = !quoted;
            else
                *to++ = *at;
        }
        if (*at) at++;
        *to++ = 0;
    }
    words[n] = NULL;
}

static void become(const char *dir, char *line, FILE *in, FILE *out, FILE *err)
{
    char *words[WORDS_MAX] = {getenv("CRIA_BIN")};
    split(line, words);
    dup2(fileno(in), 0);
    dup2(fileno(out), 1);
    dup2(fileno(err), 2);
    if (dir && chdir(dir)) _exit(126);
    execv(words[0], words);
    _exit(127);
}

static FILE *input_of(const char *dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/stdin", dir ? dir : ".");
    FILE *f = fopen(path, "r");
    return f ? f : fopen("/dev/null", "r");
}

static void take(FILE *f, char *out)
{
    rewind(f);
    out[fread(out, 1, RUN_TEXT_MAX - 1, f)] = 0;
    fclose(f);
}

static int wait_for(pid_t child, double began, int seconds, int *timed_out)
{
    int status;
    pid_t ended;
    while (!(ended = waitpid(child, &status, WNOHANG))) {
        if (!*timed_out && clock_seconds() - began > seconds) {
            *timed_out = 1;
            kill(child, SIGKILL);
        }
        usleep(1000);
    }
    assert_int_equal(ended, child);
    return status;
}

void run_line(struct run_result *r, const char *dir, const char *line, int seconds)
{
    FILE *in = input_of(dir), *out = tmpfile(), *err = tmpfile();
    char *copy = malloc(strlen(line) + 1);
    double began = clock_seconds();
    *r = (struct run_result){0};
    assert_non_null(getenv("CRIA_BIN"));
    assert_true(in && out && err && copy);
    memcpy(copy, line, strlen(line) + 1);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) become(dir, copy, in, out, err);
    int status = wait_for(child, began, seconds, &r->timed_out);
    r->seconds = clock_seconds() - began;
    r->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    r->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    take(out, r->out);
    take(err, r->err);
    fclose(in);
    free(copy);
}
