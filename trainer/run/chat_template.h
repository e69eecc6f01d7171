/* chat_template.h - which template a run or a model goes by.
 *
 * What is asked for comes first: a row's name, or a file (data/template/TEMPLATES.md). Else what
 * cria.json in the model's directory says, else the row that the directory's chat_template
 * (tokenizer_config.json or chat_template.jinja) is known to be. What is found is named in the log;
 * so is a chat_template that the run's own takes the place of.
 */
#ifndef CRIA_RUN_CHAT_TEMPLATE_H
#define CRIA_RUN_CHAT_TEMPLATE_H

#include "config/config.h"
#include "data/template/template.h"

/* Every template here is the caller's to template_close. */

/* ERR_CONFIG (no such row: the hint lists them; a file that says something wrong), ERR_IO,
 * ERR_MEMORY. */
MUST_CHECK enum status chat_template_named(const char *name, const struct template **out,
                                           struct err *e);

/* What a directory says of itself: *out NULL where nothing is known. `jinja` (NULL) is set where
 * there is a chat_template, known or not. ERR_FORMAT, ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status chat_template_of_model(const char *dir, const struct template **out,
                                              int *jinja, struct err *e);

/* The one the config names, or else the model's; NULL for stage pt. ERR_CONFIG: neither. */
MUST_CHECK enum status chat_template_of_config(const struct config *c, const struct template **out,
                                               struct err *e);

#endif
