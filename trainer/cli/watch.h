/* watch.h - how preparing looks while it happens, for the verbs that prepare. */
#ifndef CRIA_CLI_WATCH_H
#define CRIA_CLI_WATCH_H

#include "run/dataset.h"

/* Shows progress, then the report. */
extern const struct dataset_watcher watch_preparing;
/* Shows progress alone. */
extern const struct dataset_watcher watch_preparing_quietly;

#endif
