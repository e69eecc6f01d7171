/* Any bytes as a text: each splitter made by hand cuts it where PCRE2 does. The first byte says
 * which, and in how small steps. */
#include <string.h>

#include "data/tokenizer/scan.h"
#include "data/tokenizer/split.h"
#include "data/tokenizer/utf8.h"
#include "fuzz/fuzz.h"

#define TEXT_MAX 4096

static size_t cut(const struct splitter *s, struct splitter_scratch *scratch, const char *text,
                  size_t n, size_t *ends, int step)
{
    size_t count = 0, at = 0;
    int got;
    while ((got = splitter_cut(s, scratch, text, n, at, ends + count, step)) > 0) {
        count += (size_t)got;
        at = ends[count - 1];
    }
    FUZZ_MUST(!got);
    FUZZ_MUST(at == n);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const patterns[] = {scan_llama3_pattern, scan_qwen_pattern,
                                           scan_gpt2_pattern};
    static struct splitter *fast[3], *slow[3]; /* kept: still reachable at exit */
    static struct splitter_scratch *scratch;
    static size_t a[TEXT_MAX * 3 + 64], b[TEXT_MAX * 3 + 64];
    struct err e = {0};
    struct buf text;
    if (size < 1 || size > TEXT_MAX) return 0;
    for (int i = 0; i < 3 && !scratch; i++) {
        FUZZ_MUST(!splitter_create(&fast[i], patterns[i], SPLIT_PATTERN, &e));
        FUZZ_MUST(!splitter_create(&slow[i], patterns[i], SPLIT_REFERENCE, &e));
    }
    if (!scratch) FUZZ_MUST(scratch = splitter_scratch_create());
    buf_init(&text, TEXT_MAX * 4);
    FUZZ_MUST(!utf8_append_lossy(&text, (const char *)data + 1, size - 1));
    int which = data[0] % 3;
    char *copy =
        malloc(text.len + !text.len); /* no byte behind it, so that ASan sees a read there */
    FUZZ_MUST(copy);
    if (text.len) memcpy(copy, text.data, text.len);
    size_t fine = cut(fast[which], scratch, copy, text.len, a, 2 + data[0] / 8);
    size_t sure = cut(slow[which], scratch, copy, text.len, b, 64);
    FUZZ_MUST(fine == sure && !memcmp(a, b, fine * sizeof *a));
    free(copy);
    buf_free(&text);
    return 0;
}
