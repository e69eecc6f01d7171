/* doctor.h - is this machine fit to train on? Each thing that was looked at, what was found, and
 * what to do where it is not well. Measures for about a second; changes nothing.
 */
#ifndef CRIA_RUN_DOCTOR_H
#define CRIA_RUN_DOCTOR_H

#include "base/buf.h"

struct doctor_check {
    const char *name; /* "cpu", "blas", ... */
    int warning;      /* 0: well */
    char found[320];
    char advice[256]; /* empty: nothing to do */
};

#define DOCTOR_CHECKS_MAX 24

struct doctor {
    struct doctor_check checks[DOCTOR_CHECKS_MAX];
    int count;
};

/* `dir`: where output would go; it need not exist. */
void doctor_run(struct doctor *d, const char *dir);

/* {"checks": [{"name", "status": "ok" or "warning", "found", "advice"}, ...], "warnings": n} on one
 * line. ERR_MEMORY, ERR_FORMAT. */
MUST_CHECK enum status doctor_json(const struct doctor *d, struct buf *out, struct err *e);

#endif
