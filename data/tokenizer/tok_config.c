/* tok_config.c - the files beside a tokenizer: tokenizer_config.json, special_tokens_map.json and
 * chat_template.jinja. */
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"
#include "data/tokenizer/model.h"

#define CONFIG_MAX ((size_t)64 << 20)
#define LONGEST_INTEGER 18 /* digits that always fit */
#define TEMPLATE_MAX ((size_t)16 << 20)

/* A token is given by its spelling or as an object with "content"; null or absent changes nothing.
 */
static enum status read_token(const struct tokenizer *t, const json_t *root, const char *key,
                              const char *path, int32_t *id, struct err *e)
{
    const json_t *value = json_object_get(root, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    const char *spelling = json_string_value(value);
    if (!spelling) return OK;
    int32_t found = vocab_find(&t->vocab, spelling, strlen(spelling));
    if (found < 0)
        return err_at(e, ERR_FORMAT, path, 0, 0, "%s \"%.80s\" is not in the vocabulary", key,
                      spelling);
    *id = found;
    return OK;
}

/* One template, or a list of named ones of which "default" counts. */
static enum status read_template(struct tokenizer *t, const json_t *root, const char *path,
                                 struct err *e)
{
    const json_t *value = json_object_get(root, "chat_template"), *item;
    const char *text = json_string_value(value);
    size_t i;
    json_array_foreach(value, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && !strcmp(name, "default"))
            text = json_string_value(json_object_get(item, "template"));
    }
    if (!text) return OK;
    mem_free(t->chat_template);
    t->chat_template = mem_strdup(text);
    return t->chat_template ? OK : err_at(e, ERR_MEMORY, path, 0, 0, "no memory for the template");
}

static enum status read_config(struct tokenizer *t, const json_t *root, const char *path,
                               struct err *e)
{
    TRY(read_token(t, root, "bos_token", path, &t->bos, e));
    TRY(read_token(t, root, "eos_token", path, &t->eos, e));
    TRY(json_get_bool(root, "add_bos_token", &t->adds_bos, path, e));
    TRY(json_get_bool(root, "add_eos_token", &t->adds_eos, path, e));
    return read_template(t, root, path, e);
}

/* Python writes model_max_length as 1000000000000000019884624838656, which jansson takes for too
 * big an integer: such numbers get an exponent of zero, which makes them reals. */
static enum status copy_with_reals(struct buf *out, const char *text, size_t n)
{
    int in_string = 0;
    for (size_t i = 0, next; i < n; i = next) {
        next = i + 1;
        if (in_string && text[i] == '\\' && next < n) next++;
        if (text[i] == '"') in_string = !in_string;
        if (!in_string) next = size_max(next, i + strspn(text + i, "0123456789"));
        TRY(buf_append(out, text + i, next - i));
        if (next - i > LONGEST_INTEGER && !strchr(".eE", text[next] ? text[next] : 'x'))
            TRY(buf_puts(out, "e0"));
    }
    return OK;
}

static enum status parse(const char *path, json_t **root, struct err *e)
{
    struct buf text, fixed;
    buf_init(&text, CONFIG_MAX);
    buf_init(&fixed, CONFIG_MAX * 2);
    enum status s = io_read_file(path, &text, e);
    if (!s && text.data && copy_with_reals(&fixed, text.data, text.len))
        s = err_at(e, ERR_MEMORY, path, 0, 0, "no memory to read it");
    if (!s) s = json_parse_text(fixed.data ? fixed.data : "", fixed.len, path, root, e);
    buf_free(&text);
    buf_free(&fixed);
    return s;
}

static enum status read_json(struct tokenizer *t, const char *dir, const char *name, struct err *e)
{
    char path[IO_PATH_MAX];
    json_t *root;
    TRY(io_join(path, sizeof path, dir, name, e));
    if (!io_exists(path)) return OK;
    TRY(parse(path, &root, e));
    enum status s = read_config(t, root, path, e);
    json_decref(root);
    return s;
}

static enum status read_jinja(struct tokenizer *t, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    struct buf text;
    TRY(io_join(path, sizeof path, dir, "chat_template.jinja", e));
    if (!io_exists(path)) return OK;
    buf_init(&text, TEMPLATE_MAX);
    enum status s = io_read_file(path, &text, e);
    if (!s) {
        mem_free(t->chat_template);
        t->chat_template = mem_strndup(text.data ? text.data : "", text.len);
        if (!t->chat_template) s = err_at(e, ERR_MEMORY, path, 0, 0, "no memory for the template");
    }
    buf_free(&text);
    return s;
}

enum status tokenizer_read_chat_template(const char *dir, char **out, struct err *e)
{
    struct tokenizer t = {0};
    char path[IO_PATH_MAX];
    json_t *root = NULL;
    *out = NULL;
    TRY(io_join(path, sizeof path, dir, "tokenizer_config.json", e));
    enum status s = io_exists(path) ? parse(path, &root, e) : OK;
    if (!s && root) s = read_template(&t, root, path, e);
    if (!s) s = read_jinja(&t, dir, e);
    json_decref(root);
    if (s)
        mem_free(t.chat_template);
    else
        *out = t.chat_template;
    return s;
}

enum status tok_config_read(struct tokenizer *t, const char *dir, struct err *e)
{
    TRY(read_json(t, dir, "special_tokens_map.json", e));
    TRY(read_json(t, dir, "tokenizer_config.json", e)); /* has the last word */
    return read_jinja(t, dir, e);
}
