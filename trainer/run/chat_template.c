#include "run/chat_template.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "data/tokenizer/tokenizer.h"
#include "run/sidecar.h"

static enum status list_templates(struct err *e)
{
    char names[256] = "";
    size_t used = 0;
    for (size_t i = 0; template_at(i) && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                                 template_at(i)->name);
    return err_hint(e, "the templates are %s; or a file of your own: my.yaml", names);
}

enum status chat_template_named(const char *name, const struct template **out, struct err *e)
{
    enum status s = template_open(out, name, e);
    if (s == ERR_CONFIG && !template_is_file(name)) list_templates(e);
    return s;
}

enum status chat_template_of_model(const char *dir, const struct template **out, int *jinja,
                                   struct err *e)
{
    char *text;
    *out = NULL;
    TRY(tokenizer_read_chat_template(dir, &text, e));
    if (jinja) *jinja = text != NULL;
    enum status s = sidecar_template(dir, out, e);
    if (!s && !*out && text) s = template_recognise(text, out, e);
    mem_free(text);
    return s;
}

/* What the run writes is not what the model had; said once, since nobody may have meant it. */
static void tell_replaced(const char *dir, const struct template *ours,
                          const struct template *theirs)
{
    if (theirs && !strcmp(theirs->name, ours->name)) return;
    if (theirs)
        log_notice("%s has the template %s; this run writes %s in its place", dir, theirs->name,
                   ours->name);
    else
        log_notice("%s has a chat_template that is none of cria's; this run writes %s in its "
                   "place (to keep it, describe it in a file: data/template/TEMPLATES.md)",
                   dir, ours->name);
}

static enum status open_named(const struct config *c, const struct template **out, struct err *e)
{
    enum status s = chat_template_named(c->template, out, e);
    return s == ERR_CONFIG && !template_is_file(c->template) ? config_blame(c, KEY_template, e) : s;
}

enum status chat_template_of_config(const struct config *c, const struct template **out,
                                    struct err *e)
{
    const char *dir = c->model_name_or_path;
    const struct template *theirs = NULL;
    int jinja = 0;
    *out = NULL;
    if (c->stage == CONFIG_STAGE_PT) return OK;
    if (c->template) TRY(open_named(c, out, e));
    enum status s = dir ? chat_template_of_model(dir, &theirs, &jinja, e) : OK;
    if (!s && *out && (theirs || jinja)) tell_replaced(dir, *out, theirs);
    if (!s && !*out && theirs) {
        log_notice("template: %s, as %s has it", theirs->name, dir);
        *out = theirs;
        return OK;
    }
    template_close(theirs);
    if (!s && *out) return OK;
    template_close(*out);
    *out = NULL;
    if (s) return s;
    err_set(e, ERR_CONFIG, "stage %s needs a template%s", config_word(c, KEY_stage),
            jinja ? ", and the model's chat_template is none that cria knows" : "");
    return list_templates(e);
}
