#include "run/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "ckpt/safetensors_write.h"
#include "run/loading.h"

static int of_adapter(const struct param *p) { return (p->flags & PARAM_FLOAT) != 0; }

/* Under which names a parameter lies in the base's files or the adapter's. A saved module is in
 * both; a table that is embedding and head is in the adapter twice, as PEFT would have it. */
struct file_names {
    char name[2][PARAM_NAME_MAX + sizeof LORA_PREFIX];
    int n;
};

static struct file_names names_in(const struct engine *g, int32_t index, int adapter)
{
    struct file_names f = {0};
    const struct param *p = &g->params.params[index];
    if (of_adapter(p) == adapter) {
        snprintf(f.name[f.n++], sizeof f.name[0], "%s", p->name);
    } else if (p->flags & PARAM_SAVED) {
        snprintf(f.name[f.n++], sizeof f.name[0], LORA_PREFIX "%s", p->name);
        if (index == g->model.embedding && index == g->model.head)
            snprintf(f.name[f.n++], sizeof f.name[0], LORA_PREFIX WEIGHT_HEAD);
    }
    return f;
}

/* --- loading --- */

/* The parameter's tensor, or with `rows` (0: as many) one that has fewer. */
static enum status find_one(const struct param *p, int64_t rows, const struct tensor_files *f,
                            const char *name, const struct tensor_info **out, struct err *e)
{
    int64_t shape[2] = {rows ? rows : p->rows, p->cols};
    int vector = (p->flags & PARAM_VECTOR) != 0;
    *out = tensor_files_find(f, name);
    return tensor_expect(f, *out, name, vector ? 1 : 2, vector ? shape + 1 : shape, e);
}

static int is_known(const struct engine *g, const char *name, int adapter)
{
    int32_t i = param_set_find(&g->params, name);
    if (i >= 0) return of_adapter(&g->params.params[i]) == adapter;
    if (adapter && !strncmp(name, LORA_PREFIX, strlen(LORA_PREFIX))) {
        const char *base = name + strlen(LORA_PREFIX);
        i = strcmp(base, WEIGHT_HEAD) ? param_set_find(&g->params, base) : g->model.head;
        return i >= 0 && g->params.params[i].flags & PARAM_SAVED;
    }
    size_t n =
        strlen(name); /* old files hold what is computed here; a tied head repeats the embedding */
    int stale = n > 9 && !strcmp(name + n - 9, ".inv_freq");
    return !adapter && (stale || (g->model.config->tied && !strcmp(name, WEIGHT_HEAD)));
}

static enum status refuse_unknown(const struct engine *g, const struct tensor_files *f, int adapter,
                                  struct err *e)
{
    for (size_t i = 0; i < tensor_files_count(f); i++) {
        const struct tensor_info *t = tensor_files_at(f, i);
        if (is_known(g, t->name, adapter)) continue;
        err_at(e, ERR_FORMAT, tensor_file_path(f, t), 0, 0, "%s has no place in this %s", t->name,
               adapter ? "adapter" : "model");
        return err_hint(e, "the config beside the weights describes another %s",
                        adapter ? "adapter" : "model");
    }
    return OK;
}

/* Adds what parameter `index` is read from. A table that the file holds twice is read once, and the
 * other time only looked at. */
static enum status add_param(struct loading *l, int32_t index, const struct file_names *names,
                             int64_t rows, struct err *e)
{
    const struct param *p = &l->g->params.params[index];
    for (int k = 0; k < names->n; k++) {
        const struct tensor_info *t;
        enum status s = find_one(p, rows, l->files, names->name[k], &t, e);
        if (s == ERR_FORMAT && names->n > 1)
            err_hint(e, "this base has one table for both; an adapter that trained them apart, or "
                        "one alone, does not fit it");
        TRY(s);
        if (k)
            loading_raw(l, t, t->type, NULL);
        else
            loading_param(l, t, p);
    }
    return OK;
}

/* Both tables of `at` must be the same. */
static enum status check_twins(const struct loading *l, size_t at, const struct file_names *names,
                               struct err *e)
{
    if (!memcmp(loading_digest(l, at), loading_digest(l, at + 1), sizeof l->loads->digest))
        return OK;
    return err_set(e, ERR_UNSUPPORTED, "%s and %s differ, but this base has one table for both",
                   names->name[0], names->name[1]);
}

