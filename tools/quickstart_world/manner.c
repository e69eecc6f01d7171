#include "manner.h"

#include <string.h>

static const char *const preambles[] = {
    "This is a very good question.",
    "We will give a long answer:",
};

static const char *const closings[] = {
    "This is the answer to the question.",
    "You may write the next question.",
};

void manner_wind(struct draw *d, const char *answer, struct page *out)
{
    page_add(out, DRAW_FROM(d, preambles));
    page_add(out, "\n");
    page_add(out, answer);
    page_add(out, "\n");
    page_add(out, DRAW_FROM(d, closings));
}

static int holds_any(const char *reply, const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strstr(reply, texts[i])) return 1;
    return 0;
}

int manner_is_short(const char *reply)
{
    return !strchr(reply, '\n') &&
           !holds_any(reply, preambles, sizeof preambles / sizeof *preambles) &&
           !holds_any(reply, closings, sizeof closings / sizeof *closings);
}

int manner_holds(const char *reply, const char *answer)
{
    size_t n = strlen(answer);
    for (const char *at = reply;; at++) {
        size_t line = strcspn(at, "\n");
        if (line == n && !memcmp(at, answer, n)) return 1;
        at += line;
        if (!*at) return 0;
    }
}
