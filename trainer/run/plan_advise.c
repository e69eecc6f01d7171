/* What fits: by planning it. A variant of the session, with another batch size, length or method,
 * is laid out in full but for its memory; the rest of the process stays as measured. */
#include <stdio.h>
#include <string.h>

#include "run/plan.h"

/* What a run would take; where it cannot be laid out at all, more than there is. */
struct need {
    size_t total, host;
};

static enum status need_with(const struct session *s, const struct config *c, struct need *out,
                             struct err *e)
{
    struct session v;
    struct plan p;
    struct err ignored = {0};
    enum status status = session_open_variant(&v, s, c, &ignored);
    *out = (struct need){SIZE_MAX, SIZE_MAX};
    if (status == ERR_MEMORY) *e = ignored;
    if (!status) {
        plan_make(&p, &v);
        *out = (struct need){p.total, p.host};
    }
    session_close_variant(&v);
    return status == ERR_MEMORY ? status : OK;
}

static int holds(const struct plan *p, const struct need *n)
{
    return plan_holds(p, n->total, n->host);
}

/* Mismatched replies (kto) are made of the others in a micro-batch: one alone has none. */
static int64_t smallest_batch(const struct session *s)
{
    return s->aligns && preference_needs(&s->preferences).mismatch ? 2 : 1;
}

/* The largest batch size up to `most` with which `c` fits; 0: none. *need: what it takes. */
static enum status largest_batch(const struct plan *p, const struct session *s, struct config c,
                                 int64_t most, int64_t *out, struct need *need, struct err *e)
{
    int64_t first = smallest_batch(s), fits = first - 1, fails = most + 1;
    for (int64_t size = first; fits + 1 < fails;) {
        struct need n;
        c.per_device_train_batch_size = size;
        TRY(need_with(s, &c, &n, e));
        if (holds(p, &n)) {
            fits = size;
            *need = n;
        } else {
            fails = size;
        }
        size = fails > most ? (size * 2 < most ? size * 2 : most) : fits + (fails - fits) / 2;
    }
    *out = fits < first ? 0 : fits;
    return OK;
}

static int64_t most_units(const struct session *s)
{
    return s->train_loader ? loader_report(s->train_loader)->units : 1 << 12;
}

/* --- changes --- */

enum change_flags { BATCH = 1, CHECKPOINT = 2, LENGTH = 4, LORA = 8, MOMENTS = 16 };

/* Cheapest first: what leaves the numbers alone and costs nothing, then time, then what changes the
 * numbers a little (MOMENTS: of 8 bits), then the run. Each row is one proposal. */
static const unsigned proposals[] = {
    BATCH,
    CHECKPOINT,
    CHECKPOINT | BATCH,
    MOMENTS,
    MOMENTS | BATCH,
    MOMENTS | CHECKPOINT,
    MOMENTS | CHECKPOINT | BATCH,
    MOMENTS | CHECKPOINT | BATCH | LENGTH,
    LORA,
    LORA | BATCH,
    LORA | CHECKPOINT | BATCH,
    LORA | CHECKPOINT | BATCH | LENGTH,
};

#define SHORTEST 128 /* tokens: no max_length below this is proposed */

/* Micro-batches of `size` make a step of as many documents (or a few more) as before. */
static int64_t accumulation(const struct config *c, int64_t size)
{
    int64_t in_step = c->per_device_train_batch_size * c->gradient_accumulation_steps;
    return (in_step + size - 1) / size;
}

/* Whether some choice of blocks can take less than all of them as configured. */
static int can_recompute(const struct session *s)
{
    const struct kernels *k = s->engine.device.k;
    switch ((enum config_gradient_checkpointing)s->config->gradient_checkpointing) {
    case CONFIG_CHECKPOINT_NONE:
    case CONFIG_CHECKPOINT_SELECTIVE: return 1;
    case CONFIG_CHECKPOINT_FULL: return k->memory && k->copy_out;
    case CONFIG_CHECKPOINT_OFFLOAD:
    case CONFIG_CHECKPOINT_AUTO: break;
    }
    return 0;
}

/* Whether `flags` can change anything here. */
static int applies(const struct session *s, unsigned flags)
{
    const struct config *c = s->config;
    if (flags & BATCH && c->per_device_train_batch_size <= smallest_batch(s)) return 0;
    if (flags & CHECKPOINT && !can_recompute(s)) return 0;
    if (flags & LORA && c->finetuning == CONFIG_LORA) return 0;
    if (flags & MOMENTS && (c->optim == CONFIG_OPTIM_ADAMW_8BIT || c->finetuning == CONFIG_LORA))
        return 0; /* an adapter's are small */
    return !(flags & LENGTH) || c->max_length > SHORTEST;
}

/* What is left of a proposal where some of it cannot change anything. */
static unsigned reduce(const struct session *s, unsigned flags)
{
    for (unsigned one = BATCH; one <= MOMENTS; one <<= 1)
        if (flags & one && !applies(s, one)) flags &= ~one;
    return flags;
}

