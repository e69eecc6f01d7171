/* value.h - a value as it was written, and how it becomes a field. Private to config/. */
#ifndef CRIA_CONFIG_VALUE_H
#define CRIA_CONFIG_VALUE_H

#include "config/table.h"

struct config_scalar {
    const char *text;
    int plain; /* not quoted: null and ~ mean nothing */
    long line, column;
};

/* A member of a list: text, or a mapping {path, format, ...}. Where not given, text is NULL. */
struct config_item {
    struct config_scalar path, split, format, sample_by, template;
    struct config_scalar weight, fraction, max_samples, repeat;
    const struct config_name *names;
    size_t num_names;
};

struct config_value {
    int is_list;
    struct config_scalar scalar; /* the text, or the place of the list */
    const struct config_item *items;
    size_t n;
};

/* Memory that lives as long as the config; NULL without any. */
void *config_take(struct config *c, size_t bytes);
const char *config_copy(struct config *c, const char *text, size_t n);

/* Parses `v` into the key's field. `file` is for messages ("command line" for an override). A
 * null gives the default back and *is_null = 1. ERR_CONFIG, ERR_UNSUPPORTED, ERR_MEMORY. */
MUST_CHECK enum status config_set(struct config *c, enum config_key key,
                                  const struct config_value *v, const char *file, int *is_null,
                                  struct err *e);

/* The default, its origin included. ERR_MEMORY. */
MUST_CHECK enum status config_reset(struct config *c, enum config_key key, struct err *e);

/* Nothing, ~ or null, not in quotes: as if the key were not there. */
int config_is_null(const struct config_scalar *s);

/* A decimal number, whole text; nonzero if it is none (hex, inf, nan are not). */
int config_parse_number(const char *text, double *out);

/* The key's field. */
void *config_field(struct config *c, enum config_key key);
const void *config_field_of(const struct config *c, enum config_key key);

#endif
