#include "support/document.h"

#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "support/check.h"

static void write_document(const char *path, const char *page, const char *from, const char *to,
                           const struct buf *text)
{
    struct err e = {0};
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(buf_append(&out, page, (size_t)(from - page)), OK);
    assert_int_equal(buf_append(&out, text->data, text->len), OK);
    assert_int_equal(buf_puts(&out, to), OK);
    CHECK_OK(io_write_file(path, out.data, out.len, &e), &e);
    buf_free(&out);
}

void document_check(const char *path, const char *begin, const char *end, const struct buf *text)
{
    struct err e = {0};
    struct buf page;
    buf_init(&page, 1 << 20);
    CHECK_OK(io_read_file(path, &page, &e), &e);
    char *from = strstr(page.data, begin), *to = from ? strstr(from, end) : NULL;
    assert_non_null(to);
    from += strlen(begin);
    if (getenv("CRIA_WRITE_DOCS")) {
        write_document(path, page.data, from, to, text);
    } else if ((size_t)(to - from) != text->len || memcmp(from, text->data, text->len)) {
        print_error("%s shows something else than:\n%s", path, text->data);
        fail();
    }
    buf_free(&page);
}
