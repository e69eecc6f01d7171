#include "run/adapter_dir.h"

#include "base/mem.h"

enum status adapter_dir_open(struct adapter_dir *a, const char *dir, struct err *e)
{
    *a = (struct adapter_dir){0};
    TRY(peft_open(&a->peft, dir, e));
    a->targets = mem_calloc(a->peft.num_modules, sizeof *a->targets);
    if (!a->targets) return err_set(e, ERR_MEMORY, "no memory for adapter %s", dir);
    for (size_t i = 0; i < a->peft.num_modules; i++) a->targets[i] = a->peft.modules[i].path;
    const struct peft_config *c = &a->peft.config;
    a->options = (struct lora_options){.r = c->r,
                                       .alpha = c->lora_alpha,
                                       .dropout = c->lora_dropout,
                                       .rslora = c->use_rslora,
                                       .targets = a->targets,
                                       .num_targets = a->peft.num_modules,
                                       .saved = a->peft.saved,
                                       .num_saved = a->peft.num_saved,
                                       .tokens = a->peft.tokens,
                                       .num_tokens = a->peft.num_tokens,
                                       .embedding_alone = !a->peft.head_rows};
    return OK;
}

enum status adapter_dir_blame(const char *dir, struct err *e)
{
    err_wrap(e, "adapter %s", dir);
    e->hint[0] = 0; /* it was for whoever names targets in a config */
    return err_hint(e, "it was trained on another model than the one given");
}

void adapter_dir_close(struct adapter_dir *a)
{
    mem_free(a->targets);
    peft_close(&a->peft);
    *a = (struct adapter_dir){0};
}
