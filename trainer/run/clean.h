/* clean.h - cria clean without a config: options as text, the data room does the rest. */
#ifndef CRIA_RUN_CLEAN_H
#define CRIA_RUN_CLEAN_H

#include "data/clean/clean.h"

struct clean_request {
    const char *files; /* comma-separated */
    const char *format, *out, *report;
    const char *steps;                         /* NULL: the default, HTML where there is some */
    const char *keep_language, *skip_language; /* each of these switches its step on; NULL: not */
    const char *against;                       /* comma-separated */
    const char *blocked;                       /* comma-separated; NULL: the usual ones */
    const char *tokenizer;
    int64_t max_length, ngram, threads;
    double similarity; /* of `near`; 0: not asked for */
    int skip_bad;
    clean_watcher *watch;
    void *context;
};

/* Fills *report as clean_files does (zero it; clean_request_free in any case). Errors as there, and
 * of the tokenizer and the evaluation files. */
struct clean_done {
    struct clean_report report;
    struct against *against;
};
MUST_CHECK enum status clean_request_run(const struct clean_request *r, struct clean_done *out,
                                         struct err *e);
void clean_request_free(struct clean_done *x);

#endif
