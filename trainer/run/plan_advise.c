/* What fits: by planning it. A variant of the session, with another batch size, length or method,
 * is laid out in full but for its memory; the rest of the process stays as measured. */
#include <stdio.h>
#include <string.h>

#include "run/plan.h"

/* How big the run would be with `c`; SIZE_MAX where it cannot be laid out at all. */
static enum status total_with(const struct session *s, const struct config *c, size_t *out,
                              struct err *e)
{
    struct session v;
    struct plan p;
    struct err ignored = {0};
    enum status status = session_open_variant(&v, s, c, &ignored);
    *out = SIZE_MAX;
    if (status == ERR_MEMORY) *e = ignored;
    if (!status) {
        plan_make(&p, &v);
        *out = p.total;
    }
    session_close_variant(&v);
    return status == ERR_MEMORY ? status : OK;
}

/* The largest batch size from 1 to `most` with which `c` fits; 0: none. *total: what it takes. */
static enum status largest_batch(const struct plan *p, const struct session *s, struct config c,
                                 int64_t most, int64_t *out, size_t *total, struct err *e)
{
    int64_t fits = 0, fails = most + 1;
    for (int64_t size = 1; fits + 1 < fails;) {
        size_t bytes;
        c.per_device_train_batch_size = size;
        TRY(total_with(s, &c, &bytes, e));
        if (bytes <= p->available) {
            fits = size;
            *total = bytes;
        } else {
            fails = size;
        }
        size = fails > most ? (size * 2 < most ? size * 2 : most) : fits + (fails - fits) / 2;
    }
    *out = fits;
    return OK;
}

static int64_t most_units(const struct session *s)
{
    return s->train_loader ? loader_report(s->train_loader)->units : 1 << 12;
}

/* --- changes --- */

enum change_flags { BATCH = 1, CHECKPOINT = 2, LENGTH = 4, LORA = 8 };

/* Cheapest first: what leaves the numbers alone and costs nothing, then time, then what changes the
 * run. Each row is one proposal. */
static const unsigned proposals[] = {
    BATCH, CHECKPOINT,   CHECKPOINT | BATCH,        CHECKPOINT | BATCH | LENGTH,
    LORA,  LORA | BATCH, LORA | CHECKPOINT | BATCH, LORA | CHECKPOINT | BATCH | LENGTH,
};

#define SHORTEST 128 /* tokens: no max_length below this is proposed */

/* Micro-batches of `size` make a step of as many documents (or a few more) as before. */
static int64_t accumulation(const struct config *c, int64_t size)
{
    int64_t in_step = c->per_device_train_batch_size * c->gradient_accumulation_steps;
    return (in_step + size - 1) / size;
}

/* Whether `flags` can change anything here. */
static int applies(const struct config *c, unsigned flags)
{
    if (flags & BATCH && c->per_device_train_batch_size == 1) return 0;
    if (flags & CHECKPOINT && c->gradient_checkpointing == CONFIG_CHECKPOINT_FULL) return 0;
    if (flags & LORA && c->finetuning == CONFIG_LORA) return 0;
    return !(flags & LENGTH) || c->max_length > SHORTEST;
}

/* What is left of a proposal where some of it cannot change anything. */
static unsigned reduce(const struct config *c, unsigned flags)
{
    for (unsigned one = BATCH; one <= LORA; one <<= 1)
        if (flags & one && !applies(c, one)) flags &= ~one;
    return flags;
}

static enum status try_batch(const struct plan *p, const struct session *s, struct config *c,
                             size_t *total, struct err *e)
{
    int64_t size;
    TRY(largest_batch(p, s, *c, c->per_device_train_batch_size - 1, &size, total, e));
    c->gradient_accumulation_steps = accumulation(c, size ? size : 1);
    c->per_device_train_batch_size = size ? size : 1;
    return size ? OK : total_with(s, c, total, e);
}

/* Halves max_length until it fits. */
static enum status try_length(const struct plan *p, const struct session *s, struct config *c,
                              int with_batch, size_t *total, struct err *e)
{
    if (with_batch) {
        c->gradient_accumulation_steps = accumulation(c, 1);
        c->per_device_train_batch_size = 1;
    }
    while (*total > p->available && c->max_length / 2 >= SHORTEST) {
        c->max_length /= 2;
        TRY(total_with(s, c, total, e));
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
    if (c->gradient_checkpointing != now->gradient_checkpointing)
        failed |= buf_printf(&text, "%sgradient_checkpointing: full", text.len ? ", " : "") != OK;
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
             : c->gradient_checkpointing != now->gradient_checkpointing
                 ? "the same numbers, about a third more time"
                 : "the same numbers, in smaller pieces");
    buf_free(&text);
}

static enum status propose(struct plan *p, const struct session *s, unsigned flags, struct err *e)
{
    struct config c = *s->config;
    size_t total = SIZE_MAX;
    if (flags & CHECKPOINT) c.gradient_checkpointing = CONFIG_CHECKPOINT_FULL;
    if (flags & LORA) c.finetuning = CONFIG_LORA;
    if (!(flags & (BATCH | LENGTH))) TRY(total_with(s, &c, &total, e));
    if (flags & BATCH && !(flags & LENGTH)) TRY(try_batch(p, s, &c, &total, e));
    if (flags & LENGTH) TRY(try_length(p, s, &c, flags & BATCH, &total, e));
    struct plan_change change;
    describe(&change, s->config, &c, total);
    if (total <= p->available)
        p->changes[p->num_changes++] = change;
    else if (!p->least.total || total < p->least.total)
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
    size_t total;
    if (p->fits)
        return largest_batch(p, s, *s->config, most_units(s), &p->largest_batch, &total, e);
    p->largest_batch = 0;
    for (size_t i = 0; i < sizeof proposals / sizeof *proposals; i++) {
        unsigned flags = reduce(s->config, proposals[i]);
        int before = p->num_changes;
        if (!flags || before == PLAN_CHANGES_MAX || is_covered(taken, before, flags)) continue;
        TRY(propose(p, s, flags, e));
        if (p->num_changes > before) taken[before] = flags;
    }
    return largest_batch(p, s, *s->config, s->config->per_device_train_batch_size - 1,
                         &p->largest_batch, &total, e);
}
