/* adapter_dir.h - a PEFT adapter directory as options for a model's slots. */
#ifndef CRIA_RUN_ADAPTER_DIR_H
#define CRIA_RUN_ADAPTER_DIR_H

#include "adapter/lora.h"
#include "ckpt/peft.h"

struct adapter_dir {
    struct peft_adapter peft;
    const char **targets;        /* heap: the adapted modules' whole paths */
    struct lora_options options; /* what lora_create wants; lives as long as this */
};

/* ERR_IO, ERR_FORMAT, ERR_SHAPE, ERR_UNSUPPORTED, ERR_MEMORY. After a failure adapter_dir_close is
 * still due. */
MUST_CHECK enum status adapter_dir_open(struct adapter_dir *a, const char *dir, struct err *e);
void adapter_dir_close(struct adapter_dir *a); /* zeroed is fine */

/* What lora_create refused was this adapter's doing: says so in *e; returns its code. */
enum status adapter_dir_blame(const char *dir, struct err *e);

#endif
