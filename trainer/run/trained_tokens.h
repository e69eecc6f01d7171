/* trained_tokens.h - which tokens' rows a run trains by themselves, as ids. */
#ifndef CRIA_RUN_TRAINED_TOKENS_H
#define CRIA_RUN_TRAINED_TOKENS_H

#include "config/config.h"
#include "data/tokenizer/tokenizer.h"

/* The ids of trainable_tokens, ascending, each once: a heap list for the caller to mem_free, NULL
 * without any. Without a tokenizer (a plan) as many ids as there are names. ERR_CONFIG: no such
 * token. ERR_MEMORY. */
MUST_CHECK enum status trained_tokens_find(const struct config *c,
                                           const struct tokenizer *tokenizer, int32_t **ids,
                                           size_t *n, struct err *e);

#endif
