#include "config/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/read.h"
#include "config/split.h"

#define COMMAND_LINE "command line"

enum status config_lookup(const struct config_receiver *r, const struct config_scalar *name,
                          struct config_meaning *m)
{
    *m = (struct config_meaning){.key = config_find(name->text)};
    if (m->key >= 0) return OK;
    m->alias = config_find_alias(name->text);
    if (m->alias) {
        m->key = m->alias->key;
        return OK;
    }
    m->stranger = config_find_stranger(name->text);
    if (m->stranger) return OK;
    const char *names[CONFIG_MAX_NAMES];
    const char *near = config_nearest(name->text, names, config_names(names));
    err_at(r->e, ERR_CONFIG, r->file, name->line, name->column, "unknown key '%.80s'", name->text);
    return near ? err_hint(r->e, "did you mean %s?", near)
                : err_hint(r->e, "cria train --help lists the keys");
}

/* Is `text` one of the words of "a|b|c"? */
static int is_among(const char *text, const char *words)
{
    size_t n = strlen(text);
    for (const char *at = words; at;) {
        if (!strncasecmp(at, text, n) && (at[n] == '|' || !at[n])) return 1;
        if ((at = strchr(at, '|'))) at++;
    }
    return 0;
}

static void place_text(const struct config_origin *origin, const char *file, char *out, size_t size)
{
    if (origin->source == CONFIG_FROM_FILE)
        snprintf(out, size, "%s:%ld", file, origin->line);
    else
        snprintf(out, size, "%s",
                 origin->source == CONFIG_FROM_COMMAND_LINE ? COMMAND_LINE : "default");
}

static enum status receive_stranger(struct config_receiver *r, const struct config_scalar *name,
                                    const struct config_stranger *stranger,
                                    const struct config_value *value)
{
    const char *harmless = stranger->harmless;
    if (value && config_is_null(&value->scalar)) return OK;
    int passes =
        harmless && (!strcmp(harmless, "*") || (value && is_among(value->scalar.text, harmless)));
    if (passes) {
        char place[300];
        struct config_origin origin = {.source = r->source, .line = name->line};
        place_text(&origin, r->file, place, sizeof place);
        log_notice("%s: %s has no effect here%s%s", place, name->text, stranger->advice ? ": " : "",
                   stranger->advice ? stranger->advice : "");
        return OK;
    }
    if (stranger->planned) {
        err_at(r->e, ERR_UNSUPPORTED, r->file, name->line, name->column, "%s is not supported yet",
               name->text);
        return err_hint(r->e, "remove it: this version would not honour it");
    }
    err_at(r->e, ERR_CONFIG, r->file, name->line, name->column, "%s is no key of cria", name->text);
    return err_hint(r->e, "%s", stranger->advice);
}

static enum status given_twice(const struct config_receiver *r, const struct config_scalar *name,
                               const struct config_origin *first)
{
    char place[300];
    place_text(first, r->file, place, sizeof place);
    if (!strcmp(first->spelling, name->text))
        err_at(r->e, ERR_CONFIG, r->file, name->line, name->column, "%s is given twice",
               name->text);
    else
        err_at(r->e, ERR_CONFIG, r->file, name->line, name->column, "%s means the same as %s",
               name->text, first->spelling);
    return err_hint(r->e, "keep one; the first is %s (%s)", first->spelling, place);
}

/* Puts an alias's value into our words. *nothing = 1: it says nothing here. */
static enum status translate(const struct config_receiver *r, const struct config_scalar *name,
                             const struct config_alias *alias, struct config_value *value,
                             int *nothing)
{
    const struct config_scalar *at = &value->scalar;
    double x;
    *nothing = !value->is_list &&
               (config_is_null(at) || (alias->silent && is_among(at->text, alias->silent)));
    if (*nothing) return OK;
    if (alias->below && !value->is_list && !config_parse_number(at->text, &x) && x >= alias->below)
        return err_at(r->e, ERR_CONFIG, r->file, at->line, at->column,
                      "%s: %s is out of range, it must be below %g", name->text, at->text,
                      alias->below);
    if (!alias->yes) return OK;
    int flag = value->is_list ? -1 : config_parse_flag(at->text);
    if (flag < 0)
        return err_at(r->e, ERR_CONFIG, r->file, at->line, at->column, "%s: neither true nor false",
                      name->text);
    *nothing = !flag && !alias->no;
    value->scalar.text = flag ? alias->yes : alias->no;
    return OK;
}