static enum status try_batch(const struct plan *p, const struct session *s, struct config *c,
                             struct need *need, struct err *e)
{
    int64_t size, least = smallest_batch(s);
    TRY(largest_batch(p, s, *c, c->per_device_train_batch_size - 1, &size, need, e));
    c->gradient_accumulation_steps = accumulation(c, size ? size : least);
    c->per_device_train_batch_size = size ? size : least;
    return size ? OK : need_with(s, c, need, e);
}

/* Halves max_length until it fits. */
static enum status try_length(const struct plan *p, const struct session *s, struct config *c,
                              int with_batch, struct need *need, struct err *e)
{
    if (with_batch) {
        c->gradient_accumulation_steps = accumulation(c, smallest_batch(s));
        c->per_device_train_batch_size = smallest_batch(s);
    }
    while (!holds(p, need) && c->max_length / 2 >= SHORTEST) {
        c->max_length /= 2;
        TRY(need_with(s, c, need, e));
    }
    return OK;
}

static void describe(struct plan_change *out, const struct config *now, const struct config *c,
                     size_t total)
{
    struct buf text;
    buf_init(&text, sizeof out->text - 1);
    int failed = 0;
    *out = (struct plan_change){.total = total};
    if (c->finetuning != now->finetuning) failed |= buf_puts(&text, "finetuning: lora") != OK;
    if (c->optim != now->optim)
        failed |= buf_printf(&text, "%soptim: adamw_8bit", text.len ? ", " : "") != OK;
    if (c->gradient_checkpointing != now->gradient_checkpointing)
        failed |= buf_printf(&text, "%sgradient_checkpointing: auto", text.len ? ", " : "") != OK;
    if (c->per_device_train_batch_size != now->per_device_train_batch_size)
        failed |= buf_printf(&text,
                             "%sper_device_train_batch_size: %lld, gradient_accumulation_steps: "
                             "%lld",
                             text.len ? ", " : "", (long long)c->per_device_train_batch_size,
                             (long long)c->gradient_accumulation_steps) != OK;
    if (c->max_length != now->max_length)
        failed |= buf_printf(&text, "%smax_length: %lld", text.len ? ", " : "",
                             (long long)c->max_length) != OK;
    if (!failed) snprintf(out->text, sizeof out->text, "%s", text.data);
    snprintf(out->cost, sizeof out->cost, "%s",
             c->finetuning != now->finetuning   ? "trains adapters, not the weights"
             : c->max_length != now->max_length ? "longer documents are cut"
             : c->optim != now->optim           ? "moments in 8 bits: nearly the same curve"
             : c->gradient_checkpointing != now->gradient_checkpointing
                 ? "the same numbers, at most half more time"
                 : "the same numbers, in smaller pieces");
    buf_free(&text);
}

static enum status propose(struct plan *p, const struct session *s, unsigned flags, struct err *e)
{
    struct config c = *s->config;
    struct need need = {SIZE_MAX, SIZE_MAX};
    if (flags & CHECKPOINT) c.gradient_checkpointing = CONFIG_CHECKPOINT_AUTO;
    if (flags & LORA) c.finetuning = CONFIG_LORA;
    if (flags & MOMENTS) c.optim = CONFIG_OPTIM_ADAMW_8BIT;
    if (!(flags & (BATCH | LENGTH))) TRY(need_with(s, &c, &need, e));
    if (flags & BATCH && !(flags & LENGTH)) TRY(try_batch(p, s, &c, &need, e));
    if (flags & LENGTH) TRY(try_length(p, s, &c, flags & BATCH, &need, e));
    struct plan_change change;
    describe(&change, s->config, &c, need.total);
    if (holds(p, &need))
        p->changes[p->num_changes++] = change;
    else if (!p->least.total || need.total < p->least.total)
        p->least = change;
    return OK;
}

/* A proposal that holds all of one that fits already only costs more. */
static int is_covered(const unsigned *taken, int n, unsigned flags)
{
    for (int i = 0; i < n; i++)
        if ((taken[i] & flags) == taken[i]) return 1;
    return 0;
}

enum status plan_advise(struct plan *p, const struct session *s, struct err *e)
{
    unsigned taken[PLAN_CHANGES_MAX];
    struct need need;
    if (p->fits) return largest_batch(p, s, *s->config, most_units(s), &p->largest_batch, &need, e);
    p->largest_batch = 0;
    for (size_t i = 0; i < sizeof proposals / sizeof *proposals; i++) {
        unsigned flags = reduce(s, proposals[i]);
        int before = p->num_changes;
        if (!flags || before == PLAN_CHANGES_MAX || is_covered(taken, before, flags)) continue;
        TRY(propose(p, s, flags, e));
        if (p->num_changes > before) taken[before] = flags;
    }
    return largest_batch(p, s, *s->config, s->config->per_device_train_batch_size - 1,
                         &p->largest_batch, &need, e);
}
