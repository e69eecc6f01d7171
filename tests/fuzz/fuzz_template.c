/* A user's own template: what is taken is written out and read again to the same, renders a
 * conversation, and has a Jinja text that is recognised as nobody's or as a row. */
#include <string.h>

#include "data/template/template.h"
#include "fuzz/fuzz.h"

static void render(const struct template *t)
{
    static const char *const texts[] = {" s ", " q\n", "a {content} {eos}", "r", " "};
    static const enum role roles[] = {ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL,
                                      ROLE_ASSISTANT};
    struct err e = {0};
    struct conversation c = {0};
    struct rendered out;
    rendered_init(&out);
    for (int i = 0; i < 5; i++)
        FUZZ_MUST(!conversation_add(&c, roles[i], (struct text){texts[i], strlen(texts[i])}));
    c.turns[1].input = (struct text){"in", 2};
    for (int how = 0; how < 3; how++) {
        struct render_options o = {"<s>", "</s>", (enum train_on)how, 0, how == 2};
        FUZZ_MUST(!template_render(t, &c, &o, &out, &e));
        size_t at = 0, trained = 0;
        for (size_t i = 0; i < out.num_pieces; at += out.pieces[i++].n) {
            FUZZ_MUST(out.pieces[i].start == at);
            trained += out.pieces[i].weight != 0;
        }
        FUZZ_MUST(at == out.text.len && trained > 0);
    }
    rendered_free(&out);
    conversation_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    const struct template *t, *again, *found;
    struct buf text, jinja;
    char hash[2][HASH_HEX_SIZE];
    enum status s = template_parse(&t, (const char *)data, size, "my.yaml", &e);
    fuzz_look_at(s, &e);
    if (s) return 0;
    buf_init(&text, 1 << 24);
    buf_init(&jinja, 1 << 24);
    FUZZ_MUST(!template_write(t, &text));
    s = template_parse(&again, text.data, text.len, "other.yaml", &e);
    if (s) fprintf(stderr, "%ld: %s\n%s", e.line, e.message, text.data);
    FUZZ_MUST(!s);
    FUZZ_MUST(!template_hash(t, hash[0], &e) && !template_hash(again, hash[1], &e));
    FUZZ_MUST(!strcmp(hash[0], hash[1]));
    FUZZ_MUST(!template_jinja(t, 1, &jinja));
    FUZZ_MUST(!template_recognise(jinja.data, &found, &e));
    FUZZ_MUST(!template_recognise(text.data, &found, &e));
    render(again);
    template_close(t);
    template_close(again);
    buf_free(&text);
    buf_free(&jinja);
    return 0;
}