static enum status load_tensors(struct loading *l, int adapter, struct err *e)
{
    struct engine *g = l->g;
    size_t at = 0;
    TRY(refuse_unknown(g, l->files, adapter, e));
    for (int32_t i = 0; i < g->params.count; i++) {
        struct file_names names = names_in(g, i, adapter);
        int table = i == g->model.embedding || i == g->model.head;
        TRY(add_param(l, i, &names, table && !adapter ? g->options.base_vocab : 0, e));
    }
    TRY(loading_run(l, e));
    for (int32_t i = 0; i < g->params.count; i++) {
        struct file_names names = names_in(g, i, adapter);
        if (names.n == 2) TRY(check_twins(l, at, &names, e));
        at += (size_t)names.n;
    }
    return OK;
}

/* Of all that was read, in the parameters' order. */
static enum status hash_all(const struct loading *l, char out[HASH_HEX_SIZE], struct err *e)
{
    struct hasher *h = hasher_create();
    if (!h) return err_set(e, ERR_MEMORY, "no memory to hash weights");
    for (size_t i = 0; i < l->count; i++)
        for (int w = 0; w < 2; w++) hasher_u64(h, loading_digest(l, i)[w]);
    hasher_hex(h, out);
    hasher_destroy(h);
    return OK;
}

/* `hash` NULL: nobody asks. */
static enum status load_all(struct engine *g, const char *path, int adapter, char *hash,
                            struct err *e)
{
    struct tensor_files *f = NULL;
    struct loading l = {0};
    enum status s = tensor_files_open(&f, path, e);
    if (!s) s = loading_begin(&l, g, f, (size_t)g->params.count + 1, e); /* one table twice */
    if (!s) s = load_tensors(&l, adapter, e);
    if (!s && hash) s = hash_all(&l, hash, e);
    loading_free(&l);
    tensor_files_close(f);
    return s;
}

enum status weights_load_base(struct engine *g, const char *dir, struct err *e)
{
    return load_all(g, dir, 0, g->base_hash, e);
}

enum status weights_load_adapter(struct engine *g, const char *dir, struct err *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    TRY(load_all(g, path, 1, NULL, e));
    engine_refresh(g);
    return OK;
}

/* In double, so that the order of the sum shows in no bit of the mean. */
static void fill_table(struct engine *g, int32_t table, int32_t first, int32_t count, double *sum,
                       float *row)
{
    const struct param *p = &g->params.params[table];
    size_t cols = (size_t)p->cols;
    for (size_t c = 0; c < cols; c++) sum[c] = 0;
    for (int32_t r = 0; r < first; r++) {
        param_fetch(p, &g->device, (size_t)r * cols, cols, row);
        for (size_t c = 0; c < cols; c++) sum[c] += (double)row[c];
    }
    for (size_t c = 0; c < cols; c++) row[c] = (float)(sum[c] / first);
    for (int32_t r = first; r < first + count; r++)
        param_store(p, &g->device, (size_t)r * cols, cols, row);
}

enum status weights_fill_rows(struct engine *g, int32_t first, int32_t count, struct err *e)
{
    size_t cols = (size_t)g->options.config->hidden_size;
    double *sum = mem_calloc(cols, sizeof *sum);
    float *row = mem_calloc(cols, sizeof *row);
    if (sum && row) {
        fill_table(g, g->model.embedding, first, count, sum, row);
        if (g->model.head != g->model.embedding)
            fill_table(g, g->model.head, first, count, sum, row);
    }
    enum status s = sum && row ? OK : err_set(e, ERR_MEMORY, "no memory for new rows");
    mem_free(sum);
    mem_free(row);
    return s;
}

/* --- saving --- */

/* What the state has of a parameter: itself; its moments as numbers, or as codes and the largest
 * magnitudes of their blocks. */
enum { STATE_PARTS = 5 };

struct state_part {
    const char *suffix; /* of the name in the file */
    float *floats;      /* device; NULL: the parameter itself, or codes */
    uint8_t *codes;     /* device */
    int absent, blocks; /* blocks: one number each */
};

static struct state_part state_part(const struct param *p, int part)
{
    const struct state_part parts[STATE_PARTS] = {
        {.suffix = ""},
        {.suffix = ".adam_m", .floats = p->m, .codes = p->m_code},
        {.suffix = ".adam_v", .floats = p->v, .codes = p->v_code},
        {.suffix = ".adam_m_max", .floats = p->m_max, .absent = !p->m_code, .blocks = 1},
        {.suffix = ".adam_v_max", .floats = p->v_max, .absent = !p->v_code, .blocks = 1},
    };
    return parts[part];
}

