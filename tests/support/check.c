#include "support/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"

void check_ok(enum status status, const struct err *e, const char *file, int line)
{
    char text[1500];
    if (!status) return;
    err_format(e, text, sizeof text);
    print_error("%s:%d: %s: %s\n", file, line, status_name(status), text);
    fail();
}

double check_distance(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

const char *check_shared(const char *what_is_skipped)
{
    const char *dir = getenv("CRIA_SHARED");
    if (dir && io_is_dir(dir)) return dir;
    fprintf(stderr, "skipped without the shared data: %s\n", what_is_skipped);
    return NULL;
}
