#include "run/step_profile.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "run/session.h"
#include "run/trace_file.h"

#define RATE_SECONDS 0.3 /* each of the two */
enum { KINDS = 256 };    /* of kernels */

enum status step_profile_init(struct step_profile *p, const struct session *s, int64_t wanted,
                              struct err *e)
{
    int64_t left = s->total_steps - s->done;
    *p = (struct step_profile){.wanted = wanted, .before = STEP_PROFILE_WARM_UP};
    if (!wanted) return OK;
    if (wanted < 0 || wanted > STEP_PROFILE_MAX)
        return err_set(e, ERR_CONFIG, "--profile wants 1 to %d steps, not %lld", STEP_PROFILE_MAX,
                       (long long)wanted);
    if (left < wanted + STEP_PROFILE_WARM_UP) {
        err_set(e, ERR_CONFIG,
                "--profile %lld needs %lld steps, %d of them to warm up, and %lld %s",
                (long long)wanted, (long long)(wanted + STEP_PROFILE_WARM_UP), STEP_PROFILE_WARM_UP,
                (long long)left, left == 1 ? "is left" : "are left");
        return err_hint(e, "profile fewer steps, or train more (max_steps)");
    }
    p->seconds = mem_calloc((size_t)wanted, sizeof *p->seconds);
    return p->seconds ? OK : err_set(e, ERR_MEMORY, "no memory for a profile");
}

enum status step_profile_begin(struct step_profile *p, struct session *s, struct err *e)
{
    if (!p->wanted || p->before > 0 || p->steps == p->wanted) return OK;
    if (!p->steps) TRY(profile_attach(&p->profile, &s->engine.device, e));
    TRY(profile_collect(&p->profile, &s->engine.device, e));
    profile_set_step(&p->profile, (int32_t)p->steps);
    p->began = clock_seconds();
    return OK;
}

/* --- the table --- */

struct sums {
    struct profile_rates rates;
    int clock; /* the device's own */
    struct profile_kernel kernels[KINDS];
    size_t num_kernels;
    struct profile_row rows[NUM_PROFILE_OPS];
    int order[NUM_PROFILE_OPS]; /* by time, descending */
    double seconds;             /* of all steps */
    double accounted, floor;    /* in rows */
};

/* The host works beside a device with a clock of its own. */
static int is_beside(const struct sums *s, int op)
{
    return s->clock && profile_op_of_host((enum profile_op)op);
}

static void sum_up(struct sums *s, const struct step_profile *p, struct profile_rates rates)
{
    *s = (struct sums){.rates = rates, .clock = profile_has_clock(&p->profile)};
    profile_sum(&p->profile, &rates, s->rows);
    s->num_kernels = profile_kernels(&p->profile, s->kernels, KINDS);
    for (int64_t i = 0; i < p->steps; i++) s->seconds += p->seconds[i];
    for (int i = 0; i < NUM_PROFILE_OPS; i++) {
        int at = i;
        s->accounted += is_beside(s, i) ? 0 : s->rows[i].seconds;
        s->floor += s->rows[i].floor;
        for (; at > 0 && s->rows[s->order[at - 1]].seconds < s->rows[i].seconds; at--)
            s->order[at] = s->order[at - 1];
        s->order[at] = i;
    }
}

static enum status print_row(struct buf *out, const char *text, const struct sums *s,
                             const struct profile_row *row, int64_t steps)
{
    double each = 1e3 / (double)steps;
    TRY(buf_printf(out, "%-34s %8.1f %10.2f %6.1f %%", text, (double)row->calls / (double)steps,
                   row->seconds * each, 100 * row->seconds / s->seconds));
    if (row->floor > 0)
        TRY(buf_printf(out, " %10.2f  %-10s %5.0f %%", row->floor * each,
                       row->arithmetic ? "arithmetic" : "bytes", 100 * row->floor / row->seconds));
    return buf_putc(out, '\n');
}

static enum status print_total(struct buf *out, const char *text, double seconds, double floor,
                               const struct sums *s, int64_t steps)
{
    double each = 1e3 / (double)steps;
    TRY(buf_printf(out, "%-34s %8s %10.2f %6.1f %%", text, "", seconds * each,
                   100 * seconds / s->seconds));
    if (floor > 0)
        TRY(buf_printf(out, " %10.2f  %-10s %5.0f %%", floor * each, "", 100 * floor / seconds));
    return buf_putc(out, '\n');
}

