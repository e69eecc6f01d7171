#include "run/align.h"

#include "base/log.h"
#include "base/mem.h"

#define SAVE_SECONDS 30.0

enum status align_init(struct align *a, const struct preference_options *options,
                       const struct loader_limits *most, struct err *e)
{
    *a = (struct align){0};
    a->records = mem_calloc((size_t)most->max_pairs + 1, sizeof *a->records);
    a->dlogp = mem_calloc((size_t)most->max_supervised + 1, sizeof *a->dlogp);
    if (!a->records || !a->dlogp) return err_set(e, ERR_MEMORY, "no memory for the preferences");
    return preference_init(&a->preference, options, most->max_pairs, e);
}

void align_free(struct align *a)
{
    preference_free(&a->preference);
    mem_free(a->records);
    mem_free(a->dlogp);
    *a = (struct align){0};
}

struct preference_step align_step(const struct align *a, const struct loader_step *plan)
{
    struct preference_step s = {.records = (double)plan->pairs};
    if (a->preference.needs.nll != NLL_NONE) s.nll_tokens = (double)plan->chosen_tokens;
    if (a->preference.needs.nll == NLL_PROMPT_AND_CHOSEN)
        s.nll_tokens += (double)plan->prompt_tokens;
    return s;
}

/* --- the reference --- */

static struct preference_span span(struct batch_span s)
{
    return (struct preference_span){s.first, s.count};
}

static void take_records(struct align *a, const struct batch *b)
{
    for (int32_t i = 0; i < b->num_pairs; i++) {
        const struct batch_pair *p = &b->pairs[i];
        a->records[i] = (struct preference_record){.prompt = span(p->prompt),
                                                   .chosen = span(p->chosen),
                                                   .rejected = span(p->rejected),
                                                   .mismatch = span(p->mismatch)};
    }
}

static struct preference_logp parts(double all, double shared)
{
    return (struct preference_logp){shared, all - shared};
}

/* By way of the sidecar's form in any case, so that both ways end in the same bits. */
static void put_logps(struct preference_record *r, const struct reference_logps *l)
{
    r->ref_chosen = parts(l->chosen, l->chosen_shared);
    r->ref_rejected = parts(l->rejected, l->rejected_shared);
    r->ref_mismatch = parts(l->mismatch, l->mismatch);
}

static struct reference_logps logps_of(const struct preference_record *r, int64_t partner)
{
    const struct preference_logp *w = &r->ref_chosen, *l = &r->ref_rejected;
    return (struct reference_logps){.chosen = w->shared + w->tail,
                                    .rejected = l->shared + l->tail,
                                    .chosen_shared = w->shared,
                                    .rejected_shared = l->shared,
                                    .mismatch = r->ref_mismatch.shared + r->ref_mismatch.tail,
                                    .partner = partner};
}

/* The records with the reference's numbers, by a pass. */
static enum status run_reference(struct align *a, struct engine *g, const struct batch *b,
                                 struct err *e)
{
    TRY(engine_reference(g, b, e));
    preference_reference(g->host_floats, a->records, b->num_pairs);
    for (int32_t i = 0; i < b->num_pairs; i++) {
        struct reference_logps l = logps_of(&a->records[i], b->pairs[i].partner);
        put_logps(&a->records[i], &l);
    }
    return OK;
}

static enum status recall_reference(struct align *a, const struct batch *b,
                                    const struct reference *known, struct err *e)
{
    for (int32_t i = 0; i < b->num_pairs; i++) {
        const struct batch_pair *p = &b->pairs[i];
        const struct reference_logps *l = reference_get(known, p->document, p->partner);
        if (!l)
            return err_set(e, ERR_DATA,
                           "the reference's log-probabilities of record %lld are "
                           "missing",
                           (long long)p->document);
        put_logps(&a->records[i], l);
    }
    return OK;
}

