/* JSON text: parsed, its members asked for, written and parsed again. */
#include <string.h>

#include "base/json.h"
#include "fuzz/fuzz.h"

static void ask(const json_t *object)
{
    struct err e = {0};
    const char *text = NULL;
    int64_t whole = 0;
    double real = 0;
    int flag = 0;
    fuzz_look_at(json_get_string(object, "a", &text, "x", &e), &e);
    fuzz_look_at(json_get_int(object, "a", &whole, "x", &e), &e);
    fuzz_look_at(json_get_double(object, "a", &real, "x", &e), &e);
    fuzz_look_at(json_get_bool(object, "a", &flag, "x", &e), &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct buf text, twice; /* reals are written with 12 digits: what was written stays the same */
    json_t *value = NULL, *again = NULL;
    enum status s = json_parse_text((const char *)data, size, "x", &value, &e);
    fuzz_look_at(s, &e);
    if (s) return 0;
    ask(value);
    buf_init(&text, 1 << 24);
    buf_init(&twice, 1 << 24);
    FUZZ_MUST(!json_append_text(value, &text, &e));
    FUZZ_MUST(!json_parse_text(text.data, text.len, "written", &again, &e));
    FUZZ_MUST(!json_append_text(again, &twice, &e));
    FUZZ_MUST(text.len == twice.len && !memcmp(text.data, twice.data, text.len));
    json_decref(value);
    json_decref(again);
    buf_free(&text);
    buf_free(&twice);
    return 0;
}
