/* trained_tokens.h - which tokens' rows a run trains by themselves, as ids. */
#ifndef CRIA_RUN_TRAINED_TOKENS_H
#define CRIA_RUN_TRAINED_TOKENS_H

#include "config/config.h"
#include "data/tokenizer/tokenizer.h"
#include "run/new_tokens.h"

struct trained_tokens_request {
    const struct config *config;
    const struct tokenizer *tokenizer; /* NULL: absent */
    const struct new_tokens *added;
    int tied; /* embedding and head are one table */
};

/* The ids of trainable_tokens, and under LoRA of the tokens added to the tokenizer unless
 * modules_to_save trains all rows; ascending, each once: a heap list for the caller to mem_free,
 * NULL without any. Without a tokenizer (a plan) as many ids as there are names. ERR_CONFIG: no
 * such token. ERR_MEMORY. */
MUST_CHECK enum status trained_tokens_find(const struct trained_tokens_request *r, int32_t **ids,
                                           size_t *n, struct err *e);

#endif
