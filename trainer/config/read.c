#include "config/read.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one looked at */
    struct config_receiver *r;
    const char *text;
    size_t n;
};

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for the configuration");
}

static enum status fail_at(const struct reader *y, const struct config_scalar *at, const char *what,
                           const char *hint)
{
    err_at(y->r->e, ERR_CONFIG, y->r->file, at->line, at->column, "%s", what);
    return hint ? err_hint(y->r->e, "%s", hint) : ERR_CONFIG;
}

static struct config_scalar place(const struct reader *y, const yaml_mark_t *mark)
{
    if (y->r->source == CONFIG_FROM_COMMAND_LINE) return (struct config_scalar){.text = ""};
    return (struct config_scalar){
        .text = "", .line = (long)mark->line + 1, .column = (long)mark->column + 1};
}

static enum status fail(const struct reader *y, const char *what, const char *hint)
{
    struct config_scalar at = place(y, &y->event.start_mark);
    return fail_at(y, &at, what, hint);
}

/* Does the line (0-based) start with white space that has a tab in it? */
static int indented_by_tab(const struct reader *y, size_t line)
{
    const char *at = y->text, *end = y->text + y->n;
    while (line-- && (at = memchr(at, '\n', (size_t)(end - at)))) at++;
    while (at && at < end && *at == ' ') at++;
    return at && at < end && *at == '\t';
}

static enum status parser_failed(const struct reader *y)
{
    const yaml_parser_t *p = &y->parser;
    struct err *e = y->r->e;
    if (p->error == YAML_MEMORY_ERROR) return no_memory(e);
    const char *problem = p->problem ? p->problem : "cannot be read";
    if (p->error == YAML_READER_ERROR) {
        size_t line = 0;
        for (size_t i = 0; i < p->problem_offset && i < y->n; i++) line += y->text[i] == '\n';
        struct config_scalar at = place(y, &(yaml_mark_t){.line = line});
        err_at(e, ERR_CONFIG, y->r->file, at.line, 0, "not UTF-8 text: %s", problem);
        return err_hint(e, "save the file as UTF-8, e.g. iconv -f LATIN1 -t UTF-8");
    }
    struct config_scalar at = place(y, &p->problem_mark);
    const char *context = p->context ? p->context : "";
    err_at(e, ERR_CONFIG, y->r->file, at.line, at.column, "not valid YAML: %s%s%s", problem,
           *context ? " " : "", context);
    if (indented_by_tab(y, p->problem_mark.line))
        err_hint(e, "indent with spaces: YAML allows no tabs there");
    return ERR_CONFIG;
}

/* Looks at the next event; refuses what no config needs. */
static enum status next(struct reader *y)
{
    yaml_event_delete(&y->event);
    if (!yaml_parser_parse(&y->parser, &y->event)) return parser_failed(y);
    const char *anchor = NULL, *tag = NULL;
    switch (y->event.type) {
    case YAML_ALIAS_EVENT:
        return fail(y, "aliases (*name) are not supported", "write the value out");
    case YAML_SCALAR_EVENT:
        anchor = (const char *)y->event.data.scalar.anchor;
        tag = (const char *)y->event.data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = (const char *)y->event.data.sequence_start.anchor;
        tag = (const char *)y->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = (const char *)y->event.data.mapping_start.anchor;
        tag = (const char *)y->event.data.mapping_start.tag;
        break;
    default: break;
    }
    if (anchor) return fail(y, "anchors (&name) are not supported", "write the value out");
    if (tag) return fail(y, "tags (!name) are not supported", "the key says what its value is");
    return OK;
}

/* Copies the scalar that is looked at. */
static enum status take_scalar(struct reader *y, struct config_scalar *out)
{
    size_t n = y->event.data.scalar.length;
    const char *text = (const char *)y->event.data.scalar.value;
    *out = place(y, &y->event.start_mark);
    if (memchr(text, 0, n)) return fail(y, "a zero byte in a value", NULL);
    out->plain = y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    out->text = config_copy(y->r->c, text, n);
    return out->text ? OK : no_memory(y->r->e);
}

/* Steps over the value that is looked at, however deep. */
static enum status skip(struct reader *y)
{
    size_t depth = 0;
    for (;;) {
        yaml_event_type_t type = y->event.type;
        depth += type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT;
        depth -= type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT;
        if (!depth) return OK;
        TRY(next(y));
    }
}

/* ---- a dataset ---- */

