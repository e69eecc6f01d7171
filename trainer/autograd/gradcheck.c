#include <math.h>
#include <string.h>

#include "autograd/tape_internal.h"
#include "base/mem.h"
#include "base/rng.h"

/* What one check needs; the loss is sum of seed * root in double. */
struct check {
    struct device *device;
    struct tape *tape;
    struct tape_plan plan;
    struct tensor *(*record)(struct tape *t, void *context);
    void *context;
    void *step, *scratch;
    float *seed;
    size_t seed_count;
};

static enum status run_forward(struct check *c, int with_backward, struct tensor **root,
                               struct err *e)
{
    tape_reset(c->tape, with_backward);
    *root = tape_keep(c->record(c->tape, c->context));
    TRY(tape_status(c->tape, e));
    TRY(tape_plan(c->tape, &c->plan, e));
    const struct kernels *k = c->device->k;
    TRY(k->alloc(c->device, c->plan.step_bytes + 1, &c->step, e));
    enum status s = k->alloc(c->device, c->plan.scratch_bytes + 1, &c->scratch, e);
    if (!s) s = tape_bind(c->tape, &c->plan, c->step, c->scratch, e);
    if (!s) tape_forward(c->tape);
    return s;
}

static void end_run(struct check *c)
{
    c->device->k->release(c->device, c->step, c->plan.step_bytes + 1);
    c->device->k->release(c->device, c->scratch, c->plan.scratch_bytes + 1);
    c->step = c->scratch = NULL;
}

static enum status loss_now(struct check *c, double *loss, struct err *e)
{
    struct tensor *root;
    enum status s = run_forward(c, 0, &root, e);
    *loss = 0;
    if (!s) {
        const float *y = root->data;
        for (size_t i = 0; i < c->seed_count; i++) *loss += (double)c->seed[i] * y[i];
    }
    end_run(c);
    return s;
}

static enum status analytic(struct check *c, struct err *e)
{
    struct tensor *root;
    enum status s = run_forward(c, 1, &root, e);
    if (!s) {
        c->seed_count = (size_t)root->rows * (size_t)root->cols;
        c->seed = mem_calloc(c->seed_count, sizeof *c->seed);
        if (!c->seed) s = err_set(e, ERR_MEMORY, "no memory for a gradient check");
    }
    if (!s) {
        rng_fill_uniform(rng_key(7, RNG_INIT, 0), c->seed, (int64_t)c->seed_count, 0.5f, 1.5f);
        tape_backward(c->tape, root, c->seed);
        s = c->device->k->sync(c->device, e);
    }
    end_run(c);
    return s;
}

static enum status check_param(struct check *c, const struct gradcheck_param *p, int samples,
                               double step, double *worst, struct err *e)
{
    double floor = 0;
    for (size_t i = 0; i < p->n; i++) floor = fmax(floor, fabs(p->grad[i]));
    floor = 0.1 * floor + 1e-6; /* elements far below the largest are judged against it */
    for (int k = 0; k < samples; k++) {
        uint32_t words[4], counter[4] = {(uint32_t)k, 1, 2, 3};
        rng_words(rng_key(11, RNG_INIT, p->n), counter, words);
        size_t i = words[0] % p->n;
        float kept = p->data[i];
        double up, down;
        p->data[i] = kept + (float)step;
        double high = p->data[i];
        TRY(loss_now(c, &up, e));
        p->data[i] = kept - (float)step;
        double low = p->data[i];
        TRY(loss_now(c, &down, e));
        p->data[i] = kept;
        double numeric = (up - down) / (high - low);
        *worst = fmax(*worst, fabs(numeric - p->grad[i]) / (fabs(numeric) + floor));
    }
    return OK;
}

enum status tape_gradcheck(struct device *device,
                           struct tensor *(*record)(struct tape *t, void *context), void *context,
                           const struct gradcheck_param *params, int num_params, int samples,
                           double step, double *worst, struct err *e)
{
    struct check c = {.device = device, .record = record, .context = context};
    *worst = 0;
    enum status s = tape_create(&c.tape, device, 512, e);
    for (int p = 0; !s && p < num_params; p++)
        memset(params[p].grad, 0, params[p].n * sizeof(float));
    if (!s) s = analytic(&c, e);
    for (int p = 0; !s && p < num_params; p++)
        s = check_param(&c, &params[p], samples, step, worst, e);
    mem_free(c.seed);
    tape_plan_free(&c.plan);
    tape_destroy(c.tape);
    return s;
}
