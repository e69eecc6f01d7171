/* The plan as JSON for programs and as text for people. */
#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "run/plan.h"
#include "run/recompute.h"

static json_t *number_or_null(int64_t n) { return n < 0 ? json_null() : json_integer(n); }

static json_t *bytes(size_t n) { return json_integer((json_int_t)n); }

static json_t *arenas_json(const struct engine_memory *m)
{
    return json_pack("{s:o, s:o, s:o}", "run", bytes(m->run), "step", bytes(m->step), "scratch",
                     bytes(m->scratch));
}

static json_t *named_json(const struct plan *p)
{
    json_t *o = json_object();
    for (int i = 0; i < NUM_MEMORY_ITEMS; i++)
        json_object_set_new(o, memory_item_name((enum memory_item)i), bytes(p->named[i]));
    return o;
}

/* Blocks from first to last, none left out. */
static json_t *blocks_json(const struct session *s)
{
    struct recompute_span spans[NUM_RECOMPUTE];
    json_t *list = json_array();
    recompute_spans(&s->engine, spans);
    for (int how = NUM_RECOMPUTE - 1; how >= 0; how--)
        if (spans[how].count)
            json_array_append_new(list, json_pack("{s:i, s:i, s:s}", "first", (int)spans[how].first,
                                                  "count", (int)spans[how].count, "recompute",
                                                  recompute_word((enum recompute)how)));
    return list;
}

static json_t *changes_json(const struct plan *p)
{
    json_t *list = json_array();
    for (int i = 0; i < p->num_changes; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "change", p->changes[i].text,
                                              "cost", p->changes[i].cost, "total_bytes",
                                              bytes(p->changes[i].total)));
    return list;
}

static json_t *findings_json(const struct preflight *f)
{
    json_t *list = json_array();
    for (int i = 0; i < f->count; i++)
        json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:s, s:s}", "kind",
                                              preflight_name(f->findings[i].kind), "documents",
                                              (json_int_t)f->findings[i].documents, "what",
                                              f->findings[i].what, "where", f->findings[i].where,
                                              "hint", f->findings[i].hint));
    return list;
}

enum status plan_json(const struct plan *p, const struct session *s, struct buf *out, struct err *e)
{
    json_t *o = json_object();
    json_object_set_new(o, "arenas", arenas_json(&p->arenas));
    json_object_set_new(o, "named", named_json(p));
    json_object_set_new(o, "total_bytes", bytes(p->total));
    if (p->host) json_object_set_new(o, "host_bytes", bytes(p->host));
    if (p->host) json_object_set_new(o, "host_available_bytes", bytes(p->host_available));
    json_object_set_new(o, "tokens_per_epoch", number_or_null(p->tokens_per_epoch));
    json_object_set_new(o, "steps", number_or_null(p->steps));
    json_object_set_new(o, "eta_s", p->eta < 0 ? json_null() : json_real(p->eta));
    json_object_set_new(o, "available_bytes", bytes(p->available));
    json_object_set_new(o, "fits", json_boolean(p->fits));
    json_object_set_new(o, "largest_batch", number_or_null(p->largest_batch));
    json_object_set_new(o, "precision", json_string(s->precision.name));
    json_object_set_new(o, "precision_note", json_string(s->precision.note));
    json_object_set_new(o, "blocks", blocks_json(s));
    json_object_set_new(o, "changes", changes_json(p));
    json_object_set_new(o, "findings", findings_json(&s->preflight));
    if (s->mix.accounts) json_object_set_new(o, "mixture", mixture_json(&s->mix, s->store));
    enum status status = json_append_text(o, out, e);
    json_decref(o);
    return status;
}

/* --- for people --- */

static enum status print_bytes(struct buf *out, const char *name, size_t n, const char *about)
{
    return buf_printf(out, "  %-10s %15zu  %9.1f MB   %s\n", name, n, (double)n / 1e6, about);
}

static enum status print_memory(const struct plan *p, struct buf *out)
{
    TRY(buf_puts(out, "memory\n"));
    TRY(print_bytes(out, "run", p->arenas.run, "weights, gradients, optimiser states"));
    TRY(print_bytes(out, "step", p->arenas.step, "activations of the largest micro-batch"));
    TRY(print_bytes(out, "scratch", p->arenas.scratch, "what one kernel needs while it runs"));
    for (int i = 0; i < NUM_MEMORY_ITEMS; i++) {
        if (i == MEMORY_context && !p->host) continue;
        if ((i == MEMORY_pinned || i == MEMORY_graphs) && !p->named[i]) continue;
        TRY(print_bytes(out, memory_item_name((enum memory_item)i), p->named[i],
                        memory_item_text((enum memory_item)i)));
    }
    if (p->host)
        TRY(print_bytes(out, "host", p->host,
                        "of the machine's memory: all but the first three, graphs and context"));
    if (p->host)
        TRY(print_bytes(out, "  of", p->host_available,
                        p->host <= p->host_available ? p->host_limit : "WHICH IS TOO LITTLE"));
    TRY(print_bytes(out, "total", p->total, p->total <= p->available ? "fits" : "DOES NOT FIT"));
    return print_bytes(out, "available", p->available, p->limit);
}

static enum status print_work(const struct plan *p, const struct session *s, struct buf *out)
{
    TRY(buf_puts(out, "work\n  recompute  blocks "));
    TRY(recompute_print(&s->engine, out));
    TRY(buf_putc(out, '\n'));
    if (p->documents >= 0)
        TRY(buf_printf(
            out, "  an epoch   %" PRId64 " documents, %" PRId64 " tokens, %" PRId64 " steps\n",
            p->documents, p->tokens_per_epoch, s->steps_per_epoch));
    if (p->steps >= 0) TRY(buf_printf(out, "  steps      %" PRId64 "\n", p->steps));
    if (p->eta >= 0) {
        int64_t seconds = (int64_t)(p->eta + 0.5);
        TRY(buf_printf(out,
                       "  time       %" PRId64 ":%02d:%02d of training, from a measured step\n",
                       seconds / 3600, (int)(seconds / 60 % 60), (int)(seconds % 60)));
    }
    if (p->largest_batch >= 0)
        TRY(buf_printf(out, "  largest per_device_train_batch_size that fits: %" PRId64 "\n",
                       p->largest_batch));
    return OK;
}

static enum status print_absent(const struct session_absent *a, struct buf *out)
{
    const char *const names[] = {"weights", "tokenizer", "data"};
    const char *const paths[] = {a->weights, a->tokenizer, a->data};
    for (int i = 0; i < 3; i++)
        if (paths[i])
            TRY(buf_printf(out, "planned without the %s: not at %s\n", names[i], paths[i]));
    return OK;
}

enum status plan_print(const struct plan *p, const struct session *s, struct buf *out)
{
    TRY(print_memory(p, out));
    TRY(print_work(p, s, out));
    if (s->mix.accounts) TRY(mixture_print(&s->mix, s->store, out));
    for (int i = 0; i < p->num_changes; i++)
        TRY(buf_printf(out, "%s  %s  (%.2f GB; %s)\n", i ? "" : "would fit\n", p->changes[i].text,
                       (double)p->changes[i].total / 1e9, p->changes[i].cost));
    return print_absent(&s->absent, out);
}
