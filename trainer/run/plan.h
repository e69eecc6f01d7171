/* plan.h - what a run will take, before it takes it.
 *
 *     session_prepare(&s, &config, SESSION_PLAN, watcher, &e)
 *     plan_make(&p, &s, &e)          bytes by name, steps; fills p.fits
 *     plan_measure(&p, &s, &e)       the ETA from a measured step, if there is a device and weights
 *     plan_advise(&p, &s, &e)        the largest batch that fits; if it does not fit, what would
 *     plan_json / plan_print
 *
 * Training makes the same plan from the same session and refuses what does not fit (plan_check), so
 * that a run that starts does not run out of memory later.
 */
#ifndef CRIA_RUN_PLAN_H
#define CRIA_RUN_PLAN_H

#include "base/buf.h"
#include "run/session.h"

#define PLAN_CHANGES_MAX 4

/* A change of the config with which the run fits; really planned. */
struct plan_change {
    char text[160]; /* "per_device_train_batch_size: 2, gradient_accumulation_steps: 8" */
    char cost[96];  /* what it costs: "the same numbers, about a third more time" */
    size_t total;   /* bytes */
};

struct plan {
    struct engine_memory arenas;
    size_t named[NUM_MEMORY_ITEMS];
    size_t total;             /* bytes: the process's peak, or what is used of the GPU's memory */
    size_t available;         /* bytes this process may have in all, or the GPU has */
    const char *limit;        /* what decides that */
    size_t host;              /* with a GPU: bytes of the process beside it; else 0 */
    size_t host_available;    /* with a GPU: bytes this process may have; else 0 */
    const char *host_limit;   /* what decides that */
    int fits;                 /* both: see plan_holds */
    int64_t tokens_per_epoch; /* -1: unknown, as steps and documents */
    int64_t steps, documents;
    double eta;            /* seconds of training; below 0: unknown */
    int64_t largest_batch; /* per_device_train_batch_size; 0: not even 1; -1: not looked for */
    struct plan_change changes[PLAN_CHANGES_MAX];
    int num_changes;          /* only where it does not fit */
    struct plan_change least; /* where nothing fits: the change that came nearest; total 0: none */
};

/* Whether there is room for so much, on the GPU (else in the process) and with a GPU beside it. */
int plan_holds(const struct plan *p, size_t total, size_t host);

/* Of a session that is prepared. Always works. */
void plan_make(struct plan *p, const struct session *s);

/* Runs part of a step on the device and fills p->eta; takes the session's memory and leaves it
 * taken. Nothing where it does not fit or device, weights or data are absent. ERR_MEMORY,
 * ERR_DEVICE, ERR_IO, ERR_FORMAT. */
MUST_CHECK enum status plan_measure(struct plan *p, struct session *s, struct err *e);

/* plan_advise.c: the largest batch; and the changes, cheapest first, where it does not fit. */
MUST_CHECK enum status plan_advise(struct plan *p, const struct session *s, struct err *e);

/* ERR_FIT, with the changes as the hint, unless p->fits. */
MUST_CHECK enum status plan_refuse(const struct plan *p, struct err *e);

/* All of this for a run about to start. ERR_FIT, and what planning returns. */
MUST_CHECK enum status plan_check(const struct session *s, struct err *e);

/* plan_print.c: {"arenas": {"run", "step", "scratch"}, "named": {...}, "total_bytes",
 * "tokens_per_epoch", "steps", "eta_s", ...} on one line; and for people. ERR_MEMORY, ERR_FORMAT.
 */
MUST_CHECK enum status plan_json(const struct plan *p, const struct session *s, struct buf *out,
                                 struct err *e);
MUST_CHECK enum status plan_print(const struct plan *p, const struct session *s, struct buf *out);

#endif