static enum status find_records(struct align *a, struct engine *g, const struct batch *b,
                                const struct reference *known, struct err *e)
{
    take_records(a, b);
    if (!a->preference.needs.reference || (!known && !g->options.reference)) return OK;
    return known ? recall_reference(a, b, known, e) : run_reference(a, g, b, e);
}

static void take_input(struct align *a, const struct batch *b, const struct engine_scores *s)
{
    a->input = (struct preference_input){.S = b->S,
                                         .logp = s->logp,
                                         .sum_p2 = s->sum_p2,
                                         .mean_logit = s->mean_logit,
                                         .entropy = s->entropy,
                                         .hit = s->hit,
                                         .records = a->records,
                                         .num_records = b->num_pairs};
}

/* --- micro-batches ---
 * KTO's mismatched replies need no gradient, and take part in backward with one of zero: as they
 * share their prompt's rows, a pass of their own would compute the prompt a second time, which
 * costs more as long as the prompt is longer than two replies. */

enum status align_train(struct align *a, struct engine *g, const struct batch *b,
                        const struct align_train *t, struct preference_sums *sums, struct err *e)
{
    struct engine_scores scores;
    struct preference_step step = align_step(a, t->plan);
    TRY(find_records(a, g, b, t->known, e));
    TRY(engine_score(g, b, 1, t->seed, t->step, &scores, e));
    take_input(a, b, &scores);
    preference_run(&a->preference, &step, &a->input, a->dlogp, sums);
    return engine_backward(g, b, a->dlogp, e);
}

enum status align_score(struct align *a, struct engine *g, const struct batch *b,
                        const struct reference *known, struct preference_sums *sums, struct err *e)
{
    struct engine_scores scores;
    TRY(find_records(a, g, b, known, e));
    TRY(engine_score(g, b, 0, 0, 0, &scores, e));
    take_input(a, b, &scores);
    preference_run(&a->preference, NULL, &a->input, NULL, sums);
    return OK;
}

int64_t align_reply_tokens(const struct align *a)
{
    int64_t n = 0;
    for (int32_t i = 0; i < a->input.num_records; i++)
        n += a->records[i].chosen.count + a->records[i].rejected.count;
    return n;
}

/* --- once for all --- */

static int64_t count_missing(const struct reference *known, const struct batch *b)
{
    int64_t n = 0;
    for (int32_t i = 0; i < b->num_pairs; i++)
        n += !reference_get(known, b->pairs[i].document, b->pairs[i].partner);
    return n;
}

static enum status fill_batch(struct align *a, struct reference *known, struct engine *g,
                              const struct batch *b, struct err *e)
{
    take_records(a, b);
    TRY(run_reference(a, g, b, e));
    for (int32_t i = 0; i < b->num_pairs; i++) {
        struct reference_logps l = logps_of(&a->records[i], b->pairs[i].partner);
        TRY(reference_set(known, b->pairs[i].document, &l, e));
    }
    return OK;
}

enum status align_fill(struct align *a, struct reference *known, struct engine *g,
                       struct loader *loader, int64_t steps, const struct align_watcher *watcher,
                       int64_t *computed, struct err *e)
{
    const struct loader_report *r = loader_report(loader);
    int64_t done = 0, missing;
    double saved = clock_seconds();
    *computed = 0;
    if (steps > r->steps_per_epoch) steps = r->steps_per_epoch;
    for (int64_t k = 0; k < steps; k++) {
        struct loader_step plan;
        TRY(loader_step(loader, k, &plan, e));
        for (int32_t m = 0; m < plan.micro_batches; m++) {
            struct batch b;
            TRY(loader_batch(loader, k, m, &b, e));
            missing = count_missing(known, &b);
            if (missing) TRY(fill_batch(a, known, g, &b, e));
            *computed += missing;
            done += b.num_pairs;
            if (watcher && watcher->told && missing)
                watcher->told(watcher->context, done, r->documents);
            if (clock_seconds() - saved < SAVE_SECONDS) continue;
            TRY(reference_save(known, e));
            saved = clock_seconds();
        }
    }
    return reference_save(known, e);
}