static void notice_alias(const struct config_receiver *r, const struct config_scalar *name,
                         const struct config_alias *alias, const struct config_value *value)
{
    char place[300];
    struct config_origin origin = {.source = r->source, .line = name->line};
    place_text(&origin, r->file, place, sizeof place);
    log_notice("%s: %s (%s) is taken as %s%s%s", place, name->text, alias->tool,
               config_name(alias->key), alias->yes ? ": " : "",
               alias->yes ? value->scalar.text : "");
}

static void notice_synonym(const struct config_receiver *r, enum config_key key,
                           const struct config_scalar *word)
{
    char place[300];
    struct config_origin origin = {.source = r->source, .line = word->line};
    const char *why = config_synonym_note(key, word->text);
    if (!why) return;
    place_text(&origin, r->file, place, sizeof place);
    log_notice("%s: %s: %s is taken as %s: %s", place, config_name(key), word->text,
               config_synonym(key, word->text), why);
}

enum status config_receive(struct config_receiver *r, const struct config_scalar *name,
                           const struct config_meaning *m, const struct config_value *given)
{
    if (m->stranger) return receive_stranger(r, name, m->stranger, given);
    enum config_key key = (enum config_key)m->key;
    struct config_value value = *given;
    struct config_origin *seen = &r->seen[key];
    int null = 0;
    int nothing = 0;
    if (m->alias) TRY(translate(r, name, m->alias, &value, &nothing));
    if (nothing) return OK;
    if (seen->spelling) return given_twice(r, name, seen);
    if (m->alias) notice_alias(r, name, m->alias, &value);
    if (!value.is_list) notice_synonym(r, key, &value.scalar);
    *seen = (struct config_origin){.source = r->source,
                                   .line = value.scalar.line,
                                   .column = value.scalar.column,
                                   .spelling = name->text};
    enum status s = config_set(r->c, key, &value, r->file, &null, r->e);
    if (s)
        return err_hint(r->e, "%s: %s (%s)", config_name(key), config_rows[key].help,
                        *config_rows[key].preset ? config_rows[key].preset : "no default");
    if (!null) r->c->origin[key] = *seen;
    return OK;
}

static enum status load_file(struct config *c, const char *path, struct err *e)
{
    struct buf text;
    buf_init(&text, CONFIG_FILE_MAX);
    struct config_receiver r = {.source = CONFIG_FROM_FILE, .e = e};
    enum status s = io_read_file(path, &text, e);
    if (s == ERR_IO) err_hint(e, "cria train CONFIG wants a YAML file; configs/ has recipes");
    if (s == ERR_FORMAT || (!s && text.len > CONFIG_FILE_MAX)) {
        s = err_set(e, ERR_CONFIG, "%s: too large for a config", path);
        err_hint(e, "it is a file of key: value lines, 1 MB at most; data is named in datasets");
    }
    if (s) goto out;
    r.c = c;
    r.file = c->file = config_copy(c, path, strlen(path));
    s = c->file ? config_read(&r, text.data, text.len)
                : err_set(e, ERR_MEMORY, "no memory for the configuration");
out:
    buf_free(&text);
    return s;
}

/* A file's text is checked by libyaml; an override is held to the same, so that the resolved config
 * can hold it. */
static int is_utf8(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        unsigned first = *at, more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
        if (more && (first < 0xC2 || first > 0xF4)) return 0;
        unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;  /* overlong below */
        unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF; /* no character above */
        for (at++; more; more--, at++, low = 0x80, high = 0xBF)
            if (*at < low || *at > high) return 0;
    }
    return 1;
}

static enum status override(struct config_receiver *r, const char *text)
{
    const char *equals = strchr(text, '='), *value = equals ? equals + 1 : NULL;
    struct config_meaning m;
    struct config_value v;
    if (!equals || equals == text) {
        err_at(r->e, ERR_CONFIG, r->file, 0, 0, "'%.80s' is no setting", text);
        return err_hint(r->e, "write key=value");
    }
    if (!is_utf8(text))
        return err_at(r->e, ERR_CONFIG, r->file, 0, 0, "'%.80s' is not UTF-8", text);
    struct config_scalar name = {.text = config_copy(r->c, text, (size_t)(equals - text))};
    if (!name.text) return err_set(r->e, ERR_MEMORY, "no memory for the configuration");
    TRY(config_lookup(r, &name, &m));
    TRY(config_read_value(r, m.key < 0 ? 0 : (enum config_key)m.key, value, &v));
    return config_receive(r, &name, &m, &v);
}

