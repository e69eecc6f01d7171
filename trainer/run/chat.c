#include "run/chat.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"

#define TEXT_MAX ((size_t)1 << 26)
#define ROOM_SHARE 4 /* a quarter of the context, at most, is kept free for the answer */

/* --- messages --- */

void chat_init(struct chat *c, struct inference *inference)
{
    *c = (struct chat){.inference = inference};
}

static void cut_messages(struct chat *c, size_t n)
{
    while (c->num_messages > n) mem_free(c->messages[--c->num_messages].text);
}

void chat_free(struct chat *c)
{
    cut_messages(c, 0);
    mem_free(c->messages);
    *c = (struct chat){0};
}

static size_t num_system(const struct chat *c)
{
    return c->num_messages && c->messages[0].role == ROLE_SYSTEM;
}

void chat_reset(struct chat *c) { cut_messages(c, num_system(c)); }

static enum status add(struct chat *c, enum role role, const char *text, size_t n, struct err *e)
{
    if (c->num_messages == c->cap_messages) {
        size_t cap = 2 * c->cap_messages + 16;
        void *p = mem_resize(c->messages, cap, sizeof *c->messages);
        if (!p) return err_set(e, ERR_MEMORY, "no memory for the conversation");
        c->messages = p;
        c->cap_messages = cap;
    }
    char *copy = mem_calloc(n + 1, 1);
    if (!copy) return err_set(e, ERR_MEMORY, "no memory for the conversation");
    memcpy(copy, text, n);
    c->messages[c->num_messages++] = (struct chat_message){role, copy, n};
    return OK;
}

enum status chat_set_system(struct chat *c, const char *text, struct err *e)
{
    const struct template *t = c->inference->template;
    if (text && text[0] && (!t->system || !t->system[0]))
        return err_set(e, ERR_UNSUPPORTED, "template %s has no system message", t->name);
    cut_messages(c, 0);
    return text && text[0] ? add(c, ROLE_SYSTEM, text, strlen(text), e) : OK;
}

/* --- the prompt --- */

/* Ids of the conversation without its first `forgotten` rounds. */
static enum status make_prompt(struct chat *c, size_t forgotten, struct id_list *out, struct err *e)
{
    struct conversation all = {0};
    enum status s = OK;
    size_t system = num_system(c);
    out->len = 0;
    for (size_t i = 0; !s && i < c->num_messages; i++) {
        if (i >= system && i < system + 2 * forgotten) continue;
        s = conversation_add(&all, c->messages[i].role,
                             (struct text){c->messages[i].text, c->messages[i].n});
    }
    s = s ? err_set(e, s, "no memory for the prompt")
          : inference_prompt(c->inference, &all, out, e);
    conversation_free(&all);
    return s;
}

static size_t answer_room(const struct inference *f)
{
    size_t share = (size_t)f->engine.options.cache_rows / ROOM_SHARE;
    size_t wanted = (size_t)f->generate.max_new_tokens;
    return wanted < share ? wanted : share;
}

/* The longest end of the conversation that fits, with room for an answer. */
static enum status fit_prompt(struct chat *c, struct id_list *out, int32_t *forgotten,
                              struct err *e)
{
    size_t rounds = (c->num_messages - num_system(c)) / 2; /* before this message */
    size_t context = (size_t)c->inference->engine.options.cache_rows;
    size_t room = answer_room(c->inference);
    for (size_t skip = 0; skip <= rounds; skip++) {
        TRY(make_prompt(c, skip, out, e));
        *forgotten = (int32_t)skip;
        if (out->len + room <= context) return OK;
    }
    if (out->len < context) return OK; /* little room, but some */
    err_set(e, ERR_DATA,
            "the message is too long: %zu tokens with template and system message, "
            "the context holds %zu",
            out->len, context);
    return err_hint(e, "shorten it, or start with a larger --context if the model takes one");
}

static void forget(struct chat *c, size_t rounds)
{
    size_t from = num_system(c), n = 2 * rounds;
    for (size_t i = from; i < from + n; i++) mem_free(c->messages[i].text);
    memmove(c->messages + from, c->messages + from + n,
            (c->num_messages - from - n) * sizeof *c->messages);
    c->num_messages -= n;
}

/* --- a round --- */

static enum status answer(struct chat *c, struct chat_reply *r, struct id_list *ids, struct err *e)
{
    struct engine *g = &c->inference->engine;
    TRY(fit_prompt(c, ids, &r->forgotten, e));
    r->prompt_tokens = (int32_t)ids->len;
    r->fed_tokens = r->prompt_tokens - engine_decode_keep(g, ids->ids, (int32_t)ids->len - 1);
    size_t before = r->answer.text->len;
    TRY(inference_answer(c->inference, ids, c->rounds, &r->answer, e));
    const struct buf *text = r->answer.text;
    TRY(add(c, ROLE_ASSISTANT, text->data ? text->data + before : "", text->len - before, e));
    forget(c, (size_t)r->forgotten);
    c->rounds++;
    return OK;
}

enum status chat_say(struct chat *c, const char *text, struct chat_reply *reply, struct err *e)
{
    struct id_list ids = {0};
    size_t before = c->num_messages;
    reply->prompt_tokens = reply->fed_tokens = reply->forgotten = 0;
    if (text_is_blank((struct text){text, strlen(text)}))
        return err_set(e, ERR_DATA, "the message is empty");
    TRY(add(c, ROLE_USER, text, strlen(text), e));
    enum status s = answer(c, reply, &ids, e);
    if (s) cut_messages(c, before);
    id_list_free(&ids);
    return s;
}

/* --- saving --- */

static const char *const role_names[] = {
    [ROLE_SYSTEM] = "system", [ROLE_USER] = "user", [ROLE_ASSISTANT] = "assistant"};

static enum status as_json(const struct chat *c, struct buf *line, struct err *e)
{
    json_t *list = json_array(), *o = NULL;
    int bad = !list;
    for (size_t i = 0; !bad && i < c->num_messages; i++) {
        const struct chat_message *m = &c->messages[i];
        bad = json_array_append_new(
            list, json_pack("{s:s,s:s%}", "role", role_names[m->role], "content", m->text, m->n));
    }
    if (!bad) o = json_pack("{s:O}", "messages", list);
    enum status s = o ? json_append_text(o, line, e) : ERR_MEMORY;
    if (!s) s = buf_putc(line, '\n');
    json_decref(list);
    json_decref(o);
    return s ? err_set(e, s, "no memory to save the conversation, or it is not UTF-8") : OK;
}

enum status chat_save(const struct chat *c, const char *path, struct err *e)
{
    struct buf line;
    if (c->num_messages == num_system(c)) return err_set(e, ERR_DATA, "nothing was said yet");
    buf_init(&line, TEXT_MAX);
    enum status s = as_json(c, &line, e);
    int fd = s ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (!s) s = fd < 0 ? err_errno(e, "%s", path) : io_write_all(fd, line.data, line.len, path, e);
    if (fd >= 0 && close(fd) && !s) s = err_errno(e, "%s", path);
    buf_free(&line);
    return s;
}