/* What an op consists of, if that is more than one kind. */
static enum status print_kernels(struct buf *out, const struct sums *s, int op, int64_t steps)
{
    int kinds = 0;
    for (size_t i = 0; i < s->num_kernels; i++) kinds += (int)s->kernels[i].op == op;
    for (size_t i = 0; kinds > 1 && i < s->num_kernels; i++) {
        const struct profile_kernel *k = &s->kernels[i];
        if ((int)k->op != op) continue;
        TRY(buf_printf(out, "  %-32s %8.1f %10.2f %6.1f %%\n", k->name,
                       (double)k->count / (double)steps, 1e3 * k->seconds / (double)steps,
                       100 * k->seconds / s->seconds));
    }
    return OK;
}

static enum status print_ops(struct buf *out, const struct sums *s, int beside, int64_t steps)
{
    for (int i = 0; i < NUM_PROFILE_OPS; i++) {
        const struct profile_row *row = &s->rows[s->order[i]];
        if (!row->calls || is_beside(s, s->order[i]) != beside) continue;
        TRY(print_row(out, profile_op_text((enum profile_op)s->order[i]), s, row, steps));
        TRY(print_kernels(out, s, s->order[i], steps));
    }
    return print_kernels(out, s, NUM_PROFILE_OPS, steps);
}

/* What the host does while the device computes, and how long it takes to say what is to be done;
 * calls that wait for an answer are in that. */
static enum status print_host(struct buf *out, const struct sums *s, int64_t steps)
{
    double queueing = 0;
    for (int i = 0; i < NUM_PROFILE_OPS; i++) queueing += is_beside(s, i) ? 0 : s->rows[i].host;
    TRY(buf_puts(out, "beside it the host:\n"));
    TRY(print_ops(out, s, 1, steps));
    return print_total(out, "queueing, and waiting for answers", queueing, 0, s, steps);
}

static enum status print_table(const struct step_profile *p, const struct sums *s, int threads,
                               struct buf *out)
{
    char where[32] = "the GPU, by its clock";
    if (!s->clock) snprintf(where, sizeof where, "%d threads", threads);
    TRY(buf_printf(out,
                   "profile of %lld steps of %.0f tokens on %s: %.0f tokens/s\n"
                   "floor: arithmetic at %.1f GFLOP/s, the rate of a large product here, or bytes "
                   "at %.1f GB/s,\nthat of a large pass, whichever takes longer; what stays in a "
                   "cache can be faster\n\n"
                   "%-34s %8s %10s %8s %10s  %-10s %7s\n",
                   (long long)p->steps, (double)p->tokens / (double)p->steps, where,
                   (double)p->tokens / s->seconds, s->rates.flops / 1e9, s->rates.bytes / 1e9, "op",
                   "calls", "ms", "share", "floor ms", "by", "of it"));
    TRY(print_ops(out, s, 0, p->steps));
    TRY(print_total(out, "sum", s->accounted, s->floor, s, p->steps));
    TRY(print_total(out, s->clock ? "nothing to do" : "not accounted for",
                    s->seconds - s->accounted, 0, s, p->steps));
    TRY(print_total(out, "step", s->seconds, s->floor, s, p->steps));
    return s->clock ? print_host(out, s, p->steps) : OK;
}

/* --- profile.json --- */

static json_t *seconds_json(const struct step_profile *p)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < p->steps; i++) json_array_append_new(list, json_real(p->seconds[i]));
    return list;
}

static json_t *ops_json(const struct sums *s)
{
    json_t *list = json_array();
    for (int i = 0; i < NUM_PROFILE_OPS; i++) {
        const struct profile_row *row = &s->rows[s->order[i]];
        enum profile_op op = (enum profile_op)s->order[i];
        if (!row->calls) continue;
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:f, "
                            "s:b}",
                            "op", profile_op_name(op), "text", profile_op_text(op), "calls",
                            (json_int_t)row->calls, "seconds", row->seconds, "host_seconds",
                            row->host, "share", row->seconds / s->seconds, "flops", row->flops,
                            "bytes", row->bytes, "floor_seconds", row->floor, "floor",
                            row->arithmetic ? "arithmetic" : "bytes", "floor_share",
                            row->seconds > 0 ? row->floor / row->seconds : 0, "beside",
                            is_beside(s, s->order[i])));
    }
    return list;
}

static json_t *kernels_json(const struct sums *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->num_kernels; i++) {
        const struct profile_kernel *k = &s->kernels[i];
        const char *op = k->op < NUM_PROFILE_OPS ? profile_op_name(k->op) : "";
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:I, s:f}", "op", op, "name", k->name, "count",
                                        (json_int_t)k->count, "seconds", k->seconds));
    }
    return list;
}

