#include "run/sidecar.h"

#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"

static const char *const tokenizer_files[] = {
    "tokenizer.json",      "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.json",          "merges.txt",      "added_tokens.json",     "generation_config.json",
    "chat_template.jinja",
};

static enum status read_ends(struct sidecar *out, const json_t *o, const char *path, struct err *e)
{
    json_t *ends = json_object_get(o, "end_tokens");
    if (ends && !json_is_array(ends))
        return err_at(e, ERR_FORMAT, path, 0, 0, "\"end_tokens\" should be a list of ids");
    for (size_t i = 0; i < json_array_size(ends) && i < SIDECAR_ENDS_MAX; i++)
        out->ends[out->num_ends++] = (int32_t)json_integer_value(json_array_get(ends, i));
    return OK;
}

enum status sidecar_read(struct sidecar *out, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    const char *template = "", *hash = "";
    json_t *o = NULL;
    *out = (struct sidecar){0};
    TRY(io_join(path, sizeof path, dir, "cria.json", e));
    if (!io_exists(path)) return OK;
    TRY(json_parse_file(path, &o, e));
    enum status s = json_get_string(o, "template", &template, path, e);
    if (!s) s = json_get_string(o, "tokenizer_hash", &hash, path, e);
    if (!s) s = read_ends(out, o, path, e);
    snprintf(out->template_name, sizeof out->template_name, "%s", template);
    snprintf(out->tokenizer_hash, sizeof out->tokenizer_hash, "%s", hash);
    json_decref(o);
    return s;
}

enum status sidecar_template(const char *dir, const struct template **out, struct err *e)
{
    char path[IO_PATH_MAX];
    const char *name = "", *text = NULL;
    json_t *o = NULL;
    *out = NULL;
    TRY(io_join(path, sizeof path, dir, "cria.json", e));
    if (!io_exists(path)) return OK;
    TRY(json_parse_file(path, &o, e));
    enum status s = json_get_string(o, "template", &name, path, e);
    if (!s) s = json_get_string(o, "template_text", &text, path, e);
    if (!s && text)
        s = template_parse(out, text, strlen(text), path, e);
    else if (!s && name[0] && !(*out = template_find(name)))
        s = err_at(e, ERR_CONFIG, path, 0, 0, "there is no template \"%.60s\"", name);
    json_decref(o);
    return s;
}

/* As text, for a file of ours that has no room for it otherwise. */
static enum status add_text(json_t *o, const struct template *t)
{
    struct buf text;
    if (!t || !t->own) return OK;
    buf_init(&text, 4 * TEMPLATE_FILE_MAX);
    enum status s = template_write(t, &text);
    if (!s && json_object_set_new(o, "template_text", json_stringn(text.data, text.len)))
        s = ERR_MEMORY;
    buf_free(&text);
    return s;
}

enum status sidecar_write(const struct sidecar *s, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    TRY(io_join(path, sizeof path, dir, "cria.json", e));
    json_t *ends = json_array();
    for (int32_t i = 0; i < s->num_ends; i++) json_array_append_new(ends, json_integer(s->ends[i]));
    json_t *o = json_pack("{s:s?,s:o,s:s,s:s}", "template",
                          s->template_name[0] ? s->template_name : NULL, "end_tokens", ends,
                          "tokenizer_hash", s->tokenizer_hash, "cria_version", CRIA_VERSION);
    if (!o) return err_set(e, ERR_MEMORY, "no memory to write %s", path);
    enum status status = add_text(o, s->own_template);
    if (status)
        err_set(e, status, "no memory to write %s", path);
    else
        status = json_write_file(o, path, e);
    json_decref(o);
    return status;
}

static enum status write_generation_config(const char *to, const struct model_config *c,
                                           struct err *e)
{
    char path[IO_PATH_MAX];
    TRY(io_join(path, sizeof path, to, "generation_config.json", e));
    if (io_exists(path)) return OK;
    json_t *o = json_object(), *eos = json_array();
    for (int32_t i = 0; i < c->num_eos; i++) json_array_append_new(eos, json_integer(c->eos[i]));
    if (c->bos >= 0) json_object_set_new(o, "bos_token_id", json_integer(c->bos));
    if (c->num_eos == 1) json_object_set(o, "eos_token_id", json_array_get(eos, 0));
    if (c->num_eos > 1) json_object_set(o, "eos_token_id", eos);
    json_decref(eos);
    enum status s =
        o ? json_write_file(o, path, e) : err_set(e, ERR_MEMORY, "no memory for %s", path);
    json_decref(o);
    return s;
}

static enum status write_chat_template(const char *to, const struct template *template,
                                       const struct tokenizer *tokenizer, struct err *e)
{
    char path[IO_PATH_MAX];
    struct buf text;
    TRY(io_join(path, sizeof path, to, "chat_template.jinja", e));
    buf_init(&text, 1 << 20);
    enum status s = template_jinja(template, tokenizer_adds_bos(tokenizer), &text);
    s = s ? err_set(e, s, "no memory for the chat template")
          : io_write_file(path, text.data, text.len, e);
    buf_free(&text);
    return s;
}

enum status sidecar_copy_files(const char *from, const char *to, struct err *e)
{
    for (size_t i = 0; i < sizeof tokenizer_files / sizeof *tokenizer_files; i++) {
        char source[IO_PATH_MAX], target[IO_PATH_MAX];
        TRY(io_join(source, sizeof source, from, tokenizer_files[i], e));
        TRY(io_join(target, sizeof target, to, tokenizer_files[i], e));
        if (io_file_size(source) >= 0) TRY(io_copy_file(source, target, e));
    }
    return OK;
}

enum status sidecar_copy_tokenizer(const char *from, const char *to,
                                   const struct model_config *config,
                                   const struct template *template,
                                   const struct tokenizer *tokenizer, struct err *e)
{
    TRY(sidecar_copy_files(from, to, e));
    TRY(write_generation_config(to, config, e));
    return template ? write_chat_template(to, template, tokenizer, e) : OK;
}
