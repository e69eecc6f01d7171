/* A record in every dataset format, and what it becomes in every template. */
#include <string.h>

#include "base/json.h"
#include "data/formats/format.h"
#include "data/template/template.h"
#include "fuzz/fuzz.h"

static void render(const struct template *t, const struct conversation *c, struct rendered *out)
{
    struct err e = {0};
    struct render_options o = {"<s>", "</s>", TRAIN_ASSISTANT, 0, 0};
    for (int on = 0; on < 3; on++) {
        o.train_on = (enum train_on)on;
        enum status s = template_render(t, c, &o, out, &e);
        fuzz_look_at(s, &e);
        size_t at = 0;
        for (size_t i = 0; !s && i < out->num_pieces; at += out->pieces[i++].n)
            FUZZ_MUST(out->pieces[i].start == at);
        FUZZ_MUST(s || at == out->text.len);
    }
}

static void check_replies(enum record_kind kind, const struct conversation *c)
{
    FUZZ_MUST(c->kind == kind);
    if (kind == KIND_SFT) return;
    FUZZ_MUST(c->chosen.given + c->rejected.given == (kind == KIND_PAIR ? 2 : 1));
    enum role last = c->turns[c->num_turns - 1].role;
    FUZZ_MUST(c->plain || last == ROLE_USER || last == ROLE_TOOL);
}

/* A conversation in all templates. */
static void use(const struct format *f, struct conversation *c, struct rendered *out)
{
    const struct template *t;
    FUZZ_MUST(c->num_turns > 0);
    check_replies(f->kind, c);
    struct text reply = c->chosen.given ? c->chosen.text : c->rejected.text;
    if (f->kind != KIND_SFT) FUZZ_MUST(!conversation_add(c, ROLE_ASSISTANT, reply));
    for (size_t k = 0; (t = template_at(k)); k++) render(t, c, out);
}

static void convert(json_t *record)
{
    static const struct format_name items[] = {{"field_messages", "a"},
                                               {"field_role", "text"},
                                               {"field_output", "input"},
                                               {"role_user", "b"}};
    const struct format_names names = {items, sizeof items / sizeof *items};
    struct conversation c = {0};
    struct rendered out;
    const struct format *f;
    struct err e = {0};
    rendered_init(&out);
    for (size_t i = 0; (f = format_at(i)); i++) {
        f->detect(record);
        enum status s = format_convert(f, record, &c, &e);
        for (size_t parts = 0;; s = format_next(f, record, &c, &e)) {
            fuzz_look_at(s, &e);
            if (!s && !c.drop) use(f, &c, &out);
            if (s || !c.more || ++parts == 64) break;
        }
    }
    FUZZ_MUST(!format_rename(&names, 0, record, &e));
    FUZZ_MUST(!format_rename(&names, 1, record, &e));
    conversation_free(&c);
    rendered_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    json_t *record = NULL;
    const struct format *f;
    if (!json_parse_text((const char *)data, size, "x", &record, &e) && json_is_object(record))
        convert(record);
    json_decref(record);
    fuzz_write("data.jsonl", data, size, path);
    fuzz_look_at(format_detect(path, &(struct jsonl_options){.max_record = 4096}, NULL, &f, &e),
                 &e);
    return 0;
}
