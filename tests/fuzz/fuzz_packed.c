/* Packed files: damaged, cut short, or unpacked and read. */
#include "data/jsonl/stream.h"
#include "fuzz/fuzz.h"

#define TEXT_MAX ((size_t)1 << 22) /* what a small file may become before it is left */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[4096];
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct stream *f = NULL;
    size_t got = 1, total = 0;
    fuzz_write("data.packed", data, size, path);
    enum status s = stream_open(&f, path, &e);
    while (!s && got && total < TEXT_MAX) {
        s = stream_read(f, text, 1 + total % sizeof text, &got, &e);
        FUZZ_MUST(s || stream_offset(f) <= (int64_t)size);
        if (!s) total += got;
    }
    FUZZ_MUST(s || got || stream_offset(f) == (int64_t)size);
    fuzz_look_at(s, &e);
    stream_close(f);
    return 0;
}
