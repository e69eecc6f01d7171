#include "run/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/size.h"

#define PAGE ((size_t)4096)
#define GPU_PAGE ((size_t)2 << 20)

static size_t arenas_total(const struct engine_memory *m, size_t page)
{
    return size_align(m->run, page) + size_align(m->step, page) + size_align(m->scratch, page);
}

int plan_holds(const struct plan *p, size_t total, size_t host)
{
    return total <= p->available && host <= p->host_available;
}

/* The arenas lie on the GPU, the rest in the process, which has limits of its own. */
static void plan_on_gpu(struct plan *p, const struct session *s)
{
    p->host = size_max(memory_sum(&s->memory) + p->arenas.host, s->memory.transient);
    p->host_available = p->available;
    p->host_limit = p->limit;
    p->named[MEMORY_context] = s->device_used;
    p->named[MEMORY_graphs] = engine_graph_bytes(&s->engine);
    p->total = s->device_used + p->named[MEMORY_graphs] + arenas_total(&p->arenas, GPU_PAGE);
    p->available = s->device_total;
    p->limit = "the GPU's memory";
}

void plan_make(struct plan *p, const struct session *s)
{
    *p = (struct plan){.arenas = s->engine.memory,
                       .tokens_per_epoch = -1,
                       .steps = s->total_steps > 0 ? s->total_steps : -1,
                       .documents = -1,
                       .eta = -1,
                       .largest_batch = -1};
    for (int i = 0; i < NUM_MEMORY_ITEMS; i++) p->named[i] = s->memory.item[i];
    p->named[MEMORY_pinned] = p->arenas.host;
    p->total = memory_sum(&s->memory) + p->arenas.host + arenas_total(&p->arenas, PAGE);
    if (p->total < s->memory.transient) {
        p->named[MEMORY_starting] += s->memory.transient - p->total;
        p->total = s->memory.transient;
    }
    if (s->train_loader) {
        p->tokens_per_epoch = loader_report(s->train_loader)->tokens;
        p->documents = loader_report(s->train_loader)->documents;
    }
    p->available = memory_available(&p->limit) + memory_resident();
    if (s->device_total) plan_on_gpu(p, s);
    p->fits = plan_holds(p, p->total, p->host);
}

/* --- time --- */

#define MEASURE_SECONDS 3.0 /* a micro-batch that would take longer is cut to about this */

/* The first rows of a batch: whole documents, the last one cut. */
static struct batch cut_batch(const struct batch *b, int32_t rows, struct segment *last)
{
    struct batch cut = *b;
    int32_t at = 0, n = 0;
    if (rows >= b->N) return cut;
    while (at < b->num_segments && b->segments[at].start + b->segments[at].length <= rows) at++;
    if (!at) { /* not even the first document */
        *last = b->segments[0];
        last->length = rows;
        cut.segments = last;
        at = 1;
    } else {
        rows = b->segments[at - 1].start + b->segments[at - 1].length;
    }
    while (n < b->S && b->rows[n] < rows) n++;
    cut.N = rows;
    cut.num_segments = at;
    cut.S = n;
    cut.tail = (struct batch_tail){0};
    return cut;
}

/* One micro-batch as a step would run it; the loss of preferences takes no time. */
static enum status run_batch(struct session *s, const struct batch *b, struct err *e)
{
    struct cross_entropy_sums sums = {0};
    struct engine_scores scores;
    if (!s->aligns) return engine_train(&s->engine, b, (uint64_t)s->config->seed, 0, &sums, e);
    TRY(engine_score(&s->engine, b, 1, (uint64_t)s->config->seed, 0, &scores, e));
    return engine_backward(&s->engine, b, scores.logp, e);
}

static double batch_flops(const struct session *s, const struct batch *b)
{
    struct engine_work w = engine_work(&s->engine, b);
    return engine_train_flops(&s->engine, &w);
}

/* Seconds a FLOP takes in a micro-batch; the second of two runs counts, unless the first was long
 * enough. */
static enum status time_batch(struct session *s, const struct batch *b, double *out, struct err *e)
{
    double flops = batch_flops(s, b);
    for (int run = 0; run < 2; run++) {
        double began = clock_seconds(), took;
        TRY(run_batch(s, b, e));
        took = clock_seconds() - began;
        *out = took / flops;
        if (took > MEASURE_SECONDS / 2) break;
    }
    return OK;
}

