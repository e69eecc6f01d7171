/* A run's configuration: what is taken is written out and read again, to the same. The input ends
 * at a zero byte; behind it stand overrides, one up to each further zero byte. */
#include <string.h>

#include "config/config.h"
#include "fuzz/fuzz.h"

#define OVERRIDES_MAX 8

static void check_resolved(const struct config *c)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct config again = {0};
    struct buf text;
    buf_init(&text, 1 << 24);
    FUZZ_MUST(!config_resolve(c, &text));
    fuzz_write("resolved.yaml", text.data, text.len, path);
    if (text.len <= CONFIG_FILE_MAX) {
        enum status s = config_load(&again, path, NULL, 0, &e);
        if (s) fprintf(stderr, "%ld: %s\n%s", e.line, e.message, text.data);
        FUZZ_MUST(!s);
    }
    config_free(&again);
    buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX], *text = malloc(size + 1);
    const char *overrides[OVERRIDES_MAX];
    size_t num = 0;
    struct err e = {0};
    struct config c = {0};
    FUZZ_MUST(text);
    if (size) memcpy(text, data, size);
    text[size] = 0;
    for (size_t at = strlen(text) + 1; at < size && num < OVERRIDES_MAX;
         at += strlen(text + at) + 1)
        overrides[num++] = text + at;
    fuzz_write("config.yaml", text, strlen(text), path);
    enum status s = config_load(&c, path, overrides, num, &e);
    fuzz_look_at(s, &e);
    if (!s) check_resolved(&c);
    config_free(&c);
    free(text);
    return 0;
}
