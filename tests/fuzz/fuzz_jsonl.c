/* A file of records, both forms, each by itself and as trees of messages, with a small limit on a
 * record so that it is reached. */
#include "data/jsonl/jsonl.h"
#include "data/prepare/feed.h"
#include "fuzz/fuzz.h"

/* The same number of records comes when some of them are joined. */
static void read_joined(const char *path, const struct jsonl_options *options, int64_t number)
{
    struct err e = {0};
    struct jsonl *j = NULL;
    struct jsonl_record r = {0};
    struct jsonl_text text;
    struct feed feed;
    int64_t count;
    if (jsonl_open(&j, path, options, &e)) return;
    feed_init(&feed, j, format_find("oasst"));
    for (;;) {
        enum status s = feed_find(&feed, &r, &text, &count, &e);
        fuzz_look_at(s, &e);
        if (s || r.kind == JSONL_END) break;
        FUZZ_MUST(count >= 1 && (number -= count) >= 0);
    }
    FUZZ_MUST(number == 0);
    feed_free(&feed);
    jsonl_close(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct jsonl *j = NULL;
    struct jsonl_record r = {0};
    int64_t number = 0;
    const struct jsonl_options options = {.max_record = 256};
    fuzz_write("data.jsonl", data, size, path);
    enum status s = jsonl_open(&j, path, &options, &e);
    fuzz_look_at(s, &e);
    while (!s && !(s = jsonl_next(j, &r, &e)) && r.kind != JSONL_END) {
        if (r.kind == JSONL_BAD) fuzz_look_at(ERR_FORMAT, &e);
        FUZZ_MUST(r.kind == JSONL_BAD || json_is_object(r.value));
        FUZZ_MUST(r.number == ++number && r.line >= 1);
        FUZZ_MUST(jsonl_offset(j) <= (int64_t)size);
    }
    fuzz_look_at(s, &e);
    jsonl_close(j);
    read_joined(path, &options, number);
    return 0;
}
