/* run_line.h - the cria binary ($CRIA_BIN) as people run it: words in, an exit code and text out.
 */
#ifndef CRIA_TESTS_SUPPORT_RUN_LINE_H
#define CRIA_TESTS_SUPPORT_RUN_LINE_H

#include <stddef.h>

#define RUN_TEXT_MAX 65536

struct run_result {
    int exit_code; /* -1: ended by a signal */
    int signal;    /* 0: none */
    int timed_out; /* it was killed: it had hung */
    double seconds;
    char out[RUN_TEXT_MAX], err[RUN_TEXT_MAX]; /* stdout and stderr, cut; terminated */
};

/* Runs "cria LINE" in the folder `dir` (NULL: here) and waits for `seconds` at most. The line is
 * split at spaces; single quotes keep spaces together. Standard input is the folder's file `stdin`,
 * if there is one, else empty. Fails the test only when nothing could be run. */
void run_line(struct run_result *r, const char *dir, const char *line, int seconds);

#endif