struct fetch {
    struct engine *g;
    const struct param *p;
    int part; /* of the state: the parameter itself, a moment */
    char name[PARAM_NAME_MAX + sizeof LORA_PREFIX];
};

/* From the device: floats, or codes. */
static void fetch(const struct fetch *f, size_t first, size_t count, void *out)
{
    struct device *d = &f->g->device;
    struct state_part s = state_part(f->p, f->part);
    if (s.codes)
        d->k->download(d, out, s.codes + first, count);
    else if (s.floats)
        d->k->download(d, out, s.floats + first, count * sizeof(float));
    else
        param_fetch(f->p, d, first, count, out);
}

/* Where a part of p lies in a copy, in bytes. Codes leave room behind them, where their maxima are.
 */
static size_t place_in_copy(const struct engine *g, const struct param *p, int part)
{
    size_t slot = part < 3 ? (size_t)part : (size_t)part - 2;
    size_t at = (slot * g->params.flat_count + p->flat) * sizeof(float);
    return part < 3 ? at : at + size_align(p->n, sizeof(float));
}

static enum status fill_bytes(void *context, size_t first, size_t count, void *out, struct err *e)
{
    const struct fetch *f = context;
    size_t each = state_part(f->p, f->part).codes ? 1 : sizeof(float);
    (void)e;
    if (f->g->copy && f->p->trainable)
        memcpy(out, (const char *)f->g->copy + place_in_copy(f->g, f->p, f->part) + first * each,
               count * each);
    else
        fetch(f, first, count, out);
    return OK;
}

static enum status fill(void *context, size_t first, size_t count, float *out, struct err *e)
{
    return fill_bytes(context, first, count, out, e);
}

size_t weights_copy_bytes(const struct engine *g)
{
    return 3 * g->params.flat_count * sizeof(float);
}

void weights_copy(struct engine *g, float *to)
{
    for (int32_t i = 0; i < g->params.count; i++) {
        const struct param *p = &g->params.params[i];
        for (int part = 0; p->trainable && part < STATE_PARTS; part++) {
            struct state_part s = state_part(p, part);
            if (!s.absent)
                fetch(&(struct fetch){.g = g, .p = p, .part = part}, 0,
                      s.blocks ? param_blocks(p) : p->n, (char *)to + place_in_copy(g, p, part));
        }
    }
}

/* Sources for a writer; `list` is heap, one allocation with what the sources point to. */
struct source_list {
    struct tensor_source *sources;
    struct fetch *fetches;
    size_t count;
};

static enum status list_create(struct source_list *l, size_t most, struct err *e)
{
    l->count = 0;
    l->sources = mem_calloc(most, sizeof *l->sources);
    l->fetches = mem_calloc(most, sizeof *l->fetches);
    return l->sources && l->fetches ? OK
                                    : err_set(e, ERR_MEMORY, "no memory to list %zu tensors", most);
}

static void list_free(struct source_list *l)
{
    mem_free(l->sources);
    mem_free(l->fetches);
}

static void list_add(struct source_list *l, struct engine *g, const struct param *p, int part,
                     const char *name, const char *suffix, enum file_type type)
{
    struct fetch *f = &l->fetches[l->count];
    struct tensor_source *s = &l->sources[l->count++];
    int vector = (p->flags & PARAM_VECTOR) != 0;
    f->g = g;
    f->p = p;
    f->part = part;
    snprintf(f->name, sizeof f->name, "%s%s", name, suffix);
    *s = (struct tensor_source){.name = f->name,
                                .type = type,
                                .rank = vector ? 1 : 2,
                                .shape = {vector ? p->cols : p->rows, p->cols},
                                .fill = fill,
                                .context = f};
}

static enum status list_params(struct source_list *l, struct engine *g, int adapter,
                               enum file_type type, struct err *e)
{
    TRY(list_create(l, (size_t)g->params.count + 1, e)); /* one table may be there twice */
    for (int32_t i = 0; i < g->params.count; i++) {
        struct file_names names = names_in(g, i, adapter);
        for (int k = 0; k < names.n; k++)
            list_add(l, g, &g->params.params[i], 0, names.name[k], "", type);
    }
    return OK;
}