static enum status no_such_member(const struct reader *y, const char *inside,
                                  const struct config_scalar *name)
{
    const char *known[64];
    size_t n = 0;
    struct err *e = y->r->e;
    for (size_t i = 0; i < config_num_members && n < 64; i++)
        if (!strcmp(config_members[i].inside, inside)) known[n++] = config_members[i].spelling;
    const char *near = config_nearest(name->text, known, n);
    err_at(e, ERR_CONFIG, y->r->file, name->line, name->column, "%s has no '%.80s'",
           *inside ? inside : "a dataset", name->text);
    if (near) return err_hint(e, "did you mean %s?", near);
    if (*inside) return err_hint(e, "it renames fields: write field_NAME or role_NAME instead");
    return err_hint(e,
                    "it has path, split, format, template, weight, fraction, max_samples, repeat, "
                    "sample_by, field_NAME and role_NAME");
}

/* The member that a name in the dataset or in one of its mappings stands for; NULL: none. */
static const char *find_member(const char *inside, const char *spelling)
{
    for (size_t i = 0; i < config_num_members; i++)
        if (!strcmp(config_members[i].inside, inside) &&
            !strcmp(config_members[i].spelling, spelling))
            return config_members[i].name;
    int ours = !strncmp(spelling, "field_", 6) || !strncmp(spelling, "role_", 5);
    return ours && !*inside ? spelling : NULL;
}

static int is_mapping_member(const char *name)
{
    for (size_t i = 0; i < config_num_members; i++)
        if (*name && !strcmp(config_members[i].inside, name)) return 1;
    return 0;
}

/* A dataset while it is read. */
struct names_read {
    struct config_name *names;
    size_t n;
};

/* The scalar that is looked at is one of theirs for `ours`. */
static enum status add_name(struct reader *y, const char *ours, struct names_read *x)
{
    struct config_scalar theirs;
    TRY(take_scalar(y, &theirs));
    if (!(x->n & (x->n - 1))) { /* full: twice the room; the old one stays in the config's memory */
        struct config_name *more = config_take(y->r->c, (x->n ? 2 * x->n : 1) * sizeof *more);
        if (!more) return no_memory(y->r->e);
        if (x->n) memcpy(more, x->names, x->n * sizeof *more);
        x->names = more;
    }
    x->names[x->n++] = (struct config_name){ours, theirs.text, theirs.line, theirs.column};
    return OK;
}

/* What is called otherwise: one name, or for roles a list of them. */
static enum status read_names(struct reader *y, const struct config_scalar *name, const char *ours,
                              struct names_read *x)
{
    int together = x->n && !strcmp(x->names[x->n - 1].ours, ours); /* two tags of one role */
    for (size_t i = 0; i < x->n; i++)
        if (!strcmp(x->names[i].ours, ours) && (!together || strncmp(ours, "role_", 5)))
            return fail_at(y, name, "given twice in one dataset", NULL);
    TRY(next(y));
    if (y->event.type == YAML_SCALAR_EVENT) return add_name(y, ours, x);
    if (y->event.type != YAML_SEQUENCE_START_EVENT || strncmp(ours, "role_", 5))
        return fail(y, "wants the name that the file has for it", NULL);
    for (;;) {
        TRY(next(y));
        if (y->event.type == YAML_SEQUENCE_END_EVENT) return OK;
        if (y->event.type != YAML_SCALAR_EVENT) return fail(y, "a name must be plain text", NULL);
        TRY(add_name(y, ours, x));
    }
}

/* A mapping of names, such as columns: {prompt: question}. */
static enum status read_mapping(struct reader *y, const char *inside, struct names_read *x)
{
    TRY(next(y));
    if (y->event.type != YAML_MAPPING_START_EVENT)
        return fail(y, "wants a mapping of names", "NAME: what the file calls it");
    for (;;) {
        struct config_scalar name;
        TRY(next(y));
        if (y->event.type == YAML_MAPPING_END_EVENT) return OK;
        if (y->event.type != YAML_SCALAR_EVENT) return fail(y, "a name must be plain text", NULL);
        TRY(take_scalar(y, &name));
        const char *ours = find_member(inside, name.text);
        if (!ours) return no_such_member(y, inside, &name);
        TRY(read_names(y, &name, ours, x));
    }
}

static enum status check_sample_by(struct reader *y, const struct config_scalar *s)
{
    if (!s->text || !strcmp(s->text, "line") || !strcmp(s->text, "paragraph") ||
        !strcmp(s->text, "document"))
        return OK;
    return fail_at(y, s, "sample_by is none of line, paragraph, document",
                   "it says what of a .txt file is a text by itself");
}

