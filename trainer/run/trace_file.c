#include "run/trace_file.h"

#include <math.h>

#include "base/buf.h"
#include "base/io.h"

#define TEXT_MAX ((size_t)1 << 30)

enum track { TRACK_HOST = 1, TRACK_COMPUTE, TRACK_COPY };

struct writer {
    const struct profile *p;
    double origin; /* the first thing there is */
    double until;  /* what begins later is left out */
    size_t spans;  /* how many are in */
    struct buf out;
    int events;
};

/* --- what is in --- */

static double end_of(const struct profile_scoped *s) { return s->began + s->seconds; }

/* Cuts behind the last step with which the events do not become too many. */
static int64_t choose_end(struct writer *w)
{
    const struct profile *p = w->p;
    int64_t steps = 0;
    size_t calls = 0;
    w->until = INFINITY;
    w->spans = p->num_spans;
    for (size_t i = 0; i < p->num_scopes; i++) {
        const struct profile_scoped *s = &p->scopes[i];
        if (s->scope != SCOPE_step) continue;
        while (calls < p->count && p->calls[calls].began < end_of(s)) calls++;
        size_t events = 2 * calls + 2 * i + s->queued.last;
        if (steps && events > TRACE_EVENTS_MAX) return steps;
        w->until = end_of(s);
        w->spans = s->queued.last;
        steps++;
    }
    return steps;
}

static double first_of(const struct profile *p)
{
    double first = INFINITY;
    for (size_t i = 0; i < p->num_scopes; i++) first = fmin(first, p->scopes[i].began);
    for (size_t i = 0; i < p->count; i++) first = fmin(first, p->calls[i].began);
    for (size_t i = 0; i < p->num_spans; i++) first = fmin(first, p->spans[i].began);
    return first;
}

/* From the first to the last of these that lies in the compute stream; 0: none does. */
static int extent(const struct writer *w, struct profile_queued q, double *began, double *ended)
{
    int found = 0;
    for (size_t i = q.first; i < q.last && i < w->spans; i++) {
        const struct kern_span *s = &w->p->spans[i];
        if (s->copy) continue;
        if (!found) *began = s->began;
        *ended = s->began + s->seconds;
        found = 1;
    }
    return found;
}

/* --- events --- */

static enum status next(struct writer *w) { return buf_puts(&w->out, w->events++ ? ",\n" : "\n"); }

static enum status name_track(struct writer *w, enum track track, const char *name)
{
    TRY(next(w));
    TRY(buf_printf(&w->out,
                   "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,"
                   "\"args\":{\"name\":\"%s\"}},\n",
                   (int)track, name));
    return buf_printf(&w->out,
                      "{\"name\":\"thread_sort_index\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,"
                      "\"args\":{\"sort_index\":%d}}",
                      (int)track, (int)track);
}

/* An event up to its args. Times are whole nanoseconds, rounded each, so that what lay within
 * something still does. */
static enum status event(struct writer *w, enum track track, const char *kind, const char *name,
                         int32_t number, double began, double ended)
{
    long long from = llround((began - w->origin) * 1e9), to = llround((ended - w->origin) * 1e9);
    TRY(next(w));
    TRY(buf_puts(&w->out, "{\"name\":\""));
    for (; *name; name++) TRY(buf_putc(&w->out, *name == '"' || *name == '\\' ? '_' : *name));
    if (number >= 0) TRY(buf_printf(&w->out, " %d", (int)number));
    return buf_printf(&w->out,
                      "\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%lld.%03lld,"
                      "\"dur\":%lld.%03lld",
                      kind, (int)track, from / 1000, from % 1000, (to - from) / 1000,
                      (to - from) % 1000);
}

static enum status scopes(struct writer *w, enum track track)
{
    const struct profile *p = w->p;
    for (const struct profile_scoped *s = p->scopes; s < p->scopes + p->num_scopes; s++) {
        double began = s->began, ended = end_of(s);
        if (began >= w->until) continue;
        if (track == TRACK_COMPUTE && !extent(w, s->queued, &began, &ended)) continue;
        TRY(event(w, track, "scope", profile_scope_text(s->scope), s->number, began, ended));
        TRY(buf_putc(&w->out, '}'));
    }
    return OK;
}

static enum status call(struct writer *w, enum track track, const struct profile_call *c,
                        double began, double ended)
{
    const struct profile_product *x = &c->product;
    int host = profile_op_of_host(c->op);
    TRY(event(w, track, host ? "host" : "op", profile_op_text(c->op), -1, began, ended));
    if (host) return buf_putc(&w->out, '}');
    TRY(buf_printf(&w->out, ",\"args\":{\"flops\":%.0f,\"bytes\":%.0f", c->flops, c->bytes));
    if (x->N)
        TRY(buf_printf(&w->out, ",\"N\":%d,\"I\":%d,\"O\":%d", (int)x->N, (int)x->I, (int)x->O));
    return buf_puts(&w->out, "}}");
}

static enum status calls(struct writer *w, enum track track)
{
    const struct profile *p = w->p;
    for (const struct profile_call *c = p->calls; c < p->calls + p->count; c++) {
        double began = c->began, ended = c->began + c->host;
        if (began >= w->until) continue;
        if (track == TRACK_COMPUTE && !extent(w, c->queued, &began, &ended)) continue;
        TRY(call(w, track, c, began, ended));
    }
    return OK;
}

static enum status spans(struct writer *w)
{
    for (size_t i = 0; i < w->spans; i++) {
        const struct kern_span *s = &w->p->spans[i];
        TRY(event(w, s->copy ? TRACK_COPY : TRACK_COMPUTE, "kernel", s->name, -1, s->began,
                  s->began + s->seconds));
        TRY(buf_putc(&w->out, '}'));
    }
    return OK;
}

static enum status all_events(struct writer *w)
{
    TRY(buf_puts(&w->out, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":["));
    TRY(next(w));
    TRY(buf_puts(&w->out, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"tid\":0,"
                          "\"args\":{\"name\":\"cria\"}}"));
    TRY(name_track(w, TRACK_HOST, "host"));
    TRY(scopes(w, TRACK_HOST));
    TRY(calls(w, TRACK_HOST));
    if (profile_has_clock(w->p)) {
        TRY(name_track(w, TRACK_COMPUTE, "compute stream"));
        TRY(name_track(w, TRACK_COPY, "copy stream"));
        TRY(scopes(w, TRACK_COMPUTE));
        TRY(calls(w, TRACK_COMPUTE));
        TRY(spans(w));
    }
    return buf_puts(&w->out, "\n]}\n");
}

enum status trace_file_write(const struct profile *p, const char *path, int64_t *steps,
                             struct err *e)
{
    struct writer w = {.p = p, .origin = first_of(p)};
    *steps = choose_end(&w);
    buf_init(&w.out, TEXT_MAX);
    enum status status = all_events(&w) ? err_set(e, ERR_MEMORY, "no memory for %s", path)
                                        : io_write_file(path, w.out.data, w.out.len, e);
    buf_free(&w.out);
    return status;
}
