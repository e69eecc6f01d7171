/* bad.h - tables of mistakes, run through the real binary.
 *
 * Each row makes a scene (support/scene.h), runs a command with the scene's file `stdin`, if there
 * is one, as input, and wants an exit code, a message that says what and where, and a hint that
 * says what to do. No row may crash, hang, print results, spoil a file that was there or leave a
 * half-made one. With CRIA_SHOW_ERRORS set, all is printed.
 */
#ifndef CRIA_TESTS_SUPPORT_BAD_H
#define CRIA_TESTS_SUPPORT_BAD_H

#include "support/check.h"

enum may { ADDS = 1, PRINTS = 2 }; /* new whole files, results until then */

struct bad {
    const char *name; /* "section: what is wrong" */
    const char *steps, *line;
    int exit_code;
    const char *message, *hint; /* parts of stderr, in this order */
    unsigned may;               /* enum may, or-ed */
};

/* Fails the test when a row whose name begins with `section` does not hold. */
void bad_run_section(const struct bad *table, size_t n, const char *section);

/* Every row belongs to a section and wants something. */
void bad_check_table(const struct bad *table, size_t n);

#endif