/* Of two keys that exclude each other, the one on the command line beats the one in the file. */
static enum status settle(struct config *c, enum config_key a, enum config_key b, struct err *e)
{
    int from_a = c->origin[a].source, from_b = c->origin[b].source;
    if (!from_a || !from_b || from_a == from_b) return OK;
    enum config_key loser = from_a < from_b ? a : b, winner = loser == a ? b : a;
    log_notice("%s on the command line takes the place of %s:%ld: %s", config_name(winner), c->file,
               c->origin[loser].line, config_name(loser));
    return config_reset(c, loser, e);
}

/* "key (place)" */
static void key_and_place(const struct config *c, enum config_key key, char *out, size_t size)
{
    char place[300];
    config_where(c, key, place, sizeof place);
    snprintf(out, size, "%s (%s)", c->origin[key].spelling, place);
}

static enum status exclude(const struct config *c, enum config_key a, enum config_key b,
                           struct err *e)
{
    char other[384];
    key_and_place(c, b, other, sizeof other);
    config_fail(c, a, e, "excludes %s", other);
    return err_hint(e, "keep one of them");
}

/* A metric that only evaluations of pairs have. */
static int needs_pairs(const struct config *c)
{
    return c->metric_for_best_model >= CONFIG_BEST_PREFERENCE && c->stage != CONFIG_STAGE_DPO;
}

/* Aligning without dropout (TRL's default) while the adapter asks for it. */
static int has_dropout_without_effect(const struct config *c)
{
    return (c->stage == CONFIG_STAGE_DPO || c->stage == CONFIG_STAGE_KTO) && c->disable_dropout &&
           c->finetuning == CONFIG_LORA && c->lora_dropout > 0;
}

static enum status exclude_dropout(const struct config *c, struct err *e)
{
    char other[384];
    key_and_place(c, KEY_disable_dropout, other, sizeof other);
    config_fail(c, KEY_lora_dropout, e, "%g has no effect with %s true", c->lora_dropout, other);
    return err_hint(e, "set lora_dropout: 0, or disable_dropout: false");
}

/* Every key that was set must be honoured. */
static enum status check_applicable(const struct config *c, struct err *e)
{
    for (int key = 0; key < CONFIG_NUM_KEYS; key++) {
        const char *wants;
        enum config_key because;
        char why[512] = "", other[384];
        if (!config_is_set(c, key) || config_applies(c, key, &wants, &because)) continue;
        key_and_place(c, because, other, sizeof other);
        if (config_rows[because].kind == KIND_CHOICE)
            snprintf(why, sizeof why, "; it is %s in %s", config_word(c, because), other);
        config_fail(c, key, e, "has no effect without %s%s", wants, why);
        return err_hint(e, "remove it, or set %s", wants);
    }
    return OK;
}

static enum status check_values(const struct config *c, struct err *e)
{
    const struct config_list *targets = &c->lora_target_modules;
    if (c->max_steps == 0)
        return config_fail(c, KEY_max_steps, e, "0 steps train nothing; -1 goes by epochs");
    if (c->val_size >= 1 && c->val_size != floor(c->val_size))
        return config_fail(c, KEY_val_size, e, "%g is neither below 1 nor a whole number",
                           c->val_size);
    for (size_t i = 0; i < targets->n; i++)
        if (targets->n > 1 && !strcmp(targets->items[i], "all-linear"))
            return config_fail(c, KEY_lora_target_modules, e,
                               "all-linear already stands for the others");
    if (has_dropout_without_effect(c)) return exclude_dropout(c, e);
    if (needs_pairs(c)) {
        config_fail(c, KEY_metric_for_best_model, e, "%s is there in stage dpo only",
                    config_word(c, KEY_metric_for_best_model));
        return err_hint(e, "take eval_loss");
    }
    if (!targets->n) return config_fail(c, KEY_lora_target_modules, e, "names no layer");
    if (c->val_size > 0 && c->eval_dataset.n) return exclude(c, KEY_val_size, KEY_eval_dataset, e);
    if (c->overwrite_output_dir && c->resume_from_checkpoint)
        return exclude(c, KEY_overwrite_output_dir, KEY_resume_from_checkpoint, e);
    if (c->max_steps > 0 && config_is_set(c, KEY_num_train_epochs))
        return exclude(c, KEY_max_steps, KEY_num_train_epochs, e);
    return check_applicable(c, e);
}

/* A default that the stage replaces. The origin stays that of a default. */
static enum status set_preset(struct config *c, enum config_key key, const char *preset,
                              struct err *e)
{
    struct config_value v = {.scalar = {.text = preset}};
    int null;
    return config_set(c, key, &v, "default", &null, e);
}

