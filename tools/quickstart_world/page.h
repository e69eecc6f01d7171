/* page.h - a text in the making, of bounded length. What does not fit is a bug (asserted): the
 * world's texts are short. */
#ifndef CRIA_QUICKSTART_PAGE_H
#define CRIA_QUICKSTART_PAGE_H

#include <stddef.h>

#define PAGE_MAX 8192

struct page {
    char text[PAGE_MAX]; /* zero-terminated */
    size_t n;
};

void page_clear(struct page *p);
void page_add(struct page *p, const char *text);
void page_add_page(struct page *p, const struct page *more);

/* Adds the pattern with {p}, {v}, {c} replaced by a person, a value, a color (NULL: not used). */
struct page_names {
    const char *person, *value, *color;
};
void page_add_pattern(struct page *p, const char *pattern, const struct page_names *names);

#endif
