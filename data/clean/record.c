#include "data/clean/record.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"
#include "data/clean/chars.h"
#include "data/clean/filters.h"
#include "data/clean/language.h"
#include "data/clean/write.h"

#define TEXTS_MAX ((size_t)1 << 30) /* bytes of one record's texts */

enum status clean_maker_open(struct clean_maker *m, const struct clean_options *o, struct err *e)
{
    m->options = o;
    buf_init(&m->texts, TEXTS_MAX);
    buf_init(&m->line, TEXTS_MAX);
    m->scratch = tokenizer_scratch_create();
    return m->scratch && !buf_reserve(&m->texts, 1) ? OK
                                                    : err_set(e, ERR_MEMORY, "no memory to clean");
}

void clean_maker_close(struct clean_maker *m)
{
    message_tools_free(&m->tools);
    conversation_free(&m->conversation);
    buf_free(&m->texts);
    buf_free(&m->line);
    mem_free(m->turns);
    mem_free(m->lengths);
    words_free(&m->words);
    tokenizer_scratch_destroy(m->scratch);
    id_list_free(&m->ids);
}

static int has(const struct clean_maker *m, enum clean_step step)
{
    return (m->options->steps & CLEAN_BIT(step)) != 0;
}

/* ---- turns ---- */

static enum status reserve_turns(struct clean_maker *m, size_t n)
{
    if (n <= m->cap_turns) return OK;
    struct clean_turn *p = mem_resize(m->turns, n, sizeof *p);
    if (!p) return ERR_MEMORY;
    m->turns = p;
    int32_t *q = mem_resize(m->lengths, n, sizeof *q);
    if (!q) return ERR_MEMORY;
    m->lengths = q;
    m->cap_turns = n;
    return OK;
}

static enum status add_turn(struct clean_maker *m, const struct turn *from, struct text text)
{
    m->turns[m->num_turns++] = (struct clean_turn){from->role, from->weight, m->texts.len, text.n};
    return buf_append(&m->texts, text.data, text.n);
}

/* A turn's text; an Alpaca input stands on lines of its own behind it. */
static enum status whole_text(struct clean_maker *m, const struct turn *t, struct text *out)
{
    *out = t->text;
    if (!t->input.n) return OK;
    buf_clear(&m->line);
    TRY(buf_append(&m->line, t->text.data, t->text.n));
    TRY(buf_putc(&m->line, '\n'));
    TRY(buf_append(&m->line, t->input.data, t->input.n));
    *out = (struct text){m->line.data, m->line.len};
    return OK;
}

static const char *blocked_word(const struct clean_maker *m, struct text t)
{
    static const char *const usual[] = {"openai", "chatgpt"};
    const struct clean_options *o = m->options;
    const char *const *words = o->blocked ? o->blocked : usual;
    size_t n = o->blocked ? o->num_blocked : 2;
    for (size_t i = 0; i < n; i++)
        if (filter_blocked(t, &words[i], 1)) return words[i];
    return NULL;
}

/* One message through the steps that look at messages. *end: it ends the conversation. */
static enum status clean_message(struct clean_maker *m, const struct clean_place *place,
                                 const struct turn *t, struct clean_result *out, int *end)
{
    struct text raw, text;
    const char *word;
    TRY(whole_text(m, t, &raw));
    text = raw;
    if (has(m, CLEAN_BLOCKED) && (word = blocked_word(m, raw))) {
        out->reason = CLEAN_WORDS;
        snprintf(out->detail, sizeof out->detail, "%s", word);
        return OK;
    }
    if (place->is_html) {
        enum status s = message_to_markdown(&m->tools, raw, &text);
        if (s == ERR_MEMORY) return s;
        if (s) out->reason = CLEAN_MARKUP;
        if (s) return OK;
        if (!text_same(raw, text)) out->changes |= 1u << CLEAN_CONVERTED;
    }
    if (has(m, CLEAN_REPAIR) && t->role <= ROLE_ASSISTANT && t->role != ROLE_SYSTEM &&
        (!text_strip(text).n || !chars_printable_first(text))) {
        *end = 1;
        return OK;
    }
    if (has(m, CLEAN_QUALITY) && t->role == ROLE_ASSISTANT && filter_refusal(text))
        out->reason = CLEAN_REFUSAL;
    return add_turn(m, t, text);
}

