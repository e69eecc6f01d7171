/* tok_tiktoken.c - reads Meta's tokenizer.model for Llama 3: a line a token, its bytes in base64, a
 * space, its rank.
 *
 * A rank is an id. tiktoken merges the adjacent parts whose union has the lowest rank; so each way
 * to cut a token into two tokens is a merge of that token's rank. Neither the split pattern nor the
 * special tokens are in the file: they are Llama 3's, and longer rank files, which belong to other
 * models, are refused.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "data/tokenizer/bytes.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/scan.h"

#define LLAMA3_RANKS 128000
#define LLAMA3_SPECIALS 256

/* The special tokens with names of their own, by number; the rest are reserved. */
static const struct {
    int number;
    const char *name;
} named_specials[] = {{0, "<|begin_of_text|>"},
                      {1, "<|end_of_text|>"},
                      {6, "<|start_header_id|>"},
                      {7, "<|end_header_id|>"},
                      {9, "<|eot_id|>"}};

static int base64_digit(unsigned char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* text[0..n), padded, into out; the number of bytes, 0 when it is no base64. */
static size_t decode_base64(const char *text, size_t n, char *out)
{
    size_t len = 0;
    if (!n || n % 4) return 0;
    size_t pad = text[n - 1] != '=' ? 0 : text[n - 2] != '=' ? 1 : 2;
    for (size_t i = 0; i < n; i += 4) {
        unsigned value = 0;
        size_t padded = i + 4 == n ? pad : 0;
        for (size_t k = 0; k < 4; k++) {
            int digit = k >= 4 - padded ? 0 : base64_digit((unsigned char)text[i + k]);
            if (digit < 0) return 0;
            value = value << 6 | (unsigned)digit;
        }
        for (size_t k = 0; k < 3 - padded; k++) out[len++] = (char)(value >> (16 - 8 * k));
    }
    return len;
}

static enum status put_token(struct tokenizer *t, int32_t id, const char *raw, size_t n,
                             const char *path, struct err *e)
{
    struct buf spelling;
    buf_init(&spelling, TOKEN_BYTES_MAX * 2);
    enum status s = bytes_append_spelling(&spelling, raw, n);
    if (s)
        err_at(e, s, path, 0, 0, "no memory for the vocabulary");
    else
        s = tokenizer_put(&t->vocab, id, spelling.data, spelling.len, path, e);
    buf_free(&spelling);
    return s ? s : tokenizer_put(&t->symbols, id, raw, n, path, e);
}

static enum status read_line(struct tokenizer *t, const char *path, long line, const char *text,
                             size_t n, struct err *e)
{
    char raw[TOKEN_BYTES_MAX];
    const char *space = memchr(text, ' ', n);
    size_t code = space ? (size_t)(space - text) : 0, len;
    if (code > TOKEN_BYTES_MAX / 3 * 4 || !(len = decode_base64(text, code, raw)))
        return err_at(e, ERR_FORMAT, path, line, 1, "no token in base64 and rank");
    int64_t rank = 0;
    size_t at = code + 1;
    for (; at < n && text[at] >= '0' && text[at] <= '9' && rank < VOCAB_SIZE_MAX; at++)
        rank = rank * 10 + (text[at] - '0');
    if (at < n && text[at] == '\r') at++;
    if (at != n || code + 1 >= n || text[code + 1] < '0' || text[code + 1] > '9')
        return err_at(e, ERR_FORMAT, path, line, (long)code + 2, "no rank");
    if (rank >= LLAMA3_RANKS) {
        err_at(e, ERR_UNSUPPORTED, path, line, (long)code + 2,
               "rank %lld: a rank file of more than Llama 3's 128000 tokens", (long long)rank);
        return err_hint(e, "use the model's tokenizer.json, which says how it splits text");
    }
    enum status s = put_token(t, (int32_t)rank, raw, len, path, e);
    if (s) e->line = line;
    return s;
}

static enum status add_merges(struct tokenizer *t)
{
    for (int32_t id = 0; id < t->model_size; id++) {
        size_t n;
        const char *raw = vocab_text(&t->symbols, id, &n);
        for (size_t cut = 1; cut < n; cut++) {
            int32_t left = vocab_find(&t->symbols, raw, cut);
            int32_t right = left < 0 ? -1 : vocab_find(&t->symbols, raw + cut, n - cut);
            if (right >= 0) TRY(merge_table_put(&t->merges, left, right, id, id));
        }
    }
    return OK;
}

static enum status add_specials(struct tokenizer *t, const char *path, struct err *e)
{
    int reserved = 0;
    for (int i = 0; i < LLAMA3_SPECIALS; i++) {
        char name[48] = "";
        for (size_t k = 0; k < sizeof named_specials / sizeof *named_specials; k++)
            if (named_specials[k].number == i)
                snprintf(name, sizeof name, "%s", named_specials[k].name);
        if (!*name) snprintf(name, sizeof name, "<|reserved_special_token_%d|>", reserved++);
        int32_t id = t->model_size + i;
        TRY(tokenizer_put(&t->vocab, id, name, strlen(name), path, e));
        if (tokenizer_add(t, id, ADDED_SPECIAL))
            return err_at(e, ERR_MEMORY, path, 0, 0, "no memory for the vocabulary");
    }
    return OK;
}

static enum status check_ranks(const struct tokenizer *t, const char *path, struct err *e)
{
    size_t n;
    for (int32_t id = 0; id < t->symbols.size; id++)
        if (!vocab_text(&t->symbols, id, &n))
            return err_at(e, ERR_FORMAT, path, 0, 0, "no token has rank %d", id);
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        if (vocab_find(&t->symbols, &byte, 1) < 0)
            return err_at(e, ERR_FORMAT, path, 0, 0, "byte 0x%02X has no token", (unsigned)b);
    }
    return OK;
}

enum status tok_tiktoken_read(struct tokenizer *t, const char *path, const char *text, size_t n,
                              struct err *e)
{
    long line = 1;
    size_t lines = n / 16; /* about; and two ways to cut a token in two */
    if (vocab_reserve(&t->vocab, lines) || vocab_reserve(&t->symbols, lines) ||
        merge_table_reserve(&t->merges, lines * 2))
        return err_at(e, ERR_MEMORY, path, 0, 0, "no memory for the vocabulary");
    for (size_t at = 0; at < n; line++) {
        const char *newline = memchr(text + at, '\n', n - at);
        size_t len = newline ? (size_t)(newline - text) - at : n - at;
        if (len) TRY(read_line(t, path, line, text + at, len, e));
        at += len + 1;
    }
    TRY(check_ranks(t, path, e));
    t->alphabet = ALPHABET_BYTES;
    t->ignore_merges = 1;
    t->model_size = t->vocab.size;
    if (add_merges(t)) return err_at(e, ERR_MEMORY, path, 0, 0, "no memory for the merges");
    TRY(add_specials(t, path, e));
    struct pre_step *p = &t->pre[t->pre_count++];
    p->kind = PRE_SPLIT;
    p->pattern = mem_strdup(scan_llama3_pattern);
    if (!p->pattern) return err_at(e, ERR_MEMORY, path, 0, 0, "no memory for the split pattern");
    enum status s = splitter_create(&p->splitter, p->pattern, SPLIT_PATTERN, e);
    if (s) return err_wrap(e, "%s", path);
    t->decoder.steps[t->decoder.count++].kind = DECODE_BYTE_LEVEL;
    t->bos = t->model_size;
    t->eos = t->model_size + 1;
    t->adds_bos = 1;
    return OK;
}
