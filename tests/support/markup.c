#include "support/markup.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define DEPTH 64
#define NAME 32

static char trouble[256];

static const char *say(const char *what, const char *at, const char *end)
{
    int n = end - at < 60 ? (int)(end - at) : 60;
    snprintf(trouble, sizeof trouble, "%s at: %.*s", what, n, at);
    return trouble;
}

static int is_void(const char *name)
{
    return !strcmp(name, "meta") || !strcmp(name, "input") || !strcmp(name, "br");
}

/* Behind the tag's >, quotes minded; NULL when it never ends. */
static const char *tag_end(const char *at, const char *end)
{
    char quote = 0;
    for (; at < end; at++) {
        if (quote)
            quote = *at == quote ? 0 : quote;
        else if (*at == '"' || *at == '\'')
            quote = *at;
        else if (*at == '>')
            return at + 1;
        else if (*at == '<')
            return NULL;
    }
    return NULL;
}

static const char *find(const char *at, const char *end, const char *what)
{
    size_t n = strlen(what);
    for (; at + n <= end; at++)
        if (!memcmp(at, what, n)) return at;
    return NULL;
}

const char *markup_trouble(const char *page, size_t size)
{
    char open[DEPTH][NAME];
    int depth = 0;
    const char *at = page, *end = page + size;
    while (at < end) {
        if (*at == '>' || *at == '"') { /* fine in text, but ours are always escaped */
            if (*at == '>') return say("a bare >", at, end);
        }
        if (*at != '<') {
            at++;
            continue;
        }
        const char *tag = at, *next = tag_end(at + 1, end);
        if (!next) return say("a tag without end", at, end);
        int closing = tag[1] == '/';
        char name[NAME] = "";
        const char *from = tag + 1 + closing;
        if (*from == '!') {
            at = next;
            continue;
        }
        size_t n = 0;
        while (n + 1 < NAME && isalnum((unsigned char)from[n])) n++;
        if (!n) return say("a bare <", at, end);
        memcpy(name, from, n);
        at = next;
        if (closing) {
            if (!depth || strcmp(open[depth - 1], name)) return say("closed out of turn", tag, end);
            depth--;
            continue;
        }
        if (is_void(name) || next[-2] == '/') continue;
        if (depth == DEPTH) return say("too deep", tag, end);
        memcpy(open[depth++], name, NAME);
        if (!strcmp(name, "style") || !strcmp(name, "script")) {
            at = find(at, end, "</");
            if (!at) return say("never closed", tag, end);
        }
    }
    if (depth) return say("left open", open[depth - 1], open[depth - 1] + strlen(open[depth - 1]));
    return NULL;
}
