#include "adapter/lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

static const char *last_component(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

static int matches(const char *target, const char *path)
{
    size_t t = strlen(target), p = strlen(path);
    if (t > p || strcmp(path + p - t, target)) return 0;
    return t == p || path[p - t - 1] == '.';
}

static int wanted(const struct lora_options *o, const char *path)
{
    for (size_t i = 0; i < o->num_targets; i++)
        if (matches(o->targets[i], path)) return 1;
    return o->num_targets == 0;
}

/* The distinct last components of all slots, for a hint. */
static void list_names(const struct linear_slot *slots, int32_t n, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (int32_t s = 0; s < n; s++)
        for (int p = 0; p < slots[s].num_parts; p++) {
            const char *name = last_component(slots[s].parts[p].path);
            if (strstr(out, name) || used + strlen(name) + 3 > size) continue;
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", name);
        }
}

static enum status check_options(const struct lora_options *o, const struct linear_slot *slots,
                                 int32_t n, struct err *e)
{
    if (o->r < 1) return err_set(e, ERR_CONFIG, "lora_r is %d; it must be at least 1", (int)o->r);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return err_set(e, ERR_CONFIG, "lora_dropout is %g; it must be in [0, 1)", o->dropout);
    for (size_t i = 0; i < o->num_targets; i++) {
        int found = 0;
        for (int32_t s = 0; s < n; s++)
            for (int p = 0; p < slots[s].num_parts; p++)
                found |= matches(o->targets[i], slots[s].parts[p].path);
        if (found) continue;
        char names[256];
        list_names(slots, n, names, sizeof names);
        err_set(e, ERR_CONFIG, "no linear is named \"%s\"", o->targets[i]);
        return err_hint(e, "there are %s; or all-linear", names);
    }
    return OK;
}

static double scale_of(const struct lora_options *o)
{
    return o->alpha / (o->rslora ? sqrt((double)o->r) : (double)o->r);
}

/* The stacked A of a slot first, then its B. */
static enum status add_slot(struct lora *l, int32_t s, struct err *e)
{
    const struct linear_slot *slot = &l->slots[s];
    struct lora_slot *f = &l->filled[s];
    char name[PARAM_NAME_MAX];
    int32_t r = l->options.r, index;
    f->a = -1;
    for (int p = 0; p < slot->num_parts; p++) {
        if (!wanted(&l->options, slot->parts[p].path)) continue;
        snprintf(name, sizeof name, LORA_PREFIX "%s" LORA_A_SUFFIX, slot->parts[p].path);
        unsigned joined = f->num_parts ? PARAM_JOINED : 0;
        TRY(param_set_add(l->params, name, r, slot->in, PARAM_FLOAT | joined, &index, e));
        if (f->a < 0) f->a = index;
        int i = f->num_parts++;
        f->part[i] = p;
        f->parts[i] = (struct kern_lora_part){.first = slot->parts[p].first,
                                              .out = slot->parts[p].out,
                                              .rank_first = i * r,
                                              .rank = r,
                                              .scale = (float)scale_of(&l->options),
                                              .module = (uint32_t)(s * SLOT_PARTS + p)};
    }
    for (int i = 0; i < f->num_parts; i++) {
        const struct slot_part *part = &slot->parts[f->part[i]];
        snprintf(name, sizeof name, LORA_PREFIX "%s" LORA_B_SUFFIX, part->path);
        TRY(param_set_add(l->params, name, part->out, r, PARAM_FLOAT, &f->b[i], e));
    }
    return OK;
}

enum status lora_create(struct lora *l, const struct linear_slot *slots, int32_t num_slots,
                        const struct lora_options *options, struct param_set *params, struct err *e)
{
    *l = (struct lora){
        .options = *options, .params = params, .slots = slots, .num_slots = num_slots};
    TRY(check_options(options, slots, num_slots, e));
    l->filled = mem_calloc((size_t)num_slots, sizeof *l->filled);
    if (!l->filled) return err_set(e, ERR_MEMORY, "no memory for %d adapters", (int)num_slots);
    for (int32_t s = 0; s < num_slots; s++) TRY(add_slot(l, s, e));
    return OK;
}

void lora_free(struct lora *l)
{
    mem_free(l->filled);
    *l = (struct lora){0};
}

void lora_bind(struct lora *l)
{
    for (int32_t s = 0; s < l->num_slots; s++)
        for (int i = 0; i < l->filled[s].num_parts; i++) {
            const struct param *b = &l->params->params[l->filled[s].b[i]];
            l->filled[s].parts[i].b = b->data;
            l->filled[s].parts[i].db = b->grad;
        }
}

static enum status init_one(struct lora *l, struct device *d, int32_t index, int is_a,
                            uint64_t seed, struct err *e)
{
    const struct param *p = &l->params->params[index];
    float *values = mem_calloc(p->n, sizeof *values), bound = 1 / sqrtf((float)p->cols);
    if (!values) return err_set(e, ERR_MEMORY, "no memory to initialise %s", p->name);
    if (is_a)
        rng_fill_uniform(rng_key(seed, RNG_INIT, hash_name(p->name)), values, (int64_t)p->n, -bound,
                         bound);
    param_store(p, d, 0, p->n, values);
    mem_free(values);
    return OK;
}

enum status lora_init_weights(struct lora *l, struct device *d, uint64_t seed, struct err *e)
{
    for (int32_t s = 0; s < l->num_slots; s++)
        for (int i = 0; i < l->filled[s].num_parts; i++) {
            TRY(init_one(l, d, l->filled[s].a + i, 1, seed, e));
            TRY(init_one(l, d, l->filled[s].b[i], 0, seed, e));
        }
    return OK;
}

void lora_set_dropout(struct lora *l, const struct rng_key *key, const struct tokens *tokens)
{
    l->dropout =
        (struct kern_dropout){(float)l->options.dropout, key, tokens->documents, tokens->positions};
}

void lora_clear_dropout(struct lora *l) { l->dropout = (struct kern_dropout){0}; }

static struct tensor *apply(void *context, struct tape *t, const struct linear_slot *slot,
                            struct tensor *x, struct tensor *y)
{
    struct lora *l = context;
    const struct lora_slot *f = &l->filled[slot->id];
    if (!f->num_parts) return y;
    struct kern_lora args = {.R = f->num_parts * l->options.r,
                             .parts = f->parts,
                             .num_parts = f->num_parts,
                             .dropout = l->dropout};
    return op_lora(t, x, y, param_tensor(t, l->params, f->a, f->num_parts), &args);
}

struct slot_filler lora_filler(struct lora *l) { return (struct slot_filler){l, apply}; }

/* W [out, in] += (s B^T)^T A: the same product as a weight gradient over r rows. */
static enum status merge_part(const struct lora *l, struct device *d, int32_t s, int i,
                              struct err *e)
{
    const struct lora_slot *f = &l->filled[s];
    const struct kern_lora_part *part = &f->parts[i];
    const struct param *w = &l->params->params[l->slots[s].parts[f->part[i]].param];
    const struct param *b = &l->params->params[f->b[i]];
    int32_t r = l->options.r, out = part->out, in = l->slots[s].in;
    float *values = mem_calloc(b->n, 2 * sizeof *values), *turned = values + b->n;
    void *device_turned = NULL;
    size_t bytes = b->n * sizeof *values;
    if (!values) return err_set(e, ERR_MEMORY, "no memory to merge %s", w->name);
    enum status status = d->k->alloc(d, bytes, &device_turned, e);
    if (!status) {
        param_fetch(b, d, 0, b->n, values);
        for (int32_t o = 0; o < out; o++)
            for (int32_t k = 0; k < r; k++)
                turned[(size_t)k * (size_t)out + (size_t)o] =
                    part->scale * values[(size_t)o * (size_t)r + (size_t)k];
        d->k->upload(d, device_turned, turned, bytes);
        d->k->linear_backward_weight(d, w->data, device_turned, l->params->params[f->a + i].data, r,
                                     in, out, out, in);
        status = d->k->sync(d, e);
        d->k->release(d, device_turned, bytes);
    }
    mem_free(values);
    return status;
}

enum status lora_merge(const struct lora *l, struct device *d, struct err *e)
{
    for (int32_t s = 0; s < l->num_slots; s++)
        for (int i = 0; i < l->filled[s].num_parts; i++) TRY(merge_part(l, d, s, i, e));
    return OK;
}
