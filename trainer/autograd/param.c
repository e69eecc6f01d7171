#include "autograd/param.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "kernels/codes.h"

enum status param_set_add(struct param_set *s, const char *name, int32_t rows, int32_t cols,
                          unsigned flags, int32_t *index, struct err *e)
{
    size_t n;
    if (rows < 1 || cols < 1 || size_mul((size_t)rows, (size_t)cols, &n) || n > (size_t)1 << 40)
        return err_set(e, ERR_SHAPE, "%s: a size of %dx%d", name, (int)rows, (int)cols);
    if (strlen(name) >= PARAM_NAME_MAX) return err_set(e, ERR_SHAPE, "%s: name too long", name);
    if (s->count == s->capacity) {
        int32_t capacity = s->capacity ? 2 * s->capacity : 64;
        struct param *grown = mem_resize(s->params, (size_t)capacity, sizeof *grown);
        if (!grown) return err_set(e, ERR_MEMORY, "no memory for %d parameters", (int)capacity);
        s->params = grown;
        s->capacity = capacity;
    }
    struct param *p = &s->params[s->count];
    *p = (struct param){.rows = rows, .cols = cols, .flags = flags, .n = n};
    memcpy(p->name, name, strlen(name) + 1);
    *index = s->count++;
    return OK;
}

void param_set_free(struct param_set *s)
{
    mem_free(s->params);
    *s = (struct param_set){0};
}

int32_t param_set_find(const struct param_set *s, const char *name)
{
    for (int32_t i = 0; i < s->count; i++)
        if (!strcmp(s->params[i].name, name)) return i;
    return -1;
}

static int in_flat_data(const struct param *p, const struct device *d)
{
    return p->trainable && (d->type == DTYPE_F32 || p->flags & PARAM_FLOAT);
}

static int has_master(const struct param_set *s, const struct param *p, const struct device *d)
{
    return p->trainable && (!s->no_masters || in_flat_data(p, d));
}

/* Places in the flat space; groups start on an arena bound, their members follow without a gap. */
static void lay_flat(struct param_set *s)
{
    const size_t align = ARENA_ALIGN / sizeof(float);
    s->flat_count = 0;
    for (int32_t i = 0; i < s->count; i++) {
        struct param *p = &s->params[i];
        if (!p->trainable) continue;
        if (!(p->flags & PARAM_JOINED)) s->flat_count = size_align(s->flat_count, align);
        p->flat = s->flat_count;
        s->flat_count += p->n;
    }
    s->flat_count = size_align(s->flat_count, align);
}

/* One take for a parameter and those joined to it. */
static void place_group(struct param_set *s, int32_t first, int32_t end, size_t element,
                        struct arena *arena)
{
    size_t n = 0;
    for (int32_t i = first; i < end; i++) n += s->params[i].n;
    char *at = arena_take(arena, n * element);
    for (int32_t i = first; i < end; i++) {
        s->params[i].data = at;
        if (at) at += s->params[i].n * element;
    }
}

size_t param_blocks(const struct param *p) { return (p->n + CODES_BLOCK - 1) / CODES_BLOCK; }

static int is_coded(const struct param_set *s, const struct param *p)
{
    return s->moments == PARAM_MOMENTS_8BIT && p->n >= PARAM_MIN_8BIT &&
           !(p->flags & PARAM_EMBEDDING);
}

/* Both moments of all that is trained, each parameter's on an arena bound. */
static void place_moments(struct param_set *s, struct arena *arena)
{
    for (int32_t i = 0; i < s->count; i++) {
        struct param *p = &s->params[i];
        if (!p->trainable || !s->moments) continue;
        if (is_coded(s, p)) {
            p->m_code = arena_take(arena, p->n);
            p->v_code = arena_take(arena, p->n);
            p->m_max = arena_take(arena, param_blocks(p) * sizeof(float));
            p->v_max = arena_take(arena, param_blocks(p) * sizeof(float));
        } else {
            p->m = arena_take(arena, p->n * sizeof(float));
            p->v = arena_take(arena, p->n * sizeof(float));
        }
    }
}

static float *take_flat(struct param_set *s, struct arena *arena, int wanted)
{
    return wanted && s->flat_count ? arena_take(arena, s->flat_count * sizeof(float)) : NULL;
}

void param_set_place(struct param_set *s, const struct device *d, struct arena *arena)
{
    int masters = 0;
    lay_flat(s);
    for (int32_t i = 0; i < s->count; i++) masters |= has_master(s, &s->params[i], d);
    s->flat_master = take_flat(s, arena, masters);
    s->flat_grad = take_flat(s, arena, 1);
    place_moments(s, arena);
    for (int32_t i = 0; i < s->count; i++) {
        struct param *p = &s->params[i];
        p->master = has_master(s, p, d) && s->flat_master ? s->flat_master + p->flat : NULL;
        p->grad = p->trainable && s->flat_grad ? s->flat_grad + p->flat : NULL;
    }
    for (int32_t first = 0, end; first < s->count; first = end) {
        const struct param *p = &s->params[first];
        for (end = first + 1; end < s->count && s->params[end].flags & PARAM_JOINED; end++)
            assert(s->params[end].trainable == p->trainable);
        if (in_flat_data(p, d)) {
            for (int32_t i = first; i < end; i++) s->params[i].data = s->params[i].master;
            continue;
        }
        place_group(s, first, end, p->flags & PARAM_FLOAT ? sizeof(float) : dtype_size(d->type),
                    arena);
    }
}

struct tensor *param_tensor(struct tape *t, const struct param_set *s, int32_t first, int32_t count)
{
    const struct param *p = &s->params[first];
    int32_t rows = p->rows, cols = p->cols;
    for (int32_t i = first + 1; i < first + count; i++) {
        assert(s->params[i].flags & PARAM_JOINED);
        if (p->flags & PARAM_VECTOR)
            cols += s->params[i].cols;
        else
            rows += s->params[i].rows;
    }
    return tape_param(t, p->name, p->data, p->grad, p->trainable, rows, cols,
                      p->flags & PARAM_FLOAT ? ELEMENT_FLOAT : ELEMENT_DEVICE);
}

static int is_float(const struct param *p, const struct device *d)
{
    return p->flags & PARAM_FLOAT || d->type == DTYPE_F32;
}

void param_store(const struct param *p, struct device *d, size_t first, size_t count,
                 const float *values)
{
    if (p->master) d->k->upload(d, p->master + first, values, count * sizeof *values);
    if (p->data == p->master) return;
    if (is_float(p, d))
        d->k->upload(d, (float *)p->data + first, values, count * sizeof *values);
    else
        d->k->upload_floats(d, (char *)p->data + first * dtype_size(d->type), values, count);
}

void param_fetch(const struct param *p, struct device *d, size_t first, size_t count, float *values)
{
    const float *master = p->master ? p->master : p->data;
    if (p->master || is_float(p, d))
        d->k->download(d, values, master + first, count * sizeof *values);
    else
        d->k->download_floats(d, values, (const char *)p->data + first * dtype_size(d->type),
                              count);
}
