/* check.h - what several tests need: cmocka with its prelude, statuses with their messages, norms.
 */
#ifndef CRIA_TESTS_SUPPORT_CHECK_H
#define CRIA_TESTS_SUPPORT_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"

/* Fails the test with the error's text unless `call`, which fills `err`, returns OK. */
#define CHECK_OK(call, err) check_ok((call), (err), __FILE__, __LINE__)
void check_ok(enum status status, const struct err *e, const char *file, int line);

/* ||a - b|| / ||b|| */
double check_distance(const float *a, const float *b, size_t n);

/* The folder of the shared data, or NULL after saying on stderr what is skipped. */
const char *check_shared(const char *what_is_skipped);

#define CHECK_SKIPPED 77 /* exit code that CTest counts as skipped */

#endif
