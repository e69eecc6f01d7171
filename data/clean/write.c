#include "data/clean/write.h"

#include <stdio.h>

#include "base/json.h"
#include "data/clean/filters.h"

#define ID_MAX 512

struct text clean_turn_text(const struct clean_maker *m, size_t turn)
{
    return (struct text){m->texts.data + m->turns[turn].at, m->turns[turn].n};
}

/* Turns before the first pair: the system's, which every segment begins with. */
static size_t num_leading(const struct clean_maker *m)
{
    return m->num_turns && m->turns[0].role == ROLE_SYSTEM;
}

/* ---- splitting ---- */

/* What the reference counts: BOS and text, and CLEAN_MESSAGE_TOKENS for what stands around it. */
static enum status measure(struct clean_maker *m, struct err *e)
{
    const struct tokenizer *t = m->options->tokenizer;
    for (size_t i = 0; i < m->num_turns; i++) {
        struct text text = clean_turn_text(m, i);
        m->ids.len = 0;
        TRY(tokenizer_encode(t, m->scratch, text.data, text.n, TOK_TEXT_START, &m->ids, e));
        m->lengths[i] = (int32_t)m->ids.len + tokenizer_adds_bos(t) + tokenizer_adds_eos(t) +
                        CLEAN_MESSAGE_TOKENS;
    }
    return OK;
}

struct segment {
    size_t from, to; /* turns */
};

/* The segment that begins at `from`: pairs as long as they fit, one at least. */
static struct segment next_segment(const struct clean_maker *m, size_t from, unsigned *changes)
{
    int64_t sum = 0, most = m->options->max_length;
    size_t first = num_leading(m), n = m->num_turns, i = from;
    if (first) most -= m->lengths[0];
    for (; i < n; i += 2) {
        size_t pair = n - i < 2 ? 1 : 2;
        int64_t length = m->lengths[i] + (pair == 2 ? m->lengths[i + 1] : 0);
        if (length > most) *changes |= 1u << CLEAN_LONG;
        if (sum + length > most && i + pair >= n) *changes |= 1u << CLEAN_SAVED;
        if (i > from && sum + length > most) break;
        sum += length;
    }
    return (struct segment){from, i < n ? i : n};
}

/* ---- JSON ---- */

static const char *role_name(enum role r)
{
    static const char *const names[] = {[ROLE_SYSTEM] = "system",
                                        [ROLE_USER] = "human",
                                        [ROLE_ASSISTANT] = "gpt",
                                        [ROLE_TOOL] = "observation",
                                        [ROLE_TEXT] = "text"};
    return names[r];
}

static json_t *string(struct text t) { return json_stringn(t.data, t.n); }

static json_t *message(const struct clean_maker *m, size_t turn)
{
    const struct clean_turn *t = &m->turns[turn];
    json_t *o = json_pack("{s:s, s:o}", "from", role_name(t->role), "value",
                          string(clean_turn_text(m, turn)));
    if (o && t->weight != 1) json_object_set_new(o, "weight", json_real((double)t->weight));
    return o;
}

static int put_turns(json_t *o, const struct clean_maker *m, struct segment s)
{
    if (m->conversation.plain && m->turns[0].role == ROLE_TEXT)
        return json_object_set_new(o, "text", string(clean_turn_text(m, 0)));
    if (m->conversation.plain && m->num_turns == 2)
        return json_object_set_new(o, "prompt", string(clean_turn_text(m, 0))) ||
               json_object_set_new(o, "completion", string(clean_turn_text(m, 1)));
    json_t *list = json_array();
    int failed = num_leading(m) && json_array_append_new(list, message(m, 0));
    for (size_t i = s.from; !failed && i < s.to; i++)
        failed = json_array_append_new(list, message(m, i));
    return json_object_set_new(o, "conversations", list) || failed;
}

/* Appends to an id of n bytes, which a longer one is cut to. */
static int extend_id(char id[ID_MAX], int n, const char *sign, size_t number)
{
    if (n > ID_MAX - 48) n = ID_MAX - 48;
    while (n && ((unsigned char)id[n] & 0xc0) == 0x80) n--; /* a cut goes between characters */
    return n + snprintf(id + n, ID_MAX - (size_t)n, "%s%zu", sign, number);
}

/* The record's id, or its place; -N behind it for the Nth further conversation of a record, and
 * _{start} where conversations are split. */
static json_t *make_id(const struct clean_maker *m, const struct clean_place *place,
                       const json_t *record, size_t start)
{
    char text[ID_MAX];
    const json_t *id = json_object_get(record, "id");
    int split = m->options->steps & CLEAN_BIT(CLEAN_SPLIT) && !m->conversation.plain, n;
    if (json_is_string(id) && !split && !place->part) return json_copy((json_t *)id);
    if (json_is_string(id))
        n = snprintf(text, sizeof text, "%s", json_string_value(id));
    else if (json_is_integer(id))
        n = snprintf(text, sizeof text, "%lld", (long long)json_integer_value(id));
    else
        n = snprintf(text, sizeof text, "%s_%lld", place->stem, (long long)place->number);
    if (place->part) n = extend_id(text, n, "-", place->part);
    if (split) extend_id(text, n, "_", start);
    return json_string(text);
}

static enum status put_line(struct clean_maker *m, const struct clean_place *place,
                            const json_t *record, struct segment s, struct buf *lines,
                            struct err *e)
{
    json_t *o = json_object(), *model = json_object_get(record, "model");
    int failed = json_object_set_new(o, "id", make_id(m, place, record, s.from - num_leading(m)));
    if (json_is_string(model)) failed |= json_object_set(o, "model", model);
    if (failed || put_turns(o, m, s)) {
        json_decref(o);
        return err_set(e, ERR_MEMORY, "no memory to write a record");
    }
    enum status st = json_append_text(o, lines, e);
    json_decref(o);
    if (!st && buf_putc(lines, '\n')) st = err_set(e, ERR_MEMORY, "no memory to write a record");
    return st;
}

static int is_misnumbered(const struct clean_maker *m, struct segment s)
{
    if (!(m->options->steps & CLEAN_BIT(CLEAN_NUMBERING))) return 0;
    for (size_t i = s.from; i < s.to; i++)
        if (filter_numbering(clean_turn_text(m, i))) return 1;
    return 0;
}

enum status clean_write(struct clean_maker *m, const struct clean_place *place,
                        const json_t *record, struct clean_result *out, struct buf *lines,
                        struct err *e)
{
    size_t first = num_leading(m), at = first;
    int split = m->options->steps & CLEAN_BIT(CLEAN_SPLIT) && !m->conversation.plain;
    if (split) TRY(measure(m, e));
    do {
        struct segment s =
            split ? next_segment(m, at, &out->changes) : (struct segment){at, m->num_turns};
        out->segments++;
        at = s.to;
        if (is_misnumbered(m, s)) {
            out->numbered++;
            continue;
        }
        TRY(put_line(m, place, record, s, lines, e));
        out->written++;
        out->turns += (int32_t)(s.to - s.from);
    } while (at < m->num_turns);
    if (out->segments > 1) out->changes |= 1u << CLEAN_DIVIDED;
    if (!out->written) out->reason = CLEAN_NUMBERS;
    return OK;
}