/* stage: simpo is stage: dpo with loss_type: simpo. */
static enum status settle_loss(struct config *c, struct err *e)
{
    const char *loss = config_word(c, KEY_stage);
    if (c->stage < CONFIG_STAGE_DPO_LOSSES) return OK;
    if (config_is_set(c, KEY_loss_type)) {
        char other[384];
        if (c->loss_type.n != 1 || strcmp(c->loss_type.items[0], loss)) {
            key_and_place(c, KEY_loss_type, other, sizeof other);
            config_fail(c, KEY_stage, e, "%s is another loss than %s says", loss, other);
            return err_hint(e, "write stage: dpo and keep loss_type");
        }
    } else {
        TRY(set_preset(c, KEY_loss_type, loss, e));
        c->origin[KEY_loss_type] = c->origin[KEY_stage];
    }
    char place[300];
    config_where(c, KEY_stage, place, sizeof place);
    log_notice("%s: stage %s is taken as dpo with loss_type %s", place, loss, loss);
    c->stage = CONFIG_STAGE_DPO;
    return OK;
}

static enum status settle_stage(struct config *c, struct err *e)
{
    TRY(settle_loss(c, e));
    for (size_t i = 0; i < config_num_stage_defaults; i++) {
        const struct config_stage_default *d = &config_stage_defaults[i];
        if (d->stage == c->stage && !config_is_set(c, d->key))
            TRY(set_preset(c, d->key, d->preset, e));
    }
    return OK;
}

enum status config_load(struct config *c, const char *path, const char *const *overrides,
                        size_t num_overrides, struct err *e)
{
    struct config_receiver line = {
        .c = c, .file = COMMAND_LINE, .source = CONFIG_FROM_COMMAND_LINE, .e = e};
    enum status s = OK;
    *c = (struct config){0};
    for (int key = 0; key < CONFIG_NUM_KEYS && !s; key++) s = config_reset(c, key, e);
    if (!s && path) s = load_file(c, path, e);
    for (size_t i = 0; i < num_overrides && !s; i++) s = override(&line, overrides[i]);
    if (!s && c->max_steps > 0) s = settle(c, KEY_max_steps, KEY_num_train_epochs, e);
    if (!s && c->val_size > 0 && c->eval_dataset.n)
        s = settle(c, KEY_val_size, KEY_eval_dataset, e);
    if (!s) s = settle_stage(c, e);
    if (!s) s = check_values(c, e);
    if (!s) s = config_resolve_splits(c, e);
    if (s) config_free(c);
    return s;
}

const char *config_name(enum config_key key) { return config_rows[key].name; }

int config_is_set(const struct config *c, enum config_key key)
{
    return c->origin[key].source != CONFIG_FROM_DEFAULT;
}

void config_where(const struct config *c, enum config_key key, char *out, size_t size)
{
    place_text(&c->origin[key], c->file, out, size);
}

enum status config_fail(const struct config *c, enum config_key key, struct err *e, const char *fmt,
                        ...)
{
    const struct config_origin *origin = &c->origin[key];
    const char *file = origin->source == CONFIG_FROM_FILE           ? c->file
                       : origin->source == CONFIG_FROM_COMMAND_LINE ? COMMAND_LINE
                                                                    : NULL;
    char text[sizeof e->message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_at(e, ERR_CONFIG, file, origin->line, origin->column, "%s: %s", origin->spelling,
                  text);
}

enum status config_blame(const struct config *c, enum config_key key, struct err *e)
{
    struct err was = *e;
    config_fail(c, key, e, "%s", was.message);
    memcpy(e->hint, was.hint, sizeof e->hint);
    return e->code = was.code;
}

static int is_empty(const struct config *c, enum config_key key)
{
    const void *field = config_field_of(c, key);
    switch (config_rows[key].kind) {
    case KIND_STRING: return !*(const char *const *)field;
    case KIND_LIST:
    case KIND_TEXTS: return !((const struct config_list *)field)->n;
    case KIND_DATASETS: return !((const struct config_datasets *)field)->n;
    default: return 0;
    }
}

enum status config_require(const struct config *c, enum config_key key, struct err *e)
{
    if (!is_empty(c, key)) return OK;
    err_at(e, ERR_CONFIG, c->file, 0, 0, "%s is missing", config_name(key));
    return err_hint(e, "%s", config_rows[key].help);
}

const char *config_word(const struct config *c, enum config_key key)
{
    return config_rows[key].words[*(const int *)config_field_of(c, key)];
}
