/* Files that are no JSON: the first byte says which kind (CSV, TSV, text by lines, paragraphs or
 * whole), the rest is the file, with a small limit on a record so that it is reached. */
#include "data/jsonl/jsonl.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"data.csv", "data.tsv", "data.txt", "data.txt", "data.txt"};
    static const enum jsonl_unit units[] = {0, 0, JSONL_LINE, JSONL_PARAGRAPH, JSONL_DOCUMENT};
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct jsonl *j = NULL;
    struct jsonl_record r = {0};
    int64_t number = 0;
    if (!size) return 0;
    const struct jsonl_options options = {.max_record = 256, .unit = units[data[0] % 5]};
    fuzz_write(names[data[0] % 5], data + 1, size - 1, path);
    enum status s = jsonl_open(&j, path, &options, &e);
    fuzz_look_at(s, &e);
    while (!s && !(s = jsonl_next(j, &r, &e)) && r.kind != JSONL_END) {
        if (r.kind == JSONL_BAD) fuzz_look_at(ERR_FORMAT, &e);
        FUZZ_MUST(r.kind == JSONL_BAD || json_object_size(r.value) > 0);
        FUZZ_MUST(r.number == ++number && r.line >= 1);
        FUZZ_MUST(jsonl_offset(j) < (int64_t)size);
    }
    fuzz_look_at(s, &e);
    jsonl_close(j);
    return 0;
}
