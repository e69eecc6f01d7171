#include "run/tokenize.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer/tokenizer.h"

#define INPUT_MAX ((size_t)1 << 31) /* bytes of stdin */

struct job {
    FILE *out;
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    int decode, no_special;
    struct id_list ids;
    struct buf text;
};

static enum status read_all(FILE *in, struct buf *out, struct err *e)
{
    char block[1 << 16];
    size_t n;
    while ((n = fread(block, 1, sizeof block, in)) > 0) {
        enum status s = buf_append(out, block, n);
        if (s == ERR_FORMAT) return err_set(e, ERR_FORMAT, "the input is larger than 2 GiB");
        if (s) return err_set(e, s, "no memory for the input");
    }
    return ferror(in) ? err_errno(e, "the input") : OK;
}

static enum status encode(struct job *t, const char *text, size_t n, struct err *e)
{
    int32_t bos = tokenizer_bos(t->tokenizer), eos = tokenizer_eos(t->tokenizer);
    t->ids.len = 0;
    if (!t->no_special && tokenizer_adds_bos(t->tokenizer) && bos >= 0)
        TRY(id_list_append(&t->ids, &bos, 1));
    TRY(tokenizer_encode(t->tokenizer, t->scratch, text, n, TOK_TEXT_START, &t->ids, e));
    if (!t->no_special && tokenizer_adds_eos(t->tokenizer) && eos >= 0)
        TRY(id_list_append(&t->ids, &eos, 1));
    for (size_t i = 0; i < t->ids.len; i++) fprintf(t->out, i ? " %d" : "%d", (int)t->ids.ids[i]);
    fputc('\n', t->out);
    return OK;
}

static enum status decode(struct job *t, const char *text, size_t n, struct err *e)
{
    const char *at = text, *end = text + n;
    t->ids.len = 0;
    buf_clear(&t->text);
    while (at < end) {
        char *behind;
        if (strchr(" \t\r\n", *at)) {
            at++;
            continue;
        }
        errno = 0;
        long id = strtol(at, &behind, 10);
        if (behind == at || errno || id < 0 || id > INT32_MAX) {
            err_set(e, ERR_FORMAT, "\"%.20s\" is no token id", at);
            return err_hint(e, "--decode reads ids, whole numbers separated by spaces");
        }
        TRY(id_list_append(&t->ids, &(int32_t){(int32_t)id}, 1));
        at = behind;
    }
    TRY(tokenizer_decode(t->tokenizer, t->ids.ids, t->ids.len, t->no_special, &t->text, e));
    fwrite(t->text.data ? t->text.data : "", 1, t->text.len, t->out);
    return OK;
}

static enum status one(struct job *t, const char *text, size_t n, int lines, struct err *e)
{
    if (!t->decode) return encode(t, text, n, e);
    TRY(decode(t, text, n, e));
    if (lines) fputc('\n', t->out);
    return OK;
}

static enum status all(struct job *t, const struct buf *input, int lines, struct err *e)
{
    const char *at = input->data ? input->data : "", *end = at + input->len;
    if (!lines) return one(t, at, input->len, 0, e);
    for (long line = 1; at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((newline ? newline : end) - at);
        enum status s = one(t, at, n, 1, e);
        if (s) return err_wrap(e, "line %ld", line);
        at += n + 1;
    }
    return OK;
}

static enum status run(struct job *t, const struct tokenize_options *o, FILE *in, struct err *e)
{
    struct buf input;
    buf_init(&input, INPUT_MAX);
    t->scratch = tokenizer_scratch_create();
    enum status s = t->scratch ? OK : err_set(e, ERR_MEMORY, "no memory to tokenize");
    if (!s) s = read_all(in, &input, e);
    if (!s) s = all(t, &input, o->lines, e);
    if (s && !e->code) err_set(e, s, "no memory to tokenize");
    if (!s && ferror(t->out)) s = err_errno(e, "the output");
    tokenizer_scratch_destroy(t->scratch);
    buf_free(&input);
    return s;
}

enum status tokenize_stream(const struct tokenize_options *o, FILE *in, FILE *out, struct err *e)
{
    struct job t = {.out = out, .decode = o->decode, .no_special = o->no_special};
    TRY(tokenizer_open(&t.tokenizer, o->tokenizer, e));
    buf_init(&t.text, INPUT_MAX);
    enum status s = run(&t, o, in, e);
    buf_free(&t.text);
    id_list_free(&t.ids);
    tokenizer_close(t.tokenizer);
    return s;
}
