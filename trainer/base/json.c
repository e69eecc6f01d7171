#include "base/json.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"

/* jansson's memory comes from the same door as everybody's. */
__attribute__((constructor)) static void use_mem(void)
{
    json_set_alloc_funcs(mem_alloc, mem_free);
}

enum status json_parse_text(const char *text, size_t n, const char *where, json_t **out,
                            struct err *e)
{
    json_error_t je;
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    mem_failed();
    *out = json_loadb(text, n, flags, &je);
    if (!*out && json_error_code(&je) == json_error_numeric_overflow) /* "model_max_length": 1e30 */
        *out = json_loadb(text, n, flags | JSON_DECODE_INT_AS_REAL, &je);
    if (*out) return OK;
    if (mem_failed()) return err_set(e, ERR_MEMORY, "no memory to parse %s", where);
    const char *why = je.text;
    if (json_error_code(&je) == json_error_null_character) why = "a text holds the zero character";
    return err_at(e, ERR_FORMAT, where, je.line, je.column, "not JSON: %s", why);
}

enum status json_parse_file(const char *path, json_t **out, struct err *e)
{
    struct buf text;
    *out = NULL;
    buf_init(&text, JSON_FILE_MAX);
    enum status s = io_read_file(path, &text, e);
    if (!s) s = json_parse_text(text.data ? text.data : "", text.len, path, out, e);
    if (s == ERR_FORMAT) err_hint(e, "the file is damaged or cut short: fetch or write it again");
    buf_free(&text);
    return s;
}

/* The member, or NULL when absent or null. */
static json_t *member(const json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    return json_is_null(v) ? NULL : v;
}

static enum status wrong_type(const char *key, const char *want, const char *where, struct err *e)
{
    err_at(e, ERR_FORMAT, where, 0, 0, "\"%s\" should be %s", key, want);
    return err_hint(e, "correct it, or fetch or write the file again");
}

enum status json_get_string(const json_t *object, const char *key, const char **out,
                            const char *where, struct err *e)
{
    json_t *v = member(object, key);
    if (!v) return OK;
    if (!json_is_string(v)) return wrong_type(key, "a string", where, e);
    *out = json_string_value(v);
    return OK;
}

enum status json_get_int(const json_t *object, const char *key, int64_t *out, const char *where,
                         struct err *e)
{
    json_t *v = member(object, key);
    if (!v) return OK;
    double real = json_real_value(v); /* a file with a huge integer has all of them as reals */
    int whole = json_is_real(v) && real == floor(real) && fabs(real) <= 0x1p53;
    if (!json_is_integer(v) && !whole) return wrong_type(key, "an integer", where, e);
    *out = whole ? (int64_t)real : json_integer_value(v);
    return OK;
}

enum status json_get_double(const json_t *object, const char *key, double *out, const char *where,
                            struct err *e)
{
    json_t *v = member(object, key);
    if (!v) return OK;
    if (!json_is_number(v)) return wrong_type(key, "a number", where, e);
    *out = json_number_value(v);
    return OK;
}

enum status json_get_bool(const json_t *object, const char *key, int *out, const char *where,
                          struct err *e)
{
    json_t *v = member(object, key);
    if (!v) return OK;
    if (!json_is_boolean(v)) return wrong_type(key, "true or false", where, e);
    *out = json_is_true(v);
    return OK;
}

static int append_block(const char *block, size_t n, void *out)
{
    return buf_append(out, block, n) ? -1 : 0;
}

enum status json_append_text(const json_t *value, struct buf *out, struct err *e)
{
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12);
    if (value && !json_dump_callback(value, append_block, out, flags)) return OK;
    return err_set(e, ERR_MEMORY, "no memory to write JSON");
}

enum status json_write_file(const json_t *value, const char *path, struct err *e)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (!text) return err_set(e, ERR_MEMORY, "no memory to write %s", path);
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the zero: io_write_file takes a length */
    enum status s = io_write_file(path, text, n + 1, e);
    mem_free(text);
    return s;
}
