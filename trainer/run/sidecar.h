/* sidecar.h - cria.json, and the tokenizer's files, beside every model and adapter cria writes.
 *
 * cria.json says with which template the model was tuned, so that inference need not be told:
 * {"template": "alpaca", "end_tokens": [2], "tokenizer_hash": "...", "cria_version": "0.1.0"}; of a
 * template that is a user's own the text comes along, "template_text".
 */
#ifndef CRIA_RUN_SIDECAR_H
#define CRIA_RUN_SIDECAR_H

#include "base/hash.h"
#include "base/status.h"
#include "data/template/template.h"
#include "data/tokenizer/tokenizer.h"
#include "model/hf_config.h"

#define SIDECAR_ENDS_MAX 8

struct sidecar {
    char template_name[64];              /* empty: none (plain text) */
    const struct template *own_template; /* to write: a user's own goes in whole; read as NULL */
    char tokenizer_hash[HASH_HEX_SIZE];
    int32_t ends[SIDECAR_ENDS_MAX];
    int32_t num_ends;
};

/* A directory without cria.json gives a zeroed sidecar. ERR_FORMAT, ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status sidecar_read(struct sidecar *out, const char *dir, struct err *e);
MUST_CHECK enum status sidecar_write(const struct sidecar *s, const char *dir, struct err *e);

/* The template that cria.json names or, where it is a user's own, holds; NULL: none. The caller
 * template_closes it. ERR_CONFIG: a name nobody has, a text that is none; errors as above. */
MUST_CHECK enum status sidecar_template(const char *dir, const struct template **out,
                                        struct err *e);

/* Copies the tokenizer's files and generation_config.json, those there are. Errors as below. */
MUST_CHECK enum status sidecar_copy_files(const char *from, const char *to, struct err *e);

/* Copies tokenizer and generation files of the base model `from` to `to`; writes
 * generation_config.json if there is none, and the template's chat_template.jinja (not for plain
 * text). ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status sidecar_copy_tokenizer(const char *from, const char *to,
                                              const struct model_config *config,
                                              const struct template *template,
                                              const struct tokenizer *tokenizer, struct err *e);

#endif