/* Of a pass of the reference over a micro-batch; 0: there is none. */
static enum status time_reference(struct session *s, const struct batch *b, double *out,
                                  struct err *e)
{
    *out = 0;
    if (!s->engine.options.reference) return OK;
    double began = clock_seconds();
    TRY(engine_reference(&s->engine, b, e));
    *out = (clock_seconds() - began) / batch_flops(s, b);
    return OK;
}

/* Rows of an epoch. Pairs that share a prompt have fewer than their texts: as in the batch. */
static double epoch_rows(const struct session *s, const struct batch *b)
{
    const struct loader_report *r = loader_report(s->train_loader);
    if (!s->aligns) return (double)(r->tokens - r->documents);
    return (double)r->tokens * b->N / (double)b->num_tokens;
}

/* Rows see as many rows as in the batch. */
static struct engine_work epoch_work(const struct session *s, const struct batch *b)
{
    struct engine_work w = engine_work(&s->engine, b);
    double rows = epoch_rows(s, b);
    return (struct engine_work){rows, (double)loader_report(s->train_loader)->supervised,
                                w.pairs * rows / w.rows};
}

/* How many epochs' worth of micro-batches the reference runs over. */
static double reference_epochs(const struct session *s, double epochs)
{
    return s->config->precompute_ref_log_probs ? fmin(epochs, 1) : epochs;
}

/* The optimiser's part of a step: it has nothing to do with the tokens. */
static enum status time_update(struct session *s, double *out, struct err *e)
{
    double norm, began = clock_seconds();
    TRY(engine_update(&s->engine, &s->adamw, 0, 1, 1, &norm, e));
    *out = clock_seconds() - began;
    return OK;
}

enum status plan_measure(struct plan *p, struct session *s, struct err *e)
{
    const struct loader_report *r = s->train_loader ? loader_report(s->train_loader) : NULL;
    struct batch b;
    struct segment last;
    double per_flop, reference, update;
    if (!p->fits || s->absent.weights || !r || s->gemm_peak <= 0) return OK;
    TRY(engine_allocate(&s->engine,
                        e)); /* the weights stay zero: a product of zeros takes as long */
    TRY(loader_batch(s->train_loader, 0, 0, &b, e));
    double most = MEASURE_SECONDS * s->gemm_peak;
    struct engine_work epoch = epoch_work(s, &b);
    double share = most / batch_flops(s, &b);
    int32_t rows = share < 1 ? (int32_t)(share * b.N) : b.N;
    b = cut_batch(&b, rows > 16 ? rows : 16, &last);
    TRY(time_batch(s, &b, &per_flop, e));
    TRY(time_reference(s, &b, &reference, e));
    TRY(time_update(s, &update, e));
    double epochs = (double)s->total_steps / (double)s->steps_per_epoch;
    double seconds = per_flop * epochs + reference * reference_epochs(s, epochs);
    p->eta = seconds * engine_train_flops(&s->engine, &epoch) + update * (double)s->total_steps;
    return OK;
}

/* --- refusing --- */

enum status plan_refuse(const struct plan *p, struct err *e)
{
    char text[sizeof e->hint] = "";
    size_t used = 0;
    if (p->fits) return OK;
    if (p->total > p->available)
        err_set(e, ERR_FIT, "the run needs %.2f GB, and %s leaves %.2f GB", (double)p->total / 1e9,
                p->limit, (double)p->available / 1e9);
    else
        err_set(e, ERR_FIT, "beside the GPU the run needs %.2f GB, and %s leaves %.2f GB",
                (double)p->host / 1e9, p->host_limit, (double)p->host_available / 1e9);
    for (int i = 0; i < p->num_changes && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s (%.2f GB)",
                                 i ? "; or " : "would fit: ", p->changes[i].text,
                                 (double)p->changes[i].total / 1e9);
    if (p->num_changes) return err_hint(e, "%s", text);
    if (!p->least.total) return err_hint(e, "no change of the config would make it fit");
    return err_hint(e, "no change of the config would make it fit: even %s takes %.2f GB",
                    p->least.text, (double)p->least.total / 1e9);
}

enum status plan_check(const struct session *s, struct err *e)
{
    struct plan p;
    plan_make(&p, s);
    if (p.fits) return OK;
    TRY(plan_advise(&p, s, e));
    return plan_refuse(&p, e);
}
