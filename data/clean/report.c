#include <jansson.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "data/clean/clean.h"

void clean_report_free(struct clean_report *r)
{
    for (size_t i = 0; i < r->num_sources; i++) mem_free(r->sources[i].path);
    mem_free(r->sources);
    *r = (struct clean_report){0};
}

/* Where a sample is: of the sources, or of the evaluation files. */
struct spot {
    const char *path;
    const char *what; /* "line", "record" or "item" */
    int64_t number;
};

static struct spot spot_of(const struct clean_report *r, uint32_t source, int64_t place)
{
    struct spot s = {"", "item", place};
    if (source == UINT32_MAX) {
        s.path = against_origin(r->against, (uint32_t)(place - 1), &s.number);
        return s;
    }
    s.path = r->sources[source].path;
    s.what = r->sources[source].is_array ? "record" : "line";
    return s;
}

static int64_t dropped_by(const struct clean_report *r, enum clean_step step)
{
    int64_t n = 0;
    for (int i = 1; i < NUM_CLEAN_REASONS; i++)
        if (clean_reason_step((enum clean_reason)i) == step) n += r->dropped[i].count;
    return n;
}

static int is_on(const struct clean_report *r, int step)
{
    int html = 0;
    if (step != CLEAN_HTML) return step == CLEAN_READ || (r->steps & CLEAN_BIT(step));
    for (size_t i = 0; i < r->num_sources; i++) html |= r->sources[i].is_html;
    return html;
}

/* ---- for people ---- */

static enum status print_sample(const struct clean_report *r, const struct clean_sample *s,
                                struct buf *out)
{
    struct spot here = spot_of(r, s->source, s->place);
    TRY(buf_printf(out, "        %s, %s %lld", here.path, here.what, (long long)here.number));
    if (s->detail[0]) TRY(buf_printf(out, " (%s)", s->detail));
    if (s->other_place) {
        struct spot there = spot_of(r, s->other_source, s->other_place);
        TRY(buf_printf(out, " = %s, %s %lld", there.path, there.what, (long long)there.number));
    }
    return s->text[0] ? buf_printf(out, ": %s\n", s->text) : buf_putc(out, '\n');
}

static enum status print_reasons(const struct clean_report *r, enum clean_step step,
                                 struct buf *out)
{
    for (int i = 1; i < NUM_CLEAN_REASONS; i++) {
        const struct clean_tally *t = &r->dropped[i];
        if (clean_reason_step((enum clean_reason)i) != step || !t->count) continue;
        TRY(buf_printf(out, "      %lld: %s\n", (long long)t->count,
                       clean_reason_text((enum clean_reason)i)));
        for (int k = 0; k < CLEAN_SAMPLES && k < t->count; k++)
            if (t->samples[k].place) TRY(print_sample(r, &t->samples[k], out));
    }
    if (step == CLEAN_READ && r->first_bad[0])
        return buf_printf(out, "      the first invalid one: %s\n", r->first_bad);
    return OK;
}

static enum status print_steps(const struct clean_report *r, struct buf *out)
{
    int64_t left = r->records;
    TRY(buf_puts(out, "  step            in   dropped      left\n"));
    for (int s = 0; s < NUM_CLEAN_STEPS; s++) {
        if (!is_on(r, s)) continue;
        int64_t in = left, gone = dropped_by(r, (enum clean_step)s);
        if (s == CLEAN_SPLIT) {
            left = r->segments;
            TRY(buf_printf(out, "  %-9s %8lld         - %9lld segments\n", clean_step_name(s),
                           (long long)in, (long long)left));
            continue;
        }
        left = s == CLEAN_READ ? r->conversations : in - gone;
        TRY(buf_printf(out, "  %-9s %8lld %9lld %9lld\n", clean_step_name((enum clean_step)s),
                       (long long)in, (long long)gone, (long long)left));
        TRY(print_reasons(r, (enum clean_step)s, out));
    }
    return OK;
}

