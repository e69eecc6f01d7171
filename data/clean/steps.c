/* The tables of clean.h by name. */
#include <stdio.h>
#include <string.h>

#include "data/clean/clean.h"

static const char *const step_names[] = {
#define X(id, name, text) name,
    CLEAN_STEP_TABLE(X)
#undef X
};

static const struct {
    enum clean_step step;
    const char *name, *text;
} reasons[] = {
#define X(id, step, name, text) {step, name, text},
    CLEAN_REASON_TABLE(X)
#undef X
};

static const struct {
    const char *name, *text;
} changes[] = {
#define X(id, name, text) {name, text},
    CLEAN_CHANGE_TABLE(X)
#undef X
};

const char *clean_step_name(enum clean_step s) { return step_names[s]; }
const char *clean_reason_name(enum clean_reason r) { return reasons[r].name; }
const char *clean_reason_text(enum clean_reason r) { return reasons[r].text; }
enum clean_step clean_reason_step(enum clean_reason r) { return reasons[r].step; }
const char *clean_change_name(enum clean_change c) { return changes[c].name; }
const char *clean_change_text(enum clean_change c) { return changes[c].text; }

static int is_word(const char *item, size_t n, const char *word)
{
    return strlen(word) == n && !memcmp(word, item, n);
}

/* What one item of the list stands for; 0: nothing. */
static unsigned bits_of(const char *item, size_t n)
{
    if (is_word(item, n, "default")) return CLEAN_DEFAULT_STEPS;
    if (is_word(item, n, "all")) return CLEAN_BIT(NUM_CLEAN_STEPS) - 1;
    for (int s = CLEAN_READ + 1; s < NUM_CLEAN_STEPS; s++)
        if (is_word(item, n, step_names[s])) return CLEAN_BIT(s);
    return 0;
}

enum status clean_parse_steps(const char *list, unsigned *out, struct err *e)
{
    char known[256] = "";
    *out = 0;
    for (size_t n; *list; list += n + (list[n] == ',')) {
        n = strcspn(list, ",");
        int minus = *list == '-';
        unsigned bits = bits_of(list + minus, n - (size_t)minus);
        if (bits) {
            *out = minus ? *out & ~bits : *out | bits;
            continue;
        }
        err_set(e, ERR_CONFIG, "there is no step \"%.*s\"", (int)n, list);
        for (int s = CLEAN_READ + 1; s < NUM_CLEAN_STEPS; s++)
            snprintf(known + strlen(known), sizeof known - strlen(known), ", %s", step_names[s]);
        return err_hint(e, "steps are default, all%s; -STEP leaves one out", known);
    }
    *out &= ~CLEAN_BIT(CLEAN_READ);
    return OK;
}
