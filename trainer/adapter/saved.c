#include "adapter/saved.h"

#include <string.h>

#define WEIGHT ".weight"
#define HEAD "lm_head"

static int ends_with(const char *text, size_t n, const char *end)
{
    size_t m = strlen(end);
    return m && m <= n && !strncmp(text + n - m, end, m);
}

/* Whether the parameter is the weight of a module that `name` stands for. */
static int is_weight_of(const struct param *p, const char *name)
{
    size_t n = strlen(p->name), tail = strlen(WEIGHT);
    if (p->flags & PARAM_FLOAT || !ends_with(p->name, n, WEIGHT)) return 0;
    return ends_with(p->name, n - tail, name);
}

static enum status mark(struct param *p, const char *name, struct err *e)
{
    int in_block = strstr(p->name, ".layers.") != NULL;
    if (in_block && !(p->flags & PARAM_VECTOR)) {
        err_set(e, ERR_CONFIG, "modules_to_save: \"%s\" is a linear of the blocks", name);
        return err_hint(e, "give it an adapter with lora_target_modules; embed_tokens, lm_head and "
                           "norms can be trained whole");
    }
    p->flags |= PARAM_SAVED;
    return OK;
}

enum status saved_mark(struct param_set *params, int32_t head, const char *const *names, size_t n,
                       struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        int found = 0;
        for (int32_t k = 0; k < params->count; k++) {
            if (!is_weight_of(&params->params[k], names[i])) continue;
            TRY(mark(&params->params[k], names[i], e));
            found = 1;
        }
        if (!found && ends_with(HEAD, strlen(HEAD), names[i])) {
            TRY(mark(&params->params[head], names[i], e));
            found = 1;
        }
        if (found) continue;
        err_set(e, ERR_CONFIG, "modules_to_save: no module is named \"%s\"", names[i]);
        return err_hint(e, "embed_tokens, lm_head, norm and the like can be trained whole");
    }
    return OK;
}
