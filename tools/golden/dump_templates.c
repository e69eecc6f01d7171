/* dump_templates.c - the template table's Jinja texts as JSON, for tools/golden/templates.py; of
 * Jinja files that are named, their fingerprints instead, for chat_templates.py.
 *
 *     cc -I. -Itrainer tools/golden/dump_templates.c data/template/{table,pattern,jinja,known}.c \
 *        trainer/base/{buf,mem,hash,io,status}.c -lxxhash
 */
#include <stdio.h>

#include "base/io.h"
#include "data/template/template.h"

static void print_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') putchar('\\');
        if (*s == '\n')
            fputs("\\n", stdout);
        else
            putchar(*s);
    }
    putchar('"');
}

static int print_fingerprint(const char *path)
{
    struct err e = {0};
    struct buf text;
    char hash[HASH_HEX_SIZE];
    buf_init(&text, 1 << 26);
    int failed =
        io_read_file(path, &text, &e) || template_fingerprint(text.data ? text.data : "", hash);
    if (!failed) puts(hash);
    buf_free(&text);
    return failed;
}

int main(int argc, char **argv)
{
    const struct template *t;
    for (int i = 1; i < argc; i++)
        if (print_fingerprint(argv[i])) return 1;
    if (argc > 1) return 0;
    putchar('{');
    for (size_t i = 0; (t = template_at(i)); i++) {
        if (i) putchar(',');
        print_string(t->name);
        putchar(':');
        struct buf jinja;
        buf_init(&jinja, 1 << 20);
        if (template_jinja(t, 0, &jinja)) return 1;
        print_string(jinja.data);
        buf_free(&jinja);
    }
    puts("}");
    return 0;
}
