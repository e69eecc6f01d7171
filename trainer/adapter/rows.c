#include "adapter/rows.h"

#include <stdio.h>
#include <string.h>

#include "adapter/lora.h"
#include "base/mem.h"

static enum status add_param(struct token_rows *r, int32_t table, int32_t *index, struct err *e)
{
    char name[PARAM_NAME_MAX];
    const struct param *p = &r->params->params[table];
    int path = (int)(strlen(p->name) - strlen(".weight"));
    snprintf(name, sizeof name, LORA_PREFIX "%.*s" ROWS_SUFFIX, path, p->name);
    return param_set_add(r->params, name, r->rows.count, p->cols, PARAM_FLOAT | PARAM_EMBEDDING,
                         index, e);
}

static enum status check_ids(const struct param *table, const int32_t *ids, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= table->rows) {
            err_set(e, ERR_CONFIG, "token %d is to be trained; the model has %d", (int)ids[i],
                    (int)table->rows);
            return err_hint(e, "take the base that adapter_config.json names");
        }
        for (size_t k = 0; k < i; k++)
            if (ids[k] == ids[i])
                return err_set(e, ERR_CONFIG, "token %d is to be trained twice", (int)ids[i]);
    }
    return OK;
}

enum status rows_create(struct token_rows *r, struct param_set *params, int32_t embedding,
                        int32_t head, const int32_t *ids, size_t n, struct err *e)
{
    *r = (struct token_rows){.params = params, .embedding = embedding, .head = head};
    if (n > (size_t)params->params[embedding].rows)
        return err_set(e, ERR_CONFIG, "%zu tokens are to be trained; the model has %d", n,
                       (int)params->params[embedding].rows);
    TRY(check_ids(&params->params[embedding], ids, n, e));
    r->ids = mem_calloc(n, sizeof *r->ids);
    r->row = mem_calloc((size_t)params->params[embedding].cols, sizeof *r->row);
    if (!r->ids || !r->row) return err_set(e, ERR_MEMORY, "no memory for %zu trained tokens", n);
    memcpy(r->ids, ids, n * sizeof *ids);
    r->rows.count = (int32_t)n;
    TRY(add_param(r, embedding, &r->rows.embedding, e));
    r->rows.head = r->rows.embedding;
    return head == embedding || head < 0 ? OK : add_param(r, head, &r->rows.head, e);
}

void rows_free(struct token_rows *r)
{
    mem_free(r->ids);
    mem_free(r->row);
    *r = (struct token_rows){0};
}

void rows_place(struct token_rows *r, struct arena *arena)
{
    r->rows.ids = arena_take(arena, (size_t)r->rows.count * sizeof *r->rows.ids);
}

void rows_upload(const struct token_rows *r, struct device *d)
{
    d->k->upload(d, (void *)r->rows.ids, r->ids, (size_t)r->rows.count * sizeof *r->ids);
}

static void copy_rows(const struct token_rows *r, struct device *d, int32_t table, int32_t own,
                      int to_table)
{
    const struct param *t = &r->params->params[table], *p = &r->params->params[own];
    size_t cols = (size_t)t->cols;
    for (int32_t i = 0; i < r->rows.count; i++) {
        size_t there = (size_t)r->ids[i] * cols, here = (size_t)i * cols;
        if (to_table) {
            param_fetch(p, d, here, cols, r->row);
            param_store(t, d, there, cols, r->row);
        } else {
            param_fetch(t, d, there, cols, r->row);
            param_store(p, d, here, cols, r->row);
        }
    }
}

static void copy_both(const struct token_rows *r, struct device *d, int to_table)
{
    copy_rows(r, d, r->embedding, r->rows.embedding, to_table);
    if (r->head != r->embedding && r->head >= 0) copy_rows(r, d, r->head, r->rows.head, to_table);
}

void rows_adopt(const struct token_rows *r, struct device *d) { copy_both(r, d, 0); }
void rows_apply(const struct token_rows *r, struct device *d) { copy_both(r, d, 1); }

static int32_t slot_of(const struct token_rows *r, int32_t id)
{
    int32_t low = 0, high = r->rows.count;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (r->ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->rows.count && r->ids[low] == id ? low : -1;
}

void rows_find(const struct token_rows *r, const int32_t *ids, int32_t n, int32_t *slots)
{
    for (int32_t i = 0; i < n; i++) slots[i] = slot_of(r, ids[i]);
}
