/* preflight.h - what is odd about model and data together, found before the first step.
 *
 * None of it stops a run: each is a finding, in words, with the documents it was seen in and what
 * to do. What must stop one (a template's token that the tokenizer lacks) has done so by then.
 */
#ifndef CRIA_RUN_PREFLIGHT_H
#define CRIA_RUN_PREFLIGHT_H

#include <stdint.h>

#include "base/status.h"

struct session;

/* name, what is wrong */
#define PREFLIGHT_TABLE(X)                                                                       \
    X(nothing_to_learn, "documents have nothing to learn within max_length and are left out")    \
    X(doubled_bos, "documents start with two BOS tokens")                                        \
    X(unlabelled_end, "documents train a reply without its end token: it would never stop")      \
    X(end_cut_off, "documents lose the end of a reply to max_length: it is learned without one") \
    X(untrained_token, "documents hold a special token that the base model has never learned")

enum preflight_kind {
#define X(name, text) PREFLIGHT_##name,
    PREFLIGHT_TABLE(X)
#undef X
        NUM_PREFLIGHT_KINDS
};

#define PREFLIGHT_EXAMPLES 3
#define PREFLIGHT_FINDINGS_MAX 16

struct preflight_finding {
    enum preflight_kind kind;
    int64_t documents; /* how many; the first of them are in `where` */
    char what[256];    /* "3 documents ..." */
    char where[400];   /* "alpaca.json, record 17; ..." */
    char hint[256];    /* what to do */
};

struct preflight {
    struct preflight_finding *findings; /* heap */
    int count;
    int64_t checked; /* documents looked at; 0: the data is absent */
};

const char *preflight_name(enum preflight_kind k);

/* Reads every document the session will train on, and of the weights the rows of the special tokens
 * in them. ERR_IO, ERR_FORMAT, ERR_MEMORY: files that cannot be read. */
MUST_CHECK enum status preflight_run(struct preflight *p, struct session *s, struct err *e);
void preflight_free(struct preflight *p); /* zeroed is fine */

#endif
