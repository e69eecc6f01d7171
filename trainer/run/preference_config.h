/* preference_config.h - the options of stage dpo and kto, from a config to the objective's. */
#ifndef CRIA_RUN_PREFERENCE_CONFIG_H
#define CRIA_RUN_PREFERENCE_CONFIG_H

#include "config/config.h"
#include "objective/preference.h"

/* Whether the stage learns from preferences. */
int preference_stage(const struct config *c);

/* ERR_CONFIG, at the key's place: no such loss, a loss of the other stage, values out of range,
 * what does not go together, and a key that the chosen losses do not use. */
MUST_CHECK enum status preference_config(const struct config *c, struct preference_options *out,
                                         struct err *e);

#endif
