/* dump_templates.c - the template table's Jinja texts as JSON, for tools/golden/templates.py.
 *
 *     cc -I. -Itrainer tools/golden/dump_templates.c data/template/table.c
 */
#include <stdio.h>

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

int main(void)
{
    const struct template *t;
    putchar('{');
    for (size_t i = 0; (t = template_at(i)); i++) {
        if (i) putchar(',');
        print_string(t->name);
        putchar(':');
        print_string(t->jinja);
    }
    puts("}");
    return 0;
}
