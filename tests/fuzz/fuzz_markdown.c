/* One message as a chat page has it, made Markdown: the reader of HTML, the writer of Markdown and
 * what is polished away. */
#include <string.h>

#include "data/clean/message.h"
#include "data/tokenizer/utf8.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct message_tools tools;
    struct buf text;
    struct text out;
    buf_init(&text, 1 << 24);
    FUZZ_MUST(!utf8_append_lossy(&text, (const char *)data, size));
    struct text in = {text.len ? text.data : "", text.len};
    enum status s = message_to_markdown(&tools, in, &out);
    FUZZ_MUST(s == OK || s == ERR_DATA);
    if (!s) {
        FUZZ_MUST(utf8_valid_prefix(out.data, out.n) == out.n);
        FUZZ_MUST(text_strip(out).n == out.n);
        FUZZ_MUST(out.n <= 16 * in.n + 65536);
    }
    message_has_markup(in);
    buf_free(&text);
    return 0;
}