static json_t *address(const void *p) { return json_integer((json_int_t)(uintptr_t)p); }

static json_t *products_json(const struct step_profile *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->first_calls; i++) {
        const struct profile_call *c = &p->profile.calls[i];
        const struct profile_product *x = &c->product;
        if (!x->N) continue;
        json_array_append_new(
            list,
            json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o}",
                      "op", profile_op_name(c->op), "N", x->N, "I", x->I, "O", x->O, "chunk",
                      x->chunk, "words", x->words, "accumulate", x->accumulate, "ldx", x->ldx,
                      "ldy", x->ldy, "x", address(x->x), "w", address(x->w), "y", address(x->y),
                      "dx", address(x->dx), "dw", address(x->dw)));
    }
    return list;
}

static enum status write_json(const struct step_profile *p, const struct session *s,
                              const struct sums *sums, struct err *e)
{
    const struct device *d = &s->engine.device;
    char path[IO_PATH_MAX], device[256];
    d->k->describe(d, device, sizeof device);
    TRY(io_join(path, sizeof path, s->config->output_dir, STEP_PROFILE_FILE, e));
    json_t *o =
        json_pack("{s:I, s:o, s:I, s:i, s:s, s:s, s:f, s:f, s:o, s:o, s:f, s:o}", "steps",
                  (json_int_t)p->steps, "seconds", seconds_json(p), "tokens", (json_int_t)p->tokens,
                  "threads", d->threads, "device", device, "clock", sums->clock ? "device" : "host",
                  "gemm_flops", sums->rates.flops, "copy_bytes", sums->rates.bytes, "ops",
                  ops_json(sums), "kernels", kernels_json(sums), "unaccounted_seconds",
                  sums->seconds - sums->accounted, "products", products_json(p));
    enum status status =
        o ? json_write_file(o, path, e) : err_set(e, ERR_MEMORY, "no memory for %s", path);
    json_decref(o);
    return status;
}

/* --- the end --- */

static enum status write_trace(const struct step_profile *p, const struct session *s, struct err *e)
{
    char path[IO_PATH_MAX];
    int64_t steps;
    TRY(io_join(path, sizeof path, s->config->output_dir, TRACE_FILE, e));
    TRY(trace_file_write(&p->profile, path, &steps, e));
    if (steps < p->steps)
        log_notice("%s has the first %lld of %lld steps", path, (long long)steps,
                   (long long)p->steps);
    return OK;
}

static enum status finish(struct step_profile *p, struct session *s, struct buf *table,
                          struct err *e)
{
    struct device *d = &s->engine.device;
    profile_detach(&p->profile, d);
    if (p->profile.failed) return err_set(e, ERR_MEMORY, "no memory for the calls of a profile");
    struct profile_rates rates = {device_gemm_peak(d, RATE_SECONDS),
                                  device_copy_peak(d, RATE_SECONDS)};
    struct sums *sums = mem_calloc(1, sizeof *sums);
    if (!sums) return err_set(e, ERR_MEMORY, "no memory for the table of a profile");
    sum_up(sums, p, rates);
    enum status status = OK;
    if (print_table(p, sums, d->threads, table))
        status = err_set(e, ERR_MEMORY, "no memory for the table of a profile");
    if (!status) status = write_json(p, s, sums, e);
    mem_free(sums);
    return status ? status : write_trace(p, s, e);
}

enum status step_profile_end(struct step_profile *p, struct session *s, int64_t tokens, int *done,
                             struct buf *table, struct err *e)
{
    struct device *d = &s->engine.device;
    *done = 0;
    if (!p->wanted || p->steps == p->wanted) return OK;
    if (p->before > 0) {
        p->before--;
        return OK;
    }
    TRY(d->k->sync(d, e));
    p->seconds[p->steps++] = clock_seconds() - p->began;
    TRY(profile_collect(&p->profile, d, e));
    profile_set_step(&p->profile, -1);
    p->tokens += tokens;
    if (p->steps == 1) p->first_calls = p->profile.count;
    if (p->steps < p->wanted) return OK;
    *done = 1;
    return finish(p, s, table, e);
}

void step_profile_free(struct step_profile *p, struct session *s)
{
    profile_detach(&p->profile, &s->engine.device);
    profile_free(&p->profile);
    mem_free(p->seconds);
    *p = (struct step_profile){0};
}
