/* Chat templates that models are published with, told by their text. */
#include <ctype.h>
#include <string.h>

#include "data/template/pattern.h"

#define JINJA_MAX ((size_t)1 << 26)

/* Of the text without the white space that Jinja does not look at. Made by
 * tools/golden/chat_templates.py, which holds each against its row with apply_chat_template. */
static const struct known {
    const char *hash, *row;
} known[] = {
#include "data/template/known_table.h"
    {0},
};

static int opens_tag(const char *s) { return s[0] == '{' && s[1] && strchr("{%#", s[1]); }
static int closes_tag(const char *s) { return *s && strchr("}%", *s) && s[1] == '}'; }

static void trim(struct buf *out)
{
    while (out->len && isspace((unsigned char)out->data[out->len - 1])) out->len--;
}

/* A tag up to its end, without the white space between its tokens. */
static enum status put_tag(const char **at, struct buf *out)
{
    const char *s = *at;
    TRY(buf_append(out, s, 2));
    for (s += 2; *s && !closes_tag(s); s++) {
        if (isspace((unsigned char)*s)) continue;
        TRY(buf_putc(out, *s));
        if (*s != '\'' && *s != '"') continue;
        char quote = *s;
        for (s++; *s && *s != quote; s++) {
            if (*s == '\\' && s[1]) TRY(buf_putc(out, *s++));
            TRY(buf_putc(out, *s));
        }
        if (!*s) break;
        TRY(buf_putc(out, quote));
    }
    *at = *s ? s + 2 : s;
    return *s ? buf_append(out, s, 2) : OK;
}

/* Without comments, carriage returns, white space inside tags, and what {%- and -%} take away. */
static enum status normalise(const char *s, struct buf *out)
{
    while (isspace((unsigned char)*s)) s++;
    while (*s) {
        const char *end = opens_tag(s) && s[1] == '#' ? strstr(s, "#}") : NULL;
        if (!opens_tag(s)) {
            if (*s != '\r') TRY(buf_putc(out, *s));
            s++;
            continue;
        }
        if (s[2] == '-') trim(out);
        if (end)
            s = end + 2;
        else
            TRY(put_tag(&s, out));
        if (s[-1] == '}' && s[-3] == '-')
            while (isspace((unsigned char)*s)) s++;
    }
    trim(out);
    return OK;
}

enum status template_fingerprint(const char *jinja, char out[HASH_HEX_SIZE])
{
    struct buf text;
    buf_init(&text, JINJA_MAX);
    enum status s = normalise(jinja, &text);
    if (!s) hash_hex(text.data ? text.data : "", text.len, out);
    buf_free(&text);
    return s;
}

static const struct template *find_known(const char *hash)
{
    for (const struct known *k = known; k->hash; k++)
        if (!strcmp(k->hash, hash)) return template_find(k->row);
    return NULL;
}

/* What template_jinja writes, with the tokenizer's BOS before it or not. */
static enum status find_own(const char *hash, const struct template **out)
{
    char own[HASH_HEX_SIZE];
    struct buf jinja;
    const struct template *t;
    enum status s = OK;
    buf_init(&jinja, JINJA_MAX);
    for (size_t i = 0; !s && !*out && (t = template_at(i)); i++)
        for (int adds = 0; !s && adds < 2; adds++) {
            buf_clear(&jinja);
            s = template_jinja(t, adds, &jinja);
            if (!s) s = template_fingerprint(jinja.data, own);
            if (!s && !strcmp(own, hash)) *out = t;
        }
    buf_free(&jinja);
    return s;
}

enum status template_recognise(const char *jinja, const struct template **out, struct err *e)
{
    char hash[HASH_HEX_SIZE];
    *out = NULL;
    enum status s = template_fingerprint(jinja, hash);
    if (!s) *out = find_known(hash);
    if (!s && !*out) s = find_own(hash, out);
    return s ? err_set(e, s, "no memory for a chat template") : OK;
}
