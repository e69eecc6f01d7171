#include "run/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "ckpt/safetensors.h"
#include "ckpt/safetensors_write.h"

#define BLOCK ((size_t)1 << 18) /* elements read at once: 1 MB */

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

/* Streams a tensor of the file through `block` to where `put` wants it. */
struct sink {
    struct engine *g;
    const struct param *p;
    float *moment;         /* NULL: the parameter itself */
    struct hasher *hasher; /* of all that passes; NULL: nobody asks */
    int64_t rows;          /* in the file, where there are fewer; 0: as many */
};

static void put(const struct sink *s, size_t first, size_t count, const float *values)
{
    struct device *d = &s->g->device;
    if (s->hasher) hasher_bytes(s->hasher, values, count * sizeof *values);
    if (s->moment)
        d->k->upload(d, s->moment + first, values, count * sizeof *values);
    else
        param_store(s->p, d, first, count, values);
}

static enum status load_one(const struct sink *s, const struct tensor_files *f, const char *name,
                            float *block, struct err *e)
{
    const struct tensor_info *t = tensor_files_find(f, name);
    int64_t shape[2] = {s->rows ? s->rows : s->p->rows, s->p->cols};
    int vector = (s->p->flags & PARAM_VECTOR) != 0;
    TRY(tensor_expect(f, t, name, vector ? 1 : 2, vector ? shape + 1 : shape, e));
    for (size_t at = 0; at < t->count; at += BLOCK) {
        size_t n = size_min(BLOCK, t->count - at);
        TRY(tensor_read_float(f, t, at, n, block, e));
        put(s, at, n, block);
    }
    return OK;
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

/* One table that the file holds twice; it must be the same both times. */
static enum status load_twins(struct engine *g, int32_t index, const struct tensor_files *f,
                              const struct file_names *names, float *block, struct err *e)
{
    char hash[2][HASH_HEX_SIZE];
    for (int k = 0; k < 2; k++) {
        struct sink sink = {.g = g, .p = &g->params.params[index], .hasher = hasher_create()};
        enum status s = sink.hasher
                            ? load_one(&sink, f, names->name[k], block, e)
                            : err_set(e, ERR_MEMORY, "no memory to load %s", names->name[k]);
        if (!s) hasher_hex(sink.hasher, hash[k]);
        hasher_destroy(sink.hasher);
        if (s == ERR_FORMAT)
            err_hint(e, "this base has one table for both; an adapter that trained them apart, or "
                        "one alone, does not fit it");
        TRY(s);
    }
    if (!strcmp(hash[0], hash[1])) return OK;
    return err_set(e, ERR_UNSUPPORTED, "%s and %s differ, but this base has one table for both",
                   names->name[0], names->name[1]);
}

static enum status load_all(struct engine *g, const char *path, int adapter, struct hasher *hasher,
                            struct err *e)
{
    struct tensor_files *f = NULL;
    float *block = mem_calloc(BLOCK, sizeof *block);
    enum status s = block ? tensor_files_open(&f, path, e)
                          : err_set(e, ERR_MEMORY, "no memory to load %s", path);
    if (!s) s = refuse_unknown(g, f, adapter, e);
    for (int32_t i = 0; !s && i < g->params.count; i++) {
        struct file_names names = names_in(g, i, adapter);
        int table = i == g->model.embedding || i == g->model.head;
        struct sink sink = {g, &g->params.params[i], NULL, hasher,
                            table && !adapter ? g->options.base_vocab : 0};
        if (names.n == 1) s = load_one(&sink, f, names.name[0], block, e);
        if (names.n == 2) s = load_twins(g, i, f, &names, block, e);
    }
    tensor_files_close(f);
    mem_free(block);
    return s;
}

enum status weights_load_base(struct engine *g, const char *dir, struct err *e)
{
    struct hasher *hasher = hasher_create();
    enum status s = hasher ? OK : err_set(e, ERR_MEMORY, "no memory to load %s", dir);
    if (!s) s = load_all(g, dir, 0, hasher, e);
    if (!s) hasher_hex(hasher, g->base_hash);
    hasher_destroy(hasher);
    return s;
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

static enum status load_codes(struct engine *g, const struct param *p, uint8_t *codes,
                              const struct tensor_files *f, const char *name, void *block,
                              struct err *e)
{
    const struct tensor_info *t = tensor_files_find(f, name);
    int64_t shape[2] = {p->rows, p->cols};
    int vector = (p->flags & PARAM_VECTOR) != 0;
    TRY(tensor_expect_type(f, t, name, FILE_U8, vector ? 1 : 2, vector ? shape + 1 : shape, e));
    for (size_t at = 0; at < t->count; at += BLOCK) {
        size_t n = size_min(BLOCK, t->count - at);
        TRY(tensor_read_bytes(f, t, at, n, block, e));
        g->device.k->upload(&g->device, codes + at, block, n);
    }
    return OK;
}

static enum status load_state(struct engine *g, const struct param *p, int part,
                              const struct tensor_files *f, float *block, struct err *e)
{
    struct state_part s = state_part(p, part);
    char name[PARAM_NAME_MAX + 16];
    struct param blocks = {.rows = 1, .cols = (int32_t)param_blocks(p), .flags = PARAM_VECTOR};
    struct sink sink = {.g = g, .p = s.blocks ? &blocks : p, .moment = s.floats};
    snprintf(name, sizeof name, "%s%s", p->name, s.suffix);
    return s.codes ? load_codes(g, p, s.codes, f, name, block, e)
                   : load_one(&sink, f, name, block, e);
}

enum status weights_load_state(struct engine *g, const char *path, struct err *e)
{
    struct tensor_files *f = NULL;
    size_t expected = 0;
    float *block = mem_calloc(BLOCK, sizeof *block);
    enum status s =
        block ? tensor_files_open(&f, path, e) : err_set(e, ERR_MEMORY, "no memory to resume");
    for (int32_t i = 0; !s && i < g->params.count; i++) {
        const struct param *p = &g->params.params[i];
        for (int part = 0; !s && p->trainable && part < STATE_PARTS; part++) {
            if (state_part(p, part).absent) continue;
            s = load_state(g, p, part, f, block, e);
            expected++;
        }
    }
    if (!s && tensor_files_count(f) != expected)
        s = err_at(e, ERR_FORMAT, path, 0, 0, "%zu tensors, this run has %zu",
                   tensor_files_count(f), expected);
    if (!s) engine_refresh(g);
    tensor_files_close(f);
    mem_free(block);
    return s;
}

/* A tensor as rows of the header's JSON, text and objects, its info, source and fetch. */
#define TENSOR_BYTES ((size_t)2048)

size_t weights_memory(const struct engine *g)
{
    size_t parts = g->params.moments == PARAM_MOMENTS_8BIT ? STATE_PARTS : 3;
    return BLOCK * sizeof(float) + parts * (size_t)g->params.count * TENSOR_BYTES;
}
