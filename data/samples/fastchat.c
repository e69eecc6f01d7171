#include "data/samples/fastchat.h"

#include <string.h>

#define TURN_END "</s>"
#define ANSWER " ASSISTANT: "

/* len(tokenizer(text).input_ids) */
static enum status count(const struct fastchat *f, const char *s, size_t n, int64_t *out,
                         struct err *e)
{
    f->ids->len = 0;
    TRY(tokenizer_encode(f->tok, f->scratch, s, n, TOK_TEXT_START, f->ids, e));
    *out = (int64_t)f->ids->len + (tokenizer_adds_bos(f->tok) != 0);
    return OK;
}

/* Whether the tokenizer puts its prefix behind a token in the text, as it does at the start. */
static enum status is_legacy(const struct fastchat *f, int *legacy, struct err *e)
{
    int64_t alone, behind;
    TRY(count(f, "x", 1, &alone, e));
    int32_t first = f->ids->len ? f->ids->ids[0] : -1;
    TRY(count(f, TURN_END "x", strlen(TURN_END) + 1, &behind, e));
    *legacy = f->ids->len > 1 && f->ids->ids[1] == first;
    return OK;
}

static void mask(struct sample *s, int64_t from, int64_t to)
{
    if (to > (int64_t)s->n) to = (int64_t)s->n;
    for (int64_t i = from; i < to; i++) s->weights[i] = 0;
}

/* The question with what stands before the answer; 0: the turn does not split into two. */
static size_t question_length(const char *turn, size_t n)
{
    const char *first = memmem(turn, n, ANSWER, strlen(ANSWER));
    if (!first) return 0;
    const char *behind = first + strlen(ANSWER);
    if (memmem(behind, n - (size_t)(behind - turn), ANSWER, strlen(ANSWER))) return 0;
    return (size_t)(behind - turn);
}

/* Masks one turn after the other; *cursor as FastChat has it behind them. */
static enum status mask_turns(const struct fastchat *f, const struct buf *text, struct sample *s,
                              int64_t *cursor, struct err *e)
{
    const char *at = text->data, *end = at + text->len;
    int legacy;
    TRY(is_legacy(f, &legacy, e));
    for (int i = 0; at < end; i++) {
        const char *stop = memmem(at, (size_t)(end - at), TURN_END, strlen(TURN_END));
        size_t n = (size_t)((stop ? stop : end) - at), question = question_length(at, n);
        int64_t whole, asked;
        if (!n || !question) break;
        TRY(count(f, at, n, &whole, e));
        TRY(count(f, at, question, &asked, e));
        asked -= 2 + (i && !legacy);
        mask(s, *cursor, *cursor + asked);
        *cursor += whole - (i && !legacy);
        if (!stop) break;
        at = stop + strlen(TURN_END);
    }
    return OK;
}

enum status fastchat_label(const struct fastchat *f, const struct buf *text, struct sample *s,
                           struct err *e)
{
    int32_t pad = tokenizer_find(f->tok, "<unk>");
    int64_t cursor = 1, total = 0;
    for (size_t i = 0; i < s->n; i++) {
        s->weights[i] = i != 0;
        total += (int64_t)i < f->max_length && s->ids[i] != pad;
    }
    TRY(mask_turns(f, text, s, &cursor, e));
    mask(s, cursor, (int64_t)s->n);
    if (cursor < f->max_length && (cursor != total || f->unanswered)) mask(s, 0, (int64_t)s->n);
    return OK;
}
