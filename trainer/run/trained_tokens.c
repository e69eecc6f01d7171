#include "run/trained_tokens.h"

#include <stdlib.h>
#include <string.h>

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

static int saves(const struct config *c, const char *module)
{
    for (size_t i = 0; i < c->modules_to_save.n; i++) {
        size_t n = strlen(module), m = strlen(c->modules_to_save.items[i]);
        if (m <= n && !strcmp(module + n - m, c->modules_to_save.items[i])) return 1;
    }
    return 0;
}

/* How many added tokens are to be trained as rows. */
static int32_t added_rows(const struct trained_tokens_request *r)
{
    int embedding = saves(r->config, "model.embed_tokens"), head = saves(r->config, "lm_head");
    int whole = r->tied ? embedding || head : embedding && head;
    return r->config->finetuning == CONFIG_LORA && !whole ? r->added->count : 0;
}

enum status trained_tokens_find(const struct trained_tokens_request *r, int32_t **ids, size_t *n,
                                struct err *e)
{
    const struct config_list *names = &r->config->trainable_tokens;
    int32_t added = added_rows(r);
    size_t all = names->n + (size_t)added;
    enum status s = OK;
    *ids = NULL;
    *n = 0;
    if (!all) return OK;
    *ids = mem_calloc(all, sizeof **ids);
    if (!*ids) return err_set(e, ERR_MEMORY, "no memory for the list of tokens");
    for (size_t i = 0; i < names->n && !s; i++) {
        (*ids)[i] = (int32_t)i;
        if (r->tokenizer) s = find_one(r->config, r->tokenizer, names->items[i], &(*ids)[i], e);
    }
    for (int32_t i = 0; i < added; i++) (*ids)[names->n + (size_t)i] = r->added->first + i;
    if (!s) *n = sort_once(*ids, all);
    return s;
}