/* Leaves the turns from *first to *last, as Vicuna's rule has it: a first one that is no question
 * goes, then a last one that is no reply. */
static void trim(const struct clean_maker *m, size_t *first, size_t *last, struct clean_result *out)
{
    const struct turn *turns = m->conversation.turns;
    if (*last - *first > 1 && turns[*first].role != ROLE_USER) {
        ++*first;
        out->changes |= 1u << CLEAN_LED;
    }
    if (*last - *first > 1 && turns[*last - 1].role == ROLE_USER) {
        --*last;
        out->changes |= 1u << CLEAN_TRAILED;
    }
    if (*last - *first <= 1) out->reason = CLEAN_ONE_MESSAGE;
}

static size_t characters(const struct clean_maker *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->num_turns; i++)
        if (m->turns[i].role != ROLE_SYSTEM) n += chars_count(clean_turn_text(m, i));
    return n;
}

static enum status clean_turns(struct clean_maker *m, const struct clean_place *place,
                               struct clean_result *out)
{
    const struct conversation *c = &m->conversation;
    size_t first = c->num_turns && c->turns[0].role == ROLE_SYSTEM, last = c->num_turns, count;
    int end = 0, repair = has(m, CLEAN_REPAIR) && !c->plain;
    TRY(reserve_turns(m, c->num_turns + 1));
    if (first) TRY(clean_message(m, place, &c->turns[0], out, &end));
    if (out->reason) return OK;
    if (repair) trim(m, &first, &last, out);
    size_t leading = m->num_turns;
    for (size_t i = first; i < last && !out->reason; i++) {
        enum role wanted = (i - first) % 2 ? ROLE_ASSISTANT : ROLE_USER;
        if (repair && c->turns[i].role != wanted)
            out->reason = CLEAN_ROLES;
        else
            TRY(clean_message(m, place, &c->turns[i], out, &end));
        if (end) break;
    }
    m->characters = characters(m); /* a question that is cut off below counts, as it does there */
    if (!repair || out->reason) return OK;
    if (end) out->changes |= 1u << CLEAN_CUT;
    count = m->num_turns - leading;
    m->num_turns -= count % 2;
    if (count < 2) out->reason = CLEAN_SHORT;
    return OK;
}

/* ---- the conversation as a whole ---- */

static enum clean_reason look_at_quality(const struct clean_maker *m, const json_t *record)
{
    const json_t *plugins = json_object_get(record, "plugins");
    if (!m->num_turns || m->characters < CLEAN_LEAST_CHARACTERS) return CLEAN_SHORT;
    return plugins && !json_is_null(plugins) ? CLEAN_PLUGINS : CLEAN_KEPT;
}

/* Of the first question and reply; of plain text, all of it. */
static uint64_t pair_key(const struct clean_maker *m)
{
    size_t first = m->turns[0].role == ROLE_SYSTEM;
    uint64_t key = 0;
    for (size_t i = first; i < m->num_turns && i < first + 2; i++) {
        struct text t = clean_turn_text(m, i);
        key = XXH3_64bits_withSeed(t.data, t.n, words_mix(key + i - first + 1));
    }
    return key;
}

static void set_keys(const struct clean_maker *m, const json_t *record, struct clean_result *out)
{
    const uint64_t part = m->conversation.part;
    const json_t *id = json_object_get(record, "id");
    out->has_id = json_is_string(id) || json_is_integer(id);
    if (json_is_string(id))
        out->id_key =
            XXH3_64bits_withSeed(json_string_value(id), json_string_length(id), 11 + part);
    else if (out->has_id)
        out->id_key = words_mix((uint64_t)json_integer_value(id) + words_mix(13 + part));
    out->pair_key = pair_key(m);
}

/* All messages, a line each, into m->line. */
static enum status join(struct clean_maker *m, struct text *out)
{
    buf_clear(&m->line);
    for (size_t i = 0; i < m->num_turns; i++) {
        struct text t = clean_turn_text(m, i);
        if (m->turns[i].role == ROLE_SYSTEM) continue;
        if (m->line.len) TRY(buf_putc(&m->line, '\n'));
        TRY(buf_append(&m->line, t.data, t.n));
    }
    *out = (struct text){m->line.len ? m->line.data : "", m->line.len};
    return OK;
}

