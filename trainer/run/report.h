/* report.h - output_dir/report.html: a run on one page that needs nothing else.
 *
 * Curves come from metrics.jsonl, which is the one record of a run; answers from answers.h; the
 * data's account from the dataset file; all else from the session. The page is replaced whole.
 */
#ifndef CRIA_RUN_REPORT_H
#define CRIA_RUN_REPORT_H

#include "run/session.h"

#define REPORT_FILE "report.html"

enum report_phase { REPORT_RUNNING, REPORT_DONE, REPORT_STOPPED, REPORT_FAILED };

struct report {
    const struct session *session;
    enum report_phase phase;
    const char *message; /* how it failed; NULL */
    double seconds;      /* this process has trained */
};

/* ERR_IO, ERR_DISK_FULL, ERR_MEMORY, ERR_FORMAT. */
MUST_CHECK enum status report_write(const struct report *r, struct err *e);

#endif
