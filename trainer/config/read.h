/* read.h - YAML text to keys and values, with their places. Private to config/.
 *
 * The part of YAML that a config needs: one document, one mapping, scalars, lists of scalars
 * or of flat mappings (a dataset's may hold a mapping of names or a list of them). Anchors,
 * aliases, tags, merge keys and deeper nesting are refused.
 */
#ifndef CRIA_CONFIG_READ_H
#define CRIA_CONFIG_READ_H

#include "config/value.h"

/* What happens to the pairs: the receiver of a text. */
struct config_receiver {
    struct config *c;
    const char *file;
    int source;                                 /* of struct config_origin */
    struct config_origin seen[CONFIG_NUM_KEYS]; /* by this source so far; spelling NULL: not */
    struct err *e;
    struct err refused; /* a file's first name that is no key; its hint names the others */
};

/* What a name stands for. */
struct config_meaning {
    int key; /* -1: a stranger */
    const struct config_alias *alias;
    const struct config_stranger *stranger;
};

/* Finds a name in the tables. ERR_CONFIG: unknown, with the nearest. */
MUST_CHECK enum status config_lookup(const struct config_receiver *r,
                                     const struct config_scalar *name, struct config_meaning *m);

/* Takes one pair. `value` NULL: something more complex than a stranger can be. */
MUST_CHECK enum status config_receive(struct config_receiver *r, const struct config_scalar *name,
                                      const struct config_meaning *m,
                                      const struct config_value *value);

/* A whole file's text. Names that are no keys are gathered, so that one run tells of all of them.
 * ERR_CONFIG, ERR_UNSUPPORTED, ERR_MEMORY. */
MUST_CHECK enum status config_read(struct config_receiver *r, const char *text, size_t n);

/* The value of an override: as it stands, or YAML when it starts with [ or {. */
MUST_CHECK enum status config_read_value(struct config_receiver *r, enum config_key key,
                                         const char *text, struct config_value *out);

#endif
