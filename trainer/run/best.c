#include "run/best.h"

#include <math.h>

#include "base/json.h"

void best_init(struct best *b) { *b = (struct best){.step = -1}; }

int best_update(struct best *b, const struct config *c, int64_t step, double metric)
{
    double sign = c->metric_for_best_model == CONFIG_BEST_LOSS ? -1 : 1;
    int better = isfinite(metric) && (b->step < 0 || sign * metric > sign * b->metric);
    if (better)
        *b = (struct best){.step = step, .metric = metric};
    else
        b->misses++;
    return better;
}

int best_out_of_patience(const struct best *b, const struct config *c)
{
    return c->early_stopping_patience && b->misses >= c->early_stopping_patience;
}

enum status best_to_json(const struct best *b, json_t *object, struct err *e)
{
    int failed = json_object_set_new(object, "best_step", json_integer(b->step));
    failed |= json_object_set_new(object, "best_metric", json_real(b->metric));
    failed |= json_object_set_new(object, "evaluations_since_best", json_integer(b->misses));
    return failed ? err_set(e, ERR_MEMORY, "no memory for the run's state") : OK;
}

enum status best_from_json(struct best *b, const json_t *object, const char *where, struct err *e)
{
    TRY(json_get_int(object, "best_step", &b->step, where, e));
    TRY(json_get_double(object, "best_metric", &b->metric, where, e));
    return json_get_int(object, "evaluations_since_best", &b->misses, where, e);
}
