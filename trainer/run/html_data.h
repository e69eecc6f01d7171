/* html_data.h - what became of the records: prepare's account, as a part of a page. */
#ifndef CRIA_RUN_HTML_DATA_H
#define CRIA_RUN_HTML_DATA_H

#include <jansson.h>

#include "run/html.h"

/* A table of the sources with what was dropped and why, and the lengths as bars. `report` is the
 * JSON that prepare wrote (data/prepare/prepare.h); what is missing in it is left out. */
void html_data(struct html *h, const json_t *report);

#endif
