/* evaluate.h - how well a model knows a dataset: loss, and whether its own answers are the expected
 * ones; in all and for each source file.
 *
 * Loss is the mean of -log p over the trained targets, weighted by their weights, whatever
 * loss_reduction says; perplexity is e to that. For answers the last reply of each document is
 * generated from all that stands before it, greedily, and held against the dataset's:
 *
 *     exact    both texts are equal once white space around them is stripped
 *     prefix   the generated text begins with the expected one (a model that never learned to stop)
 *
 * Preferences have the loss, rewards and accuracies of the objective (objective/preference.h)
 * instead, and the answer expected is the chosen one.
 *
 * Generation ends as soon as both are decided, so a wrong answer costs no more than its first wrong
 * character.
 *
 *     evaluation_init(&v, store, &e)
 *     evaluate_loss(&v, &engine, loader, watcher, &e)
 *     evaluate_answers(&v, &inference, documents, watcher, &e)
 *     ... v.total, v.sources[i] ...
 *     evaluation_free(&v)
 */
#ifndef CRIA_RUN_EVALUATE_H
#define CRIA_RUN_EVALUATE_H

#include "data/loader/loader.h"
#include "data/store/store.h"
#include "run/align.h"
#include "run/inference.h"

struct evaluate_score {
    const char *path;            /* of the source, lives in the store; NULL: all together */
    int64_t documents;           /* with something trained */
    int64_t num_tokens;          /* targets with a weight */
    double loss, weight, hits;   /* sums over targets: w * -log p, w, w where it was the argmax */
    int64_t asked;               /* documents whose last reply was generated */
    int64_t exact, prefix;       /* of these */
    int64_t too_long, no_answer; /* not asked: prompt over the context; no reply to hold against */
    struct preference_sums preferences;
};

struct evaluation {
    struct evaluate_score total, *sources; /* sources: heap, [num_sources] */
    size_t num_sources;
    struct store *store; /* the caller's */
    int32_t *source_of;  /* heap, [documents of the store]; NULL with one source */
    int has_loss, has_preferences, has_match; /* what was measured */
};

/* Who wants to see it go on. `progress` may be NULL. */
struct evaluate_watcher {
    void *context;
    void (*progress)(void *context, const char *what, int64_t done, int64_t all);
};

/* ERR_MEMORY, ERR_IO, ERR_FORMAT. After a failure evaluation_free is still due. */
MUST_CHECK enum status evaluation_init(struct evaluation *v, struct store *store, struct err *e);
void evaluation_free(struct evaluation *v); /* zeroed is fine */

/* Adds the loss over all documents of `loader`, which reads v->store. `watcher` may be NULL.
 * ERR_IO, ERR_FORMAT, ERR_SHAPE, ERR_DEVICE; ERR_NUMERIC when it is not finite. */
MUST_CHECK enum status evaluate_loss(struct evaluation *v, struct engine *g, struct loader *loader,
                                     const struct evaluate_watcher *watcher, struct err *e);

/* The same for preferences, through `a`. Errors also as align_score. */
MUST_CHECK enum status evaluate_preferences(struct evaluation *v, struct engine *g, struct align *a,
                                            struct loader *loader,
                                            const struct evaluate_watcher *watcher, struct err *e);

/* Adds the answers to these documents of v->store. ERR_DATA: none has a reply of its own to ask
 * for; ERR_IO, ERR_FORMAT, ERR_MEMORY, ERR_DEVICE, ERR_NUMERIC. */
MUST_CHECK enum status evaluate_answers(struct evaluation *v, struct inference *f,
                                        struct loader_subset documents,
                                        const struct evaluate_watcher *watcher, struct err *e);

double evaluate_mean_loss(const struct evaluate_score *s); /* NaN when nothing was measured */
double evaluate_accuracy(const struct evaluate_score *s);  /* likewise */
double evaluate_share(int64_t matched, int64_t asked);     /* likewise */

/* {"loss", "perplexity" (texts) or "rewards/chosen", ... (preferences), "num_tokens", "documents",
 * "exact_match"?, "prefix_match"?, "asked"?, "sources": [{"path", ...}]}; what could not be
 * measured is null. The caller json_decref's *out. ERR_MEMORY. */
MUST_CHECK enum status evaluation_json(const struct evaluation *v, json_t **out, struct err *e);

#endif
