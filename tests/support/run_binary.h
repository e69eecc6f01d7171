/* run_binary.h - programs run as a user runs them: arguments, stdin, what came out, how it ended.
 *
 *     struct ran r = run_cria(NULL, "tokenize", "--tokenizer", dir, NULL);
 *     assert_int_equal(r.code, 0);
 *     assert_string_equal(r.out, "1 2\n");
 *     ran_free(&r);
 *
 * $CRIA_BIN names the binary. Everything asserts: what cannot be run fails the test.
 */
#ifndef CRIA_TESTS_SUPPORT_RUN_BINARY_H
#define CRIA_TESTS_SUPPORT_RUN_BINARY_H

#include <stdio.h>
#include <sys/types.h>

#include "support/check.h"

struct ran {
    int code;        /* of the exit; -1: ended by a signal */
    int signal;      /* that one, or 0 */
    char *out, *err; /* heap, terminated */
    size_t out_len, err_len;
};

void ran_free(struct ran *r);

/* A program under way. */
struct running {
    pid_t pid;
    FILE *out, *err; /* temporary files that it writes */
};

/* argv[0] is a path. `input`: text on its stdin (NULL: empty). `out_fd`: its stdout, -1: kept. */
struct running run_start(const char *const *argv, const char *input, int out_fd);
struct ran run_wait(struct running *p);

/* cria with these arguments (up to NULL). */
struct running run_start_cria(const char *input, const char *first, ...) __attribute__((sentinel));
struct ran run_cria(const char *input, const char *first, ...) __attribute__((sentinel));

/* Fails the test, showing stderr, unless the program exited with `code`. */
#define CHECK_EXIT(r, wanted) ran_check((r), (wanted), __FILE__, __LINE__)
void ran_check(const struct ran *r, int wanted, const char *file, int line);

/* Fails the test unless `text` has `part` in it. */
#define CHECK_HAS(text, part) check_has((text), (part), __FILE__, __LINE__)
void check_has(const char *text, const char *part, const char *file, int line);

#endif
