/* Is what a template file says a template? And what it leaves out. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "data/template/reading.h"

/* The spelling of a special token has something that is no letter, which {contnet} has not. */
static int looks_like_token(const struct element *x)
{
    int odd = 0;
    for (size_t i = 0; i < x->n; i++) {
        if ((unsigned char)x->s[i] < 0x20) return 0;
        odd |= !isalnum((unsigned char)x->s[i]) && x->s[i] != '_' && x->s[i] != ' ';
    }
    return odd && x->n < 128;
}

static enum status check_pattern(const struct reading *r, enum field_id f)
{
    const char *p = r->text[f];
    struct element x;
    char what[240];
    int contents = pattern_count(p, "content"), want = (reading_fields[f].use & USE_CONTENT) != 0;
    while (pattern_next(&p, &x)) {
        if (!x.is_name || element_is(&x, "content") || element_is(&x, "input") ||
            element_is(&x, "bos") || element_is(&x, "eos") || looks_like_token(&x))
            continue;
        snprintf(what, sizeof what, "{%.*s} stands for nothing", (int)(x.n < 80 ? x.n : 80), x.s);
        return reading_fail(r, f,
                            "known are {content}, {input}, {bos}, {eos} and special tokens "
                            "such as {<|im_end|>}; {{ is a brace",
                            what);
    }
    if (contents != want) {
        snprintf(what, sizeof what, "has {content} %s", contents ? "too often" : "nowhere");
        return reading_fail(r, f,
                            want ? "it stands for the turn's text, and is needed once"
                                 : "it has its place in system, user, tool and reply",
                            what);
    }
    if (pattern_count(r->text[f], "input") != (f == FIELD_user_input))
        return reading_fail(r, f, "{input} has its place in user_input, once",
                            f == FIELD_user_input ? "has {input} not once" : "has {input}");
    return OK;
}

static int is_among(const struct element *token, const char *pattern)
{
    struct element x;
    while (pattern_next(&pattern, &x))
        if (element_is_token(&x) && x.n == token->n && !memcmp(x.s, token->s, x.n)) return 1;
    return 0;
}

/* Every trained turn ends in a token at which generation stops. */
static enum status check_end(const struct reading *r, enum field_id f)
{
    const char *p = r->text[f];
    struct element x = {0};
    while (pattern_next(&p, &x)) {}
    if (x.is_name && element_is_token(&x) && is_among(&x, r->text[FIELD_end])) return OK;
    return reading_fail(r, f,
                        "end it with {eos} or the model's end token; text behind that goes "
                        "into tail",
                        "does not end in an end token, so the model would never stop");
}

static enum status check_end_tokens(const struct reading *r)
{
    const char *p = r->text[FIELD_end];
    struct element x;
    int n = 0;
    while (pattern_next(&p, &x)) {
        if (!element_is_token(&x))
            return reading_fail(r, FIELD_end, "name tokens: [\"{<|im_end|>}\", \"{eos}\"]",
                                "has text that is no token");
        n++;
    }
    return n >= 1 && n <= 4 ? OK : reading_fail(r, FIELD_end, NULL, "one to four tokens");
}

/* The system text is stripped as one with the user's, which Jinja does from outside. */
static enum status check_system(const struct reading *r)
{
    const char *p = r->text[FIELD_system];
    struct element x;
    if (!r->flag[FIELD_system_in_user]) return OK;
    while (pattern_next(&p, &x))
        if (element_is_token(&x))
            return reading_fail(r, FIELD_system, "write its text alone, or system_in_user: false",
                                "a token cannot stand in a user's text");
    if (r->flag[FIELD_strip] && isspace((unsigned char)*r->text[FIELD_system]))
        return reading_fail(r, FIELD_system, "leave the white space out, or set strip: false",
                            "begins with white space, which strip takes away");
    return r->text[FIELD_default_system_input]
               ? reading_fail(r, FIELD_default_system_input, "leave it out",
                              "does not go with system_in_user")
               : OK;
}

static enum status check_name(const struct reading *r)
{
    const char *s = r->text[FIELD_name];
    size_t n = strlen(s);
    int good = n && n < TEMPLATE_NAME_MAX;
    for (size_t i = 0; i < n; i++) good &= isalnum((unsigned char)s[i]) || strchr("-_.", s[i]);
    return good ? OK
                : reading_fail(r, FIELD_name, "give it a name: of letters, digits, - _ and .",
                               "no name for a template");
}

/* "dir/my.yaml" gives "my". */
static enum status name_by_file(struct reading *r)
{
    const char *slash = strrchr(r->file, '/'), *base = slash ? slash + 1 : r->file;
    const char *dot = strrchr(base, '.');
    size_t n = 0, length = dot ? (size_t)(dot - base) : strlen(base);
    TRY(reading_grow(r, &n, base, length < TEMPLATE_NAME_MAX ? length : TEMPLATE_NAME_MAX));
    r->text[FIELD_name] = reading_end(r, n);
    return OK;
}

/* Without `end`: the token that ends the reply. */
static enum status end_by_reply(struct reading *r)
{
    const char *p = r->text[FIELD_reply], *from = p, *last = NULL, *behind = NULL;
    struct element x;
    size_t n = 0;
    for (; pattern_next(&p, &x); from = p)
        if (element_is_token(&x)) last = from, behind = p;
    r->places[FIELD_end] = r->places[FIELD_reply];
    if (last) TRY(reading_grow(r, &n, last, (size_t)(behind - last)));
    r->text[FIELD_end] = reading_end(r, n);
    return last ? OK : check_end(r, FIELD_reply);
}

enum status reading_check(struct reading *r)
{
    static const enum field_id empty[] = {FIELD_start, FIELD_between, FIELD_prompt, FIELD_tail};
    for (int f = 0; f < NUM_FIELDS; f++) {
        if (r->text[f] || !(reading_fields[f].use & USE_NEEDED)) continue;
        err_at(r->e, ERR_CONFIG, r->file, 0, 0, "the template does not say %s",
               reading_fields[f].name);
        return err_hint(r->e,
                        f == FIELD_reply
                            ? "add reply: \"{content}{eos}\", or assistant: {prefix, suffix}"
                            : "add %s: \"...{content}...\"",
                        reading_fields[f].name);
    }
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        if (!r->text[empty[i]]) r->text[empty[i]] = "";
    if (!r->text[FIELD_name]) TRY(name_by_file(r));
    if (!r->text[FIELD_end]) TRY(end_by_reply(r));
    TRY(check_name(r));
    for (int f = 0; f < NUM_FIELDS; f++)
        if (r->text[f] && reading_fields[f].kind == PATTERN)
            TRY(check_pattern(r, (enum field_id)f));
    TRY(check_end_tokens(r));
    TRY(check_end(r, FIELD_reply));
    if (r->text[FIELD_last_reply]) TRY(check_end(r, FIELD_last_reply));
    return check_system(r);
}
