#include "cli/pager.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char fallback[] =
    "if command -v less >/dev/null; then exec less -R; else exec cat; fi";

int pager_wanted(void)
{
    const char *pager = getenv("PAGER"), *term = getenv("TERM");
    if (!isatty(STDOUT_FILENO) || (term && !strcmp(term, "dumb"))) return 0;
    return !pager || (pager[0] && strcmp(pager, "cat") != 0);
}

enum status pager_skip(const struct buf *text, struct err *e)
{
    if (fwrite(text->data ? text->data : "", 1, text->len, stdout) != text->len || fflush(stdout))
        return err_set(e, ERR_IO, "stdout: %s", strerror(errno));
    return OK;
}

/* The pager's process, which reads what is written to *to; below 0: there is none. */
static pid_t start(const char *command, int *to)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return -1;
    pid_t child = fork();
    if (!child) {
        if (dup2(ends[0], STDIN_FILENO) >= 0) execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    if (child < 0)
        close(ends[1]);
    else
        *to = ends[1];
    return child;
}

/* All of it, or until nobody reads any more. */
static void feed(int to, const struct buf *text)
{
    for (size_t at = 0; at < text->len;) {
        ssize_t n = write(to, text->data + at, text->len - at);
        if (n < 0 && errno != EINTR) return;
        if (n > 0) at += (size_t)n;
    }
}

enum status pager_show(const struct buf *text, struct err *e)
{
    const char *pager = getenv("PAGER");
    struct sigaction ignore = {.sa_handler = SIG_IGN}, pipe_was, interrupt_was;
    int to;
    if (!pager_wanted()) return pager_skip(text, e);
    setenv("LESS", "FRX", 0);
    fflush(stdout);
    pid_t child = start(pager ? pager : fallback, &to);
    if (child < 0) return pager_skip(text, e);
    /* Once it runs: Ctrl-C is the pager's to answer, and leaving it early breaks the pipe. */
    sigaction(SIGPIPE, &ignore, &pipe_was);
    sigaction(SIGINT, &ignore, &interrupt_was);
    feed(to, text);
    close(to);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
    sigaction(SIGPIPE, &pipe_was, NULL);
    sigaction(SIGINT, &interrupt_was, NULL);
    return OK;
}
