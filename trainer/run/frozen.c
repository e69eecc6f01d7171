#include "run/frozen.h"

#include "base/mem.h"

enum status frozen_create(struct frozen *f, struct param_set *params,
                          int (*wanted)(const void *context, const struct param *p),
                          const void *context, struct err *e)
{
    *f = (struct frozen){.params = params};
    f->copies = mem_calloc((size_t)params->count + 1, sizeof *f->copies);
    if (!f->copies) return err_set(e, ERR_MEMORY, "no memory for the reference's weights");
    for (int32_t i = 0; i < params->count; i++)
        if (wanted(context, &params->params[i])) f->copies[f->count++].param = i;
    return OK;
}

void frozen_free(struct frozen *f)
{
    mem_free(f->copies);
    *f = (struct frozen){0};
}

static size_t element(const struct param *p, const struct device *d)
{
    return p->flags & PARAM_FLOAT ? sizeof(float) : dtype_size(d->type);
}

/* Copies first ... end-1 are of one matrix. */
static int32_t group_end(const struct frozen *f, int32_t first)
{
    int32_t end = first + 1;
    while (end < f->count && f->copies[end].param == f->copies[end - 1].param + 1 &&
           f->params->params[f->copies[end].param].flags & PARAM_JOINED)
        end++;
    return end;
}

void frozen_place(struct frozen *f, const struct device *d, struct arena *arena)
{
    for (int32_t first = 0, end; first < f->count; first = end) {
        size_t bytes = 0;
        end = group_end(f, first);
        for (int32_t i = first; i < end; i++) {
            const struct param *p = &f->params->params[f->copies[i].param];
            bytes += p->n * element(p, d);
        }
        char *at = arena_take(arena, bytes);
        for (int32_t i = first; i < end; i++) {
            const struct param *p = &f->params->params[f->copies[i].param];
            f->copies[i].data = at;
            if (at) at += p->n * element(p, d);
        }
    }
}

void frozen_keep(struct frozen *f, struct device *d)
{
    for (int32_t i = 0; i < f->count; i++) {
        const struct param *p = &f->params->params[f->copies[i].param];
        size_t row = (size_t)p->cols * element(p, d);
        d->k->copy_rows(d, f->copies[i].data, row, p->data, row, p->rows, row);
    }
}

void frozen_swap(struct frozen *f)
{
    for (int32_t i = 0; i < f->count; i++) {
        struct frozen_copy *c = &f->copies[i];
        struct param *p = &f->params->params[c->param];
        void *data = p->data;
        float *master = p->master;
        p->data = c->data;
        p->master = c->master;
        c->data = data;
        c->master = master;
    }
}
