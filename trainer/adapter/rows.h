/* rows.h - single tokens whose embedding and head rows are trained beside an adapter.
 *
 * PEFT's trainable tokens: a parameter [count, C] per table holds the rows' values, not differences
 * to the base's; where head and embedding are one table there is one. The tables in memory always
 * hold the same values, so whatever reads a table needs no care:
 *
 *     rows_create; param_set_place; rows_place; rows_upload
 *     rows_adopt     the base's rows become the parameter's first values
 *     rows_apply     after any change of the parameter: its rows into the tables
 */
#ifndef CRIA_ADAPTER_ROWS_H
#define CRIA_ADAPTER_ROWS_H

#include "autograd/param.h"

#define ROWS_SUFFIX ".token_adapter.trainable_tokens_delta"

struct token_rows {
    struct param_rows rows; /* what a recording needs; count 0: none */
    struct param_set *params;
    int32_t embedding, head; /* the tables; head -1: none */
    int32_t *ids;            /* heap [count], in the order of the parameter's rows */
    float *row;              /* heap [C] */
};

/* Adds the parameters. `embedding` and `head` are the tables' indices (head -1: its rows stay as
 * they are, which is for using an adapter and not for training one); to be trained, ids must
 * ascend. ERR_CONFIG: an id outside the table, or twice. ERR_MEMORY, ERR_SHAPE. */
MUST_CHECK enum status rows_create(struct token_rows *r, struct param_set *params,
                                   int32_t embedding, int32_t head, const int32_t *ids, size_t n,
                                   struct err *e);
void rows_free(struct token_rows *r); /* zeroed is fine */

void rows_place(struct token_rows *r, struct arena *arena); /* the device's list of ids */
void rows_upload(const struct token_rows *r, struct device *d);

void rows_adopt(const struct token_rows *r, struct device *d);
void rows_apply(const struct token_rows *r, struct device *d);

/* slots[i]: which row ids[i] is, -1: none. For ascending rows. */
void rows_find(const struct token_rows *r, const int32_t *ids, int32_t n, int32_t *slots);

#endif
