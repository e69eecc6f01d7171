/* fuzz.h - what the fuzzers share: hostile bytes as a file, and seeds.
 *
 * A fuzzer is one file, fuzz_NAME.c, with libFuzzer's LLVMFuzzerTestOneInput. Most parsers read
 * files, so the input becomes one, in a temporary folder that is gone at exit. What a parser
 * takes is then used as a run would use it, and where there is a way back (a config is written out
 * and read again), the two must agree: FUZZ_MUST stops with a message.
 *
 * Seeds are made by seeds.py; inputs that once broke something stay in found/NAME.
 */
#ifndef CRIA_TESTS_FUZZ_H
#define CRIA_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_PATH_MAX 128

/* The temporary folder, in memory where the system has such. */
const char *fuzz_dir(void);

/* "folder/name" into out. */
void fuzz_path(const char *name, char out[FUZZ_PATH_MAX]);

/* Makes that file, with these bytes. */
void fuzz_write(const char *name, const void *data, size_t size, char out[FUZZ_PATH_MAX]);

/* Copies a file of the repository (the fuzzers run in its root) into the folder. */
void fuzz_copy(const char *from, const char *name, char out[FUZZ_PATH_MAX]);

/* Every failure says something: a message without one is a finding. */
void fuzz_look_at(enum status s, const struct err *e);

#define FUZZ_MUST(condition)                                                      \
    do {                                                                          \
        if (condition) break;                                                     \
        fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
        abort();                                                                  \
    } while (0)

#endif