static int is_foreign(const struct clean_maker *m, struct text all, struct clean_result *out)
{
    const char *keep = m->options->keep_language, *skip = m->options->skip_language;
    char code[LANGUAGE_CODE_SIZE];
    language_detect(all, code);
    if (keep ? !strcmp(code, keep) : strcmp(code, skip) != 0) return 0;
    snprintf(out->detail, sizeof out->detail, "%s", code);
    return 1;
}

static int has_repeats(const struct clean_maker *m)
{
    for (size_t i = 0; i < m->num_turns; i++)
        if (filter_repeats(clean_turn_text(m, i))) return 1;
    return 0;
}

/* The steps that look at the whole text. */
static enum status look_at_text(struct clean_maker *m, struct clean_result *out)
{
    struct text all;
    TRY(join(m, &all));
    if (has(m, CLEAN_LANGUAGE) && is_foreign(m, all, out)) {
        out->reason = CLEAN_FOREIGN;
        return OK;
    }
    if (has(m, CLEAN_REPEATS) && has_repeats(m)) {
        out->reason = CLEAN_DIGITS;
        return OK;
    }
    m->words.n = 0;
    if (has(m, CLEAN_AGAINST) || has(m, CLEAN_NEAR)) TRY(words_append(&m->words, all));
    if (has(m, CLEAN_AGAINST) && against_find(m->options->against, &m->words, &out->item))
        out->reason = CLEAN_CONTAMINATED;
    else if (has(m, CLEAN_NEAR))
        near_sign(&m->words, &out->signature);
    return OK;
}

/* The beginning of the first message, on one line, for samples. */
static void set_excerpt(const struct clean_maker *m, struct clean_result *out)
{
    const struct conversation *c = &m->conversation;
    struct text t = {"", 0};
    for (size_t i = 0; i < c->num_turns && !t.n; i++)
        if (c->turns[i].role != ROLE_SYSTEM) t = text_strip(c->turns[i].text);
    size_t n = t.n < CLEAN_EXCERPT - 1 ? t.n : CLEAN_EXCERPT - 1;
    while (n < t.n && n && (t.data[n] & 0xc0) == 0x80) n--;
    for (size_t i = 0; i < n; i++)
        out->excerpt[i] = (char)((unsigned char)t.data[i] < ' ' ? ' ' : t.data[i]);
    out->excerpt[n] = 0;
}

static enum status run_steps(struct clean_maker *m, const struct clean_place *place,
                             const json_t *record, struct clean_result *out)
{
    set_excerpt(m, out);
    if (m->conversation.drop && has(m, CLEAN_REPAIR)) out->reason = CLEAN_ROLES;
    if (!out->reason) TRY(clean_turns(m, place, out));
    if (!out->reason && has(m, CLEAN_QUALITY)) out->reason = look_at_quality(m, record);
    if (!out->reason && !m->num_turns) out->reason = CLEAN_ONE_MESSAGE;
    if (out->reason) return OK;
    set_keys(m, record, out);
    return look_at_text(m, out);
}

enum status clean_record(struct clean_maker *m, const struct clean_place *place,
                         const json_t *record, struct clean_result *out, struct buf *lines,
                         struct err *e)
{
    *out = (struct clean_result){.from = lines->len, .to = lines->len};
    m->num_turns = 0;
    buf_clear(&m->texts);
    conversation_clear(&m->conversation);
    m->conversation.part = place->part;
    TRY(place->format->convert(record, &m->conversation, e));
    if (m->conversation.drop && !has(m, CLEAN_REPAIR)) {
        err_set(e, ERR_FORMAT, "%s", drop_text(m->conversation.drop));
        return err_hint(e, "the step repair drops such records");
    }
    enum status s = run_steps(m, place, record, out);
    if (s == ERR_FORMAT) return err_set(e, s, "more than %zu bytes of text", TEXTS_MAX);
    if (s) return err_set(e, s, "no memory to clean a record");
    if (!out->reason) TRY(clean_write(m, place, record, out, lines, e));
    out->to = lines->len;
    return OK;
}
