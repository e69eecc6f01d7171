#include "run/trained_tokens.h"

#include <stdlib.h>

#include "base/mem.h"

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static size_t sort_once(int32_t *ids, size_t n)
{
    size_t kept = 0;
    if (n) qsort(ids, n, sizeof *ids, ascending);
    for (size_t i = 0; i < n; i++)
        if (!kept || ids[kept - 1] != ids[i]) ids[kept++] = ids[i];
    return kept;
}

static enum status find_one(const struct config *c, const struct tokenizer *tokenizer,
                            const char *name, int32_t *id, struct err *e)
{
    *id = tokenizer_find(tokenizer, name);
    if (*id >= 0) return OK;
    config_fail(c, KEY_trainable_tokens, e, "the tokenizer has no token \"%s\"", name);
    return err_hint(e, "write tokens as tokenizer.json spells them, <|eot_id|> for one");
}

enum status trained_tokens_find(const struct config *c, const struct tokenizer *tokenizer,
                                int32_t **ids, size_t *n, struct err *e)
{
    const struct config_list *names = &c->trainable_tokens;
    enum status s = OK;
    *ids = NULL;
    *n = 0;
    if (!names->n) return OK;
    *ids = mem_calloc(names->n, sizeof **ids);
    if (!*ids) return err_set(e, ERR_MEMORY, "no memory for the list of tokens");
    for (size_t i = 0; i < names->n && !s; i++) {
        (*ids)[i] = (int32_t)i;
        if (tokenizer) s = find_one(c, tokenizer, names->items[i], &(*ids)[i], e);
    }
    if (!s) *n = sort_once(*ids, names->n);
    return s;
}
