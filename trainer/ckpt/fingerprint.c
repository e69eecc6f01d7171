#include "ckpt/fingerprint.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

#define FORMAT 1

void fingerprint_free(struct fingerprint *f)
{
    json_decref(f->values);
    json_decref(f->state);
    *f = (struct fingerprint){0};
}

enum status fingerprint_set(struct fingerprint *f, struct err *e, const char *key, const char *fmt,
                            ...)
{
    va_list ap;
    if (!f->values) f->values = json_object();
    va_start(ap, fmt);
    json_t *value = json_vsprintf(fmt, ap);
    va_end(ap);
    if (!f->values || !value || json_object_set(f->values, key, value)) {
        json_decref(value);
        return err_set(e, ERR_MEMORY, "no memory for the fingerprint");
    }
    json_decref(value);
    return OK;
}

enum status fingerprint_write(const struct fingerprint *f, const char *path, struct err *e)
{
    json_t *values = f->values ? json_incref(f->values) : json_object();
    json_t *root =
        json_pack("{s:i, s:o, s:O*}", "format", FORMAT, "fingerprint", values, "state", f->state);
    if (!root) return err_set(e, ERR_MEMORY, "no memory to write %s", path);
    enum status s = json_write_file(root, path, e);
    json_decref(root);
    return s;
}

static enum status differs(const char *key, const char *was, const char *is, struct err *e)
{
    err_set(e, ERR_CONFIG, "cannot resume: %s was %s%.200s%s, now it is %s%.200s%s", key,
            was ? "\"" : "", was ? was : "not recorded", was ? "\"" : "", is ? "\"" : "",
            is ? is : "not given", is ? "\"" : "");
    return err_hint(e, "resume with what the run began with, or begin a new output_dir");
}

/* Each key of `these` against `those`; `ours` says on which side `these` stand. */
static enum status compare(const json_t *these, const json_t *those, int ours, struct err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)these, key, v)
    {
        const char *a = json_string_value(v), *b = json_string_value(json_object_get(those, key));
        if (!a || !b || strcmp(a, b)) return differs(key, ours ? b : a, ours ? a : b, e);
    }
    return OK;
}

enum status fingerprint_check(const struct fingerprint *f, const char *path, struct err *e)
{
    json_t *root = NULL;
    int64_t format = 0;
    enum status s = json_parse_file(path, &root, e);
    const json_t *was = json_object_get(root, "fingerprint");
    if (!s) s = json_get_int(root, "format", &format, path, e);
    if (!s && (format != FORMAT || !json_is_object(was)))
        s = err_at(e, ERR_FORMAT, path, 0, 0, "not a fingerprint of format %d", FORMAT);
    if (!s) s = compare(f->values, was, 1, e);
    if (!s) s = compare(was, f->values, 0, e);
    json_decref(root);
    return s;
}

enum status fingerprint_read_state(json_t **out, const char *path, struct err *e)
{
    json_t *root = NULL;
    TRY(json_parse_file(path, &root, e));
    json_t *state = json_object_get(root, "state");
    enum status s = OK;
    *out = json_is_object(state) ? json_incref(state) : NULL;
    if (!state && !(*out = json_object())) s = err_set(e, ERR_MEMORY, "no memory to read %s", path);
    if (state && !*out) s = err_at(e, ERR_FORMAT, path, 0, 0, "\"state\" should be an object");
    json_decref(root);
    return s;
}
