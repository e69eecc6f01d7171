#include "support/run_binary.h"

#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 64

extern char **environ;

void ran_free(struct ran *r)
{
    free(r->out);
    free(r->err);
    *r = (struct ran){0};
}

static FILE *temporary(const char *content)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    if (content) fputs(content, f);
    rewind(f);
    return f;
}

static char *content_of(FILE *f, size_t *n)
{
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    assert_true(size >= 0);
    char *text = calloc((size_t)size + 1, 1);
    assert_non_null(text);
    rewind(f);
    *n = fread(text, 1, (size_t)size, f);
    fclose(f);
    return text;
}

struct running run_start(const char *const *argv, const char *input, int out_fd)
{
    struct running p = {.out = temporary(NULL), .err = temporary(NULL)};
    FILE *in = temporary(input);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, fileno(in), 0);
    posix_spawn_file_actions_adddup2(&files, out_fd >= 0 ? out_fd : fileno(p.out), 1);
    posix_spawn_file_actions_adddup2(&files, fileno(p.err), 2);
    int bad = posix_spawn(&p.pid, argv[0], &files, &attributes, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    fclose(in);
    if (bad) fail_msg("%s: %s", argv[0], strerror(bad));
    return p;
}

struct ran run_wait(struct running *p)
{
    int status;
    struct ran r = {.code = -1};
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    if (WIFEXITED(status)) r.code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) r.signal = WTERMSIG(status);
    r.out = content_of(p->out, &r.out_len);
    r.err = content_of(p->err, &r.err_len);
    return r;
}

static struct running start(const char *input, const char *first, va_list rest)
{
    const char *argv[ARGUMENTS_MAX + 2] = {getenv("CRIA_BIN")};
    int n = 1;
    if (!argv[0] || !*argv[0]) fail_msg("CRIA_BIN does not name the binary");
    for (const char *at = first; at; at = va_arg(rest, const char *)) {
        assert_true(n <= ARGUMENTS_MAX);
        argv[n++] = at;
    }
    return run_start(argv, input, -1);
}

struct running run_start_cria(const char *input, const char *first, ...)
{
    va_list rest;
    va_start(rest, first);
    struct running p = start(input, first, rest);
    va_end(rest);
    return p;
}

struct ran run_cria(const char *input, const char *first, ...)
{
    va_list rest;
    va_start(rest, first);
    struct running p = start(input, first, rest);
    va_end(rest);
    return run_wait(&p);
}

void ran_check(const struct ran *r, int wanted, const char *file, int line)
{
    if (r->code == wanted) return;
    if (r->signal)
        print_error("%s:%d: ended by signal %d, not by exit %d\n", file, line, r->signal, wanted);
    else
        print_error("%s:%d: exit %d, not %d\n", file, line, r->code, wanted);
    print_error("%s\n", r->err);
    fail();
}

void check_has(const char *text, const char *part, const char *file, int line)
{
    if (strstr(text, part)) return;
    print_error("%s:%d: \"%s\" is not in:\n%s\n", file, line, part, text);
    fail();
}