/* A member that has one text. */
static enum status read_text_member(struct reader *y, const struct config_scalar *name,
                                    const char *member, struct config_item *out)
{
    const struct {
        const char *name;
        struct config_scalar *to;
    } texts[] = {
        {"path", &out->path},     {"format", &out->format},     {"template", &out->template},
        {"weight", &out->weight}, {"fraction", &out->fraction}, {"max_samples", &out->max_samples},
        {"repeat", &out->repeat}, {"split", &out->split},       {"sample_by", &out->sample_by}};
    size_t at = 0;
    while (at + 1 < sizeof texts / sizeof *texts && strcmp(member, texts[at].name) != 0) at++;
    struct config_scalar *to = texts[at].to;
    char what[40];
    snprintf(what, sizeof what, "%s wants text", member);
    if (to->text) return fail_at(y, name, "given twice in one dataset", NULL);
    TRY(next(y));
    if (y->event.type != YAML_SCALAR_EVENT) return fail(y, what, NULL);
    TRY(take_scalar(y, to));
    return check_sample_by(y, &out->sample_by);
}

/* A mapping {path: ..., format: ..., ...}, its start being looked at. */
static enum status read_item(struct reader *y, struct config_item *out)
{
    struct config_scalar start = place(y, &y->event.start_mark);
    struct names_read names = {0};
    *out = (struct config_item){0};
    for (;;) {
        struct config_scalar name;
        TRY(next(y));
        if (y->event.type == YAML_MAPPING_END_EVENT) break;
        if (y->event.type != YAML_SCALAR_EVENT) return fail(y, "a name must be plain text", NULL);
        TRY(take_scalar(y, &name));
        const char *member = find_member("", name.text);
        if (is_mapping_member(name.text))
            TRY(read_mapping(y, name.text, &names));
        else if (!member)
            return no_such_member(y, "", &name);
        else if (!strncmp(member, "field_", 6) || !strncmp(member, "role_", 5))
            TRY(read_names(y, &name, member, &names));
        else
            TRY(read_text_member(y, &name, member, out));
    }
    if (!out->path.text) return fail_at(y, &start, "a dataset without a path", "add path: FILE");
    out->names = names.names;
    out->num_names = names.n;
    return OK;
}

/* Doubles the room for items when it is full; the old ones stay behind in the config's memory. */
static enum status grow(struct reader *y, struct config_item **items, size_t n)
{
    if (n & (n - 1)) return OK;
    struct config_item *more = config_take(y->r->c, (n ? 2 * n : 1) * sizeof *more);
    if (!more) return no_memory(y->r->e);
    if (n) memcpy(more, *items, n * sizeof *more);
    *items = more;
    return OK;
}

static enum status read_list(struct reader *y, struct config_value *out)
{
    struct config_item *items = NULL;
    *out = (struct config_value){.is_list = 1, .scalar = place(y, &y->event.start_mark)};
    for (;;) {
        TRY(next(y));
        if (y->event.type == YAML_SEQUENCE_END_EVENT) break;
        TRY(grow(y, &items, out->n));
        struct config_item *item = &items[out->n];
        *item = (struct config_item){0};
        if (y->event.type == YAML_SCALAR_EVENT)
            TRY(take_scalar(y, &item->path));
        else if (y->event.type == YAML_MAPPING_START_EVENT)
            TRY(read_item(y, item));
        else
            return fail(y, "a list inside a list", "one item a line: - ITEM");
        out->n++;
    }
    out->items = items;
    return OK;
}

/* The value that is looked at, of this key. */
static enum status read_value(struct reader *y, enum config_key key, struct config_value *out)
{
    if (y->event.type == YAML_SEQUENCE_START_EVENT) return read_list(y, out);
    *out = (struct config_value){0};
    if (y->event.type == YAML_SCALAR_EVENT) return take_scalar(y, &out->scalar);
    struct config_scalar at = place(y, &y->event.start_mark);
    err_at(y->r->e, ERR_CONFIG, y->r->file, at.line, at.column, "%s: wants %s, not a mapping",
           config_name(key), config_rows[key].kind == KIND_DATASETS ? "a list" : "a value");
    if (config_rows[key].kind == KIND_DATASETS)
        return err_hint(y->r->e, "start each dataset with a dash: - path: FILE");
    return ERR_CONFIG;
}

/* A value of a stranger: text, or NULL for all else. */
static enum status read_stranger(struct reader *y, struct config_value *value,
                                 const struct config_value **out)
{
    *out = NULL;
    if (y->event.type != YAML_SCALAR_EVENT) return skip(y);
    *value = (struct config_value){0};
    *out = value;
    return take_scalar(y, &value->scalar);
}

