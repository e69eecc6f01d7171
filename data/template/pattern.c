#include "data/template/pattern.h"

#include <string.h>

int pattern_next(const char **p, struct element *out)
{
    const char *s = *p, *close;
    if (!*s) return 0;
    if (s[0] == '{' && s[1] == '{') {
        *out = (struct element){s, 1, 0};
        *p = s + 2;
        return 1;
    }
    if (*s == '{' && (close = strchr(s, '}'))) {
        *out = (struct element){s + 1, (size_t)(close - s - 1), 1};
        *p = close + 1;
        return 1;
    }
    size_t n = 1 + strcspn(s + 1, "{");
    *out = (struct element){s, n, 0};
    *p = s + n;
    return 1;
}

int element_is(const struct element *x, const char *name)
{
    return x->is_name && x->n == strlen(name) && !memcmp(x->s, name, x->n);
}

int element_is_token(const struct element *x)
{
    return x->is_name && !element_is(x, "content") && !element_is(x, "input");
}

int pattern_count(const char *pattern, const char *name)
{
    struct element x;
    int n = 0;
    while (pattern && pattern_next(&pattern, &x)) n += element_is(&x, name);
    return n;
}
