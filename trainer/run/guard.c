#include "run/guard.h"

#include <math.h>
#include <stdio.h>

#include "base/json.h"

#define ENOUGH 16 /* losses before a spike can be told */
#define LEAST_DEVIATION                                                       \
    .01 /* of the mean: a loss that hardly moves is no reason to call a spike \
         */

void guard_init(struct guard *g, const struct config *config)
{
    *g = (struct guard){.config = config};
}

static enum guard_verdict nan_verdict(const struct guard *g)
{
    return g->config->on_nan == CONFIG_NAN_SKIP ? GUARD_SKIP : GUARD_STOP;
}

static enum guard_verdict spike_verdict(const struct guard *g)
{
    switch ((enum config_on_spike)g->config->on_spike) {
    case CONFIG_SPIKE_NONE: break;
    case CONFIG_SPIKE_WARN: return GUARD_WARN;
    case CONFIG_SPIKE_SKIP: return GUARD_SKIP;
    case CONFIG_SPIKE_STOP: return GUARD_STOP;
    }
    return GUARD_FINE;
}

static double mean_of(const struct guard *g, double *deviation)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < g->count; i++) sum += g->losses[i];
    double mean = sum / (double)g->count;
    for (int64_t i = 0; i < g->count; i++) squares += (g->losses[i] - mean) * (g->losses[i] - mean);
    *deviation = fmax(sqrt(squares / (double)g->count), LEAST_DEVIATION * fabs(mean));
    return mean;
}

enum guard_verdict guard_judge_loss(const struct guard *g, double loss, char *why, size_t size)
{
    double mean, deviation;
    int64_t window = g->config->spike_window;
    if (!isfinite(loss)) {
        snprintf(why, size, "the loss is %g", loss);
        return nan_verdict(g);
    }
    if (spike_verdict(g) == GUARD_FINE || g->count < (window < ENOUGH ? window : ENOUGH))
        return GUARD_FINE;
    mean = mean_of(g, &deviation);
    if (loss <= mean + g->config->spike_zscore * deviation) return GUARD_FINE;
    snprintf(why, size, "the loss %.4g is %.1f deviations above the last %lld (mean %.4g)", loss,
             (loss - mean) / deviation, (long long)g->count, mean);
    return spike_verdict(g);
}

enum guard_verdict guard_judge_norm(const struct guard *g, double norm, char *why, size_t size)
{
    snprintf(why, size, "the gradient's norm is %g", norm);
    return nan_verdict(g);
}

enum guard_verdict guard_note(struct guard *g, enum guard_verdict v, double loss)
{
    if (v == GUARD_SKIP) {
        g->skipped++;
        return ++g->in_a_row >= g->config->skip_limit ? GUARD_STOP : GUARD_SKIP;
    }
    if (v == GUARD_STOP) return v;
    g->in_a_row = 0;
    g->losses[g->next] = loss;
    g->next = (g->next + 1) % g->config->spike_window;
    if (g->count < g->config->spike_window) g->count++;
    return v;
}

enum status guard_to_json(const struct guard *g, json_t *object, struct err *e)
{
    json_t *losses = json_array();
    int failed = !losses;
    int64_t window = g->config->spike_window;
    for (int64_t i = 0; i < g->count && !failed; i++) /* the oldest first */
        failed = json_array_append_new(
            losses, json_real(g->losses[(g->next + window - g->count + i) % window]));
    failed |= json_object_set_new(object, "losses", losses);
    failed |= json_object_set_new(object, "skipped_steps", json_integer(g->skipped));
    failed |= json_object_set_new(object, "skipped_in_a_row", json_integer(g->in_a_row));
    return failed ? err_set(e, ERR_MEMORY, "no memory for the run's state") : OK;
}

enum status guard_from_json(struct guard *g, const json_t *object, const char *where, struct err *e)
{
    const json_t *losses = json_object_get(object, "losses");
    size_t n = json_array_size(losses), window = (size_t)g->config->spike_window;
    TRY(json_get_int(object, "skipped_steps", &g->skipped, where, e));
    TRY(json_get_int(object, "skipped_in_a_row", &g->in_a_row, where, e));
    g->count = g->next = 0;
    for (size_t i = n > window ? n - window : 0; i < n; i++) {
        const json_t *v = json_array_get(losses, i);
        if (!json_is_number(v))
            return err_at(e, ERR_FORMAT, where, 0, 0, "\"losses\" should hold numbers");
        g->losses[g->count++] = json_number_value(v);
    }
    g->next = g->count % (int64_t)window;
    return OK;
}
