/* reading.h - a template file while it is read: what its fields are, and what was said of each.
 * Private to data/template: read.c fills a reading from YAML, check.c holds it to what a template
 * must be, load.c makes a template of it.
 */
#ifndef CRIA_DATA_TEMPLATE_READING_H
#define CRIA_DATA_TEMPLATE_READING_H

#include <yaml.h>

#include "data/template/pattern.h"

enum reading_kind { PATTERN, TEXT, FLAG, NAME, ASSISTANT };

#define COMMA(field, use) FIELD_##field,
#define ALONE(field) FIELD_##field,
enum field_id {
    TEMPLATE_PATTERNS(COMMA) TEMPLATE_TEXTS(ALONE) TEMPLATE_FLAGS(ALONE) FIELD_name,
    FIELD_about,
    FIELD_assistant,
    NUM_FIELDS
};
#undef COMMA
#undef ALONE

struct reading_field {
    const char *name;
    enum reading_kind kind;
    unsigned use; /* enum pattern_use, or-ed */
};
extern const struct reading_field reading_fields[NUM_FIELDS];

/* Where a field was given; line 0: it was not. */
struct place {
    long line, column;
};

struct reading {
    yaml_parser_t parser;
    yaml_event_t event; /* the one looked at */
    const char *file;
    struct err *e;
    struct place places[NUM_FIELDS];
    const char *text[NUM_FIELDS]; /* NULL: not given */
    int flag[NUM_FIELDS];
    char *own; /* [room] strings end to end; never moved */
    size_t used, room;
};

/* The YAML text into the fields, without a look at what they say. ERR_CONFIG, ERR_MEMORY. */
MUST_CHECK enum status reading_read(struct reading *r, const char *text, size_t n);

/* Fills in what may be left out; is it a template? ERR_CONFIG, ERR_MEMORY. */
MUST_CHECK enum status reading_check(struct reading *r);

/* About the value of a field: ERR_CONFIG with its place. */
enum status reading_fail(const struct reading *r, enum field_id f, const char *hint,
                         const char *what);
enum status reading_no_memory(struct err *e);

/* Strings are put together at own + used: n bytes so far. Grow appends; end closes it with a zero
 * and returns it. */
MUST_CHECK enum status reading_grow(struct reading *r, size_t *n, const char *s, size_t length);
const char *reading_end(struct reading *r, size_t n);

#endif
