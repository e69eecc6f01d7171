#include "cli/line_edit.h"

#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define HISTORY_LINES 1000
#define CONTINUED "  "

struct line_edit {
    const char *prompt;
    int continued; /* the line before ended in a backslash */
    EditLine *editor;
    History *history;
    locale_t characters, before; /* libedit asks the locale what a character is */
};

static char *show_prompt(EditLine *editor)
{
    void *self = NULL;
    el_get(editor, EL_CLIENTDATA, &self);
    const struct line_edit *l = self;
    return (char *)(l->continued ? CONTINUED : l->prompt); /* libedit only reads it */
}

/* UTF-8 whatever the environment says, for this thread and for characters alone. */
static void use_utf8(struct line_edit *l)
{
    l->characters = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!l->characters) l->characters = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (l->characters) l->before = uselocale(l->characters);
}

static enum status start_editor(struct line_edit *l, struct err *e)
{
    HistEvent event;
    use_utf8(l);
    l->history = history_init();
    l->editor = el_init("cria", stdin, stdout, stderr);
    if (!l->history || !l->editor) return err_set(e, ERR_MEMORY, "no memory for line editing");
    history(l->history, &event, H_SETSIZE, HISTORY_LINES);
    history(l->history, &event, H_SETUNIQUE, 1);
    el_set(l->editor, EL_CLIENTDATA, l);
    el_set(l->editor, EL_PROMPT, show_prompt);
    el_set(l->editor, EL_EDITOR, "emacs");
    el_set(l->editor, EL_HIST, history, l->history);
    el_set(l->editor, EL_SETTY, "-d", "-isig", NULL); /* Ctrl-C is a key here, not a signal */
    el_set(l->editor, EL_BIND, "^C", "em-kill-line", NULL);
    el_set(l->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(l->editor, NULL); /* ~/.editrc */
    return OK;
}

enum status line_edit_open(struct line_edit **out, const char *prompt, struct err *e)
{
    struct line_edit *l = *out = mem_calloc(1, sizeof *l);
    if (!l) return err_set(e, ERR_MEMORY, "no memory for line editing");
    l->prompt = prompt;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return OK;
    enum status s = start_editor(l, e);
    if (!s) return OK;
    line_edit_close(l);
    *out = NULL;
    return s;
}

void line_edit_close(struct line_edit *l)
{
    if (!l) return;
    if (l->editor) el_end(l->editor);
    if (l->history) history_end(l->history);
    if (l->characters) {
        uselocale(l->before);
        freelocale(l->characters);
    }
    mem_free(l);
}

int line_edit_is_live(const struct line_edit *l) { return l->editor != NULL; }

/* One line with its newline; n < 1: there is none. */
static enum status read_edited(struct line_edit *l, struct buf *out, int *n)
{
    HistEvent event;
    const char *text = el_gets(l->editor, n);
    if (!text || *n < 1) {
        *n = 0;
        return OK;
    }
    if (*n > 1) history(l->history, &event, H_ENTER, text);
    return buf_append(out, text, (size_t)*n);
}

static enum status read_plain(struct buf *out, int *n)
{
    int c;
    for (*n = 0; (c = getchar()) != EOF; (*n)++) {
        TRY(buf_putc(out, (char)c));
        if (c == '\n') break;
    }
    if (c == '\n') (*n)++;
    return OK;
}

enum status line_edit_read(struct line_edit *l, struct buf *out, int *end, struct err *e)
{
    buf_clear(out);
    *end = l->continued = 0;
    for (;;) {
        int n;
        enum status s = l->editor ? read_edited(l, out, &n) : read_plain(out, &n);
        if (s) return err_set(e, s, "the line is too long");
        if (!l->editor && ferror(stdin)) return err_errno(e, "standard input");
        if (!n) *end = !l->continued;
        if (!n) return buf_append(out, "", 0);
        if (out->data[out->len - 1] == '\n') out->data[--out->len] = 0;
        l->continued = out->len && out->data[out->len - 1] == '\\';
        if (!l->continued) return OK;
        out->data[out->len - 1] = '\n';
    }
}
