/* new_tokens.h - special tokens of the run's template, and of templates that its datasets have for
 * themselves, that the base's tokenizer does not have.
 *
 * With add_special_tokens: auto they are added. The enlarged tokenizer is a directory of its own,
 * ".cria-cache/tokenizer-HASH" beside output_dir: the base's files, with the tokens in
 * tokenizer.json. The new ids follow the last one; where the model has rows for them already (its
 * vocabulary was padded) these are used, else embedding and head grow. Either way the new rows
 * start as the mean of those before them, and LoRA trains them with the adapter (trained_tokens.h).
 */
#ifndef CRIA_RUN_NEW_TOKENS_H
#define CRIA_RUN_NEW_TOKENS_H

#include "base/io.h"
#include "config/config.h"
#include "data/template/template.h"
#include "data/tokenizer/tokenizer.h"

struct new_tokens {
    int32_t first, count;  /* the new ids; count 0: none */
    int32_t base_vocab;    /* rows of the base's tables in its files; 0: as many as the model has */
    char dir[IO_PATH_MAX]; /* where the tokenizer's files are */
};

/* Opens the tokenizer of model_name_or_path, enlarged if `t` (NULL: no template at all) or a
 * dataset's own template asks for it. base_vocab is left 0. ERR_CONFIG (the tokenizer has no
 * tokenizer.json to add to; no such template), ERR_IO, ERR_DISK_FULL, ERR_MEMORY, and what
 * tokenizer_open and template_open return. */
MUST_CHECK enum status new_tokens_open(struct new_tokens *n, struct tokenizer **out,
                                       const struct config *c, const struct template *t,
                                       struct err *e);

#endif