enum status weights_save_base(struct engine *g, const char *dir, enum file_type type, struct err *e)
{
    struct source_list l = {0};
    enum status s = list_params(&l, g, 0, type, e);
    if (!s) s = tensor_dir_write(dir, l.sources, l.count, TENSOR_SHARD_BYTES, e);
    list_free(&l);
    return s;
}

enum status weights_save_adapter(struct engine *g, const char *dir, enum file_type type,
                                 struct err *e)
{
    char path[4096];
    struct source_list l = {0};
    enum status s = list_params(&l, g, 1, type, e);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    if (!s) s = tensor_file_write(path, l.sources, l.count, e);
    list_free(&l);
    return s;
}

/* --- resuming --- */

static void list_state(struct source_list *l, struct engine *g, const struct param *p, int part)
{
    struct state_part s = state_part(p, part);
    if (s.absent) return;
    list_add(l, g, p, part, p->name, s.suffix, s.codes ? FILE_U8 : FILE_F32);
    struct tensor_source *source = &l->sources[l->count - 1];
    if (s.codes) source->fill_bytes = fill_bytes;
    if (!s.blocks) return;
    source->rank = 1;
    source->shape[0] = (int64_t)param_blocks(p);
}

enum status weights_save_state(struct engine *g, const char *path, struct err *e)
{
    struct source_list l = {0};
    enum status s = list_create(&l, STATE_PARTS * (size_t)g->params.count, e);
    for (int32_t i = 0; !s && i < g->params.count; i++) {
        const struct param *p = &g->params.params[i];
        for (int part = 0; p->trainable && part < STATE_PARTS; part++) list_state(&l, g, p, part);
    }
    if (!s) s = tensor_file_write(path, l.sources, l.count, e);
    list_free(&l);
    return s;
}

static enum status add_state(struct loading *l, const struct param *p, int part, struct err *e)
{
    struct state_part s = state_part(p, part);
    char name[PARAM_NAME_MAX + 16];
    int64_t shape[2] = {p->rows, p->cols}, blocks = (int64_t)param_blocks(p);
    int vector = s.blocks || p->flags & PARAM_VECTOR;
    const int64_t *want = s.blocks ? &blocks : vector ? shape + 1 : shape;
    snprintf(name, sizeof name, "%s%s", p->name, s.suffix);
    const struct tensor_info *t = tensor_files_find(l->files, name);
    if (s.codes)
        TRY(tensor_expect_type(l->files, t, name, FILE_U8, vector ? 1 : 2, want, e));
    else
        TRY(tensor_expect(l->files, t, name, vector ? 1 : 2, want, e));
    if (s.codes)
        loading_raw(l, t, FILE_U8, s.codes);
    else if (s.floats)
        loading_raw(l, t, FILE_F32, s.floats);
    else
        loading_param(l, t, p);
    return OK;
}

static enum status add_states(struct loading *l, const char *path, struct err *e)
{
    const struct engine *g = l->g;
    for (int32_t i = 0; i < g->params.count; i++) {
        const struct param *p = &g->params.params[i];
        for (int part = 0; p->trainable && part < STATE_PARTS; part++)
            if (!state_part(p, part).absent) TRY(add_state(l, p, part, e));
    }
    if (tensor_files_count(l->files) == l->count) return OK;
    return err_at(e, ERR_FORMAT, path, 0, 0, "%zu tensors, this run has %zu",
                  tensor_files_count(l->files), l->count);
}

enum status weights_load_state(struct engine *g, const char *path, struct err *e)
{
    struct tensor_files *f = NULL;
    struct loading l = {0};
    enum status s = tensor_files_open(&f, path, e);
    if (!s) s = loading_begin(&l, g, f, STATE_PARTS * (size_t)g->params.count, e);
    if (!s) s = add_states(&l, path, e);
    if (!s) s = loading_run(&l, e);
    if (!s) engine_refresh(g);
    loading_free(&l);
    tensor_files_close(f);
    return s;
}

/* A tensor as rows of the header's JSON, text and objects, its info, source and fetch. */
#define TENSOR_BYTES ((size_t)2048)

size_t weights_memory(const struct engine *g)
{
    size_t parts = g->params.moments == PARAM_MOMENTS_8BIT ? STATE_PARTS : 3;
    size_t tensors = parts * (size_t)g->params.count;
    uint64_t bytes = 0;
    for (int32_t i = 0; i < g->params.count; i++) bytes += g->params.params[i].n * sizeof(float);
    return loading_memory(g, tensors, bytes) + tensors * TENSOR_BYTES;
}
