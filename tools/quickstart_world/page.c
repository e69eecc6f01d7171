#include "page.h"

#include <assert.h>
#include <string.h>

void page_clear(struct page *p) { p->text[0] = 0, p->n = 0; }

static void add_bytes(struct page *p, const char *bytes, size_t n)
{
    assert(n < PAGE_MAX - p->n);
    memcpy(p->text + p->n, bytes, n);
    p->n += n;
    p->text[p->n] = 0;
}

void page_add(struct page *p, const char *text) { add_bytes(p, text, strlen(text)); }

void page_add_page(struct page *p, const struct page *more) { add_bytes(p, more->text, more->n); }

void page_add_pattern(struct page *p, const char *pattern, const struct page_names *names)
{
    for (const char *at; (at = strchr(pattern, '{')); pattern = at + 3) {
        const char *name = at[1] == 'p'   ? names->person
                           : at[1] == 'v' ? names->value
                                          : names->color;
        assert(name && at[2] == '}');
        add_bytes(p, pattern, (size_t)(at - pattern));
        page_add(p, name);
    }
    page_add(p, pattern);
}