enum status clean_report_print(const struct clean_report *r, struct buf *out)
{
    for (size_t i = 0; i < r->num_sources; i++) {
        const struct clean_source_report *s = &r->sources[i];
        TRY(buf_printf(out, "%s: %s%s, %lld records, %lld kept\n", s->path, s->format->name,
                       s->is_html ? " in HTML" : "", (long long)s->records, (long long)s->kept));
    }
    TRY(print_steps(r, out));
    if (r->against)
        TRY(buf_printf(out,
                       "  against %lld items; %lld more are too short to be told from chance\n",
                       (long long)(against_items(r->against) - against_skipped(r->against)),
                       (long long)against_skipped(r->against)));
    for (int c = 0; c < NUM_CLEAN_CHANGES; c++)
        if (r->changed[c])
            TRY(buf_printf(out, "  %lld of the kept %s\n", (long long)r->changed[c],
                           clean_change_text((enum clean_change)c)));
    return buf_printf(out, "  %lld records, %lld kept: %lld lines, %lld messages, %lld bytes\n",
                      (long long)r->records, (long long)r->kept, (long long)r->written,
                      (long long)r->turns, (long long)r->bytes);
}

/* ---- for programs ---- */

static json_t *spot_json(struct spot s)
{
    return json_pack("{s:s%, s:s, s:I}", "path", s.path, strlen(s.path), "unit", s.what, "number",
                     (json_int_t)s.number);
}

static json_t *sample_json(const struct clean_report *r, const struct clean_sample *s)
{
    json_t *o = spot_json(spot_of(r, s->source, s->place));
    json_object_set_new(o, "text", json_string(s->text));
    if (s->detail[0]) json_object_set_new(o, "detail", json_string(s->detail));
    if (s->other_place)
        json_object_set_new(o, "same_as", spot_json(spot_of(r, s->other_source, s->other_place)));
    return o;
}

static json_t *reasons_json(const struct clean_report *r, enum clean_step step)
{
    json_t *all = json_object();
    for (int i = 1; i < NUM_CLEAN_REASONS; i++) {
        const struct clean_tally *t = &r->dropped[i];
        if (clean_reason_step((enum clean_reason)i) != step || !t->count) continue;
        json_t *samples = json_array();
        for (int k = 0; k < CLEAN_SAMPLES && k < t->count; k++)
            if (t->samples[k].place) json_array_append_new(samples, sample_json(r, &t->samples[k]));
        json_object_set_new(
            all, clean_reason_name((enum clean_reason)i),
            json_pack("{s:I, s:o}", "count", (json_int_t)t->count, "samples", samples));
    }
    return all;
}

static json_t *steps_json(const struct clean_report *r)
{
    json_t *all = json_array();
    int64_t left = r->records;
    for (int s = 0; s < NUM_CLEAN_STEPS; s++) {
        if (!is_on(r, s)) continue;
        int64_t in = left, gone = dropped_by(r, (enum clean_step)s);
        left = s == CLEAN_SPLIT ? r->segments : s == CLEAN_READ ? r->conversations : in - gone;
        json_array_append_new(
            all, json_pack("{s:s, s:I, s:I, s:I, s:o}", "step", clean_step_name((enum clean_step)s),
                           "in", (json_int_t)in, "dropped", (json_int_t)gone, "left",
                           (json_int_t)left, "reasons", reasons_json(r, (enum clean_step)s)));
    }
    return all;
}

static json_t *sources_json(const struct clean_report *r)
{
    json_t *all = json_array();
    for (size_t i = 0; i < r->num_sources; i++) {
        const struct clean_source_report *s = &r->sources[i];
        json_array_append_new(all, json_pack("{s:s%, s:s, s:b, s:I, s:I}", "path", s->path,
                                             strlen(s->path), "format", s->format->name, "html",
                                             s->is_html, "records", (json_int_t)s->records, "kept",
                                             (json_int_t)s->kept));
    }
    return all;
}

enum status clean_report_write(const struct clean_report *r, const char *path, struct err *e)
{
    json_t *changed = json_object();
    for (int c = 0; c < NUM_CLEAN_CHANGES; c++)
        json_object_set_new(changed, clean_change_name((enum clean_change)c),
                            json_integer(r->changed[c]));
    json_t *all = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "records",
                            (json_int_t)r->records, "kept", (json_int_t)r->kept, "written",
                            (json_int_t)r->written, "messages", (json_int_t)r->turns, "bytes",
                            (json_int_t)r->bytes, "remembered_bytes", (json_int_t)r->remembered,
                            "sources", sources_json(r), "steps", steps_json(r), "changed", changed);
    if (all && r->against)
        json_object_set_new(all, "against",
                            json_pack("{s:I, s:I}", "items", (json_int_t)against_items(r->against),
                                      "too_short", (json_int_t)against_skipped(r->against)));
    if (!all) return err_set(e, ERR_MEMORY, "no memory for the report");
    enum status s = json_write_file(all, path, e);
    json_decref(all);
    return s;
}