/* Keeps what was said of the first name that is no key, and names the others behind its hint. */
static void keep_refusal(struct config_receiver *r, const struct config_scalar *name)
{
    char *hint = r->refused.hint;
    size_t n = strlen(hint), size = sizeof r->refused.hint;
    if (!r->refused.code)
        r->refused = *r->e;
    else if (n + strlen(name->text) + 40 < size)
        snprintf(hint + n, size - n, "%s %s (line %ld)",
                 strchr(hint, '\n') ? "," : "\n      nor can stay:", name->text, name->line);
    else if (strcmp(hint + n - 3, "...") != 0)
        snprintf(hint + n, size - n, ", ...");
}

static enum status read_unknown(struct reader *y, const struct config_scalar *name)
{
    keep_refusal(y->r, name);
    TRY(next(y));
    return skip(y);
}

static enum status read_pair(struct reader *y)
{
    struct config_scalar name;
    struct config_meaning m;
    struct config_value value;
    const struct config_value *given = &value;
    if (y->event.type != YAML_SCALAR_EVENT) return fail(y, "a key must be plain text", NULL);
    TRY(take_scalar(y, &name));
    if (!strcmp(name.text, "<<"))
        return fail(y, "merge keys (<<) are not supported", "write the keys out");
    if (config_lookup(y->r, &name, &m)) return read_unknown(y, &name);
    TRY(next(y));
    if (m.key < 0)
        TRY(read_stranger(y, &value, &given));
    else
        TRY(read_value(y, (enum config_key)m.key, &value));
    enum status s = config_receive(y->r, &name, &m, given);
    if (s && m.key < 0) keep_refusal(y->r, &name);
    return m.key < 0 ? OK : s;
}

static enum status read_document(struct reader *y)
{
    TRY(next(y)); /* the stream's start */
    TRY(next(y));
    if (y->event.type == YAML_STREAM_END_EVENT) {
        err_at(y->r->e, ERR_CONFIG, y->r->file, 0, 0, "the file is empty");
        return err_hint(y->r->e, "one key: value a line; configs/ has recipes");
    }
    TRY(next(y));
    if (y->event.type != YAML_MAPPING_START_EVENT)
        return fail(y, "a config is a mapping", "one key: value a line");
    for (;;) {
        TRY(next(y));
        if (y->event.type == YAML_MAPPING_END_EVENT) break;
        TRY(read_pair(y));
    }
    TRY(next(y)); /* the document's end */
    TRY(next(y));
    if (y->event.type != YAML_STREAM_END_EVENT)
        return fail(y, "a second document", "a file holds one config");
    return OK;
}

static enum status open_reader(struct reader *y, struct config_receiver *r, const char *text,
                               size_t n)
{
    *y = (struct reader){.r = r, .text = text, .n = n};
    if (!yaml_parser_initialize(&y->parser)) return no_memory(r->e);
    yaml_parser_set_encoding(&y->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&y->parser, (const unsigned char *)text, n);
    return OK;
}

static void close_reader(struct reader *y)
{
    yaml_event_delete(&y->event);
    yaml_parser_delete(&y->parser);
}

enum status config_read(struct config_receiver *r, const char *text, size_t n)
{
    struct reader y;
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) text += 3, n -= 3; /* a byte order mark */
    TRY(open_reader(&y, r, text, n));
    enum status s = read_document(&y);
    close_reader(&y);
    if (!r->refused.code) return s;
    *r->e = r->refused;
    return r->e->code;
}

enum status config_read_value(struct config_receiver *r, enum config_key key, const char *text,
                              struct config_value *out)
{
    struct reader y;
    if (text[0] != '[' && text[0] != '{') {
        *out = (struct config_value){.scalar = {.plain = 1}};
        out->scalar.text = config_copy(r->c, text, strlen(text));
        return out->scalar.text ? OK : no_memory(r->e);
    }
    TRY(open_reader(&y, r, text, strlen(text)));
    enum status s = OK;
    for (int i = 0; i < 3 && !s; i++) s = next(&y); /* stream, document, value */
    if (!s) s = read_value(&y, key, out);
    for (int i = 0; i < 2 && !s; i++) s = next(&y); /* the ends of both */
    if (!s && y.event.type != YAML_STREAM_END_EVENT) s = fail(&y, "more than one value", NULL);
    close_reader(&y);
    return s;
}

const char *config_yaml_version(void) { return yaml_get_version_string(); }
