/* quote.h - text as other formats want it. */
#ifndef CRIA_BASE_QUOTE_H
#define CRIA_BASE_QUOTE_H

#include "base/buf.h"

/* Appends `text` (UTF-8) in double quotes, as YAML reads it back; what libyaml refuses to read raw
 * is escaped. ERR_MEMORY, ERR_FORMAT (over out->max). */
MUST_CHECK enum status quote_yaml(struct buf *out, const char *text);

#endif
