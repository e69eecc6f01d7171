#include "data/clean/against.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "data/clean/seen.h"
#include "data/jsonl/jsonl.h"
#include "data/tokenizer/utf8.h"

#define BASE 0x9e3779b97f4a7c15u /* of the rolling hash; odd */
#define LINE_MAX_BYTES (1 << 20)

struct file {
    char *path;
    uint32_t first; /* item */
};

struct against {
    int ngram;
    unsigned char lengths[AGAINST_NGRAM_MAX + 1]; /* which lengths of pieces there are */
    struct seen pieces;
    struct word_list words;
    struct file *files;
    size_t num_files;
    uint32_t items;
    int64_t skipped;
    struct buf line;
};

enum status against_open(struct against **out, int ngram)
{
    struct against *a = mem_calloc(1, sizeof *a);
    *out = a;
    if (!a) return ERR_MEMORY;
    a->ngram = ngram;
    buf_init(&a->line, 4 * LINE_MAX_BYTES);
    return OK;
}

void against_close(struct against *a)
{
    if (!a) return;
    for (size_t i = 0; i < a->num_files; i++) mem_free(a->files[i].path);
    mem_free(a->files);
    seen_free(&a->pieces);
    words_free(&a->words);
    buf_free(&a->line);
    mem_free(a);
}

int64_t against_items(const struct against *a) { return a->items; }
int64_t against_skipped(const struct against *a) { return a->skipped; }

const char *against_origin(const struct against *a, uint32_t item, int64_t *number)
{
    const struct file *f = NULL;
    for (size_t i = 0; i < a->num_files && a->files[i].first <= item; i++) f = &a->files[i];
    *number = (int64_t)item + 1 - (f ? f->first : 0);
    return f ? f->path : "";
}

/* ---- pieces ---- */

/* Walks along all windows of `size` words. The hash of a window: sum of word * BASE^(from the
 * end), mixed with its size. */
struct roll {
    const struct word_list *w;
    size_t size, at;
    uint64_t sum, top; /* top: BASE^size */
};

static struct roll roll_over(const struct word_list *w, size_t size)
{
    struct roll r = {w, size, 0, 0, 1};
    for (size_t i = 0; i < size; i++) r.top *= BASE;
    return r;
}

static int roll_next(struct roll *r, uint64_t *hash)
{
    if (r->size > r->w->n || r->at + r->size > r->w->n) return 0;
    if (!r->at)
        for (size_t i = 0; i < r->size; i++) r->sum = r->sum * BASE + r->w->hashes[i];
    else
        r->sum =
            r->sum * BASE + r->w->hashes[r->at + r->size - 1] - r->top * r->w->hashes[r->at - 1];
    r->at++;
    *hash = words_mix(r->sum + r->size);
    return 1;
}

enum status against_add(struct against *a, struct text item)
{
    uint64_t hash;
    a->words.n = 0;
    TRY(words_append(&a->words, item));
    size_t n = a->words.n, size = n < (size_t)a->ngram ? n : (size_t)a->ngram;
    uint32_t number = a->items++;
    if (2 * size < (size_t)a->ngram) {
        a->skipped++;
        return OK;
    }
    a->lengths[size] = 1;
    for (struct roll r = roll_over(&a->words, size); roll_next(&r, &hash);)
        TRY(seen_add(&a->pieces, hash, number));
    return OK;
}

int against_find(const struct against *a, const struct word_list *w, uint32_t *item)
{
    uint64_t hash;
    for (int size = a->ngram; size > 0; size--) {
        if (!a->lengths[size]) continue;
        for (struct roll r = roll_over(w, (size_t)size); roll_next(&r, &hash);)
            if (seen_find(&a->pieces, hash, item)) return 1;
    }
    return 0;
}

/* ---- files ---- */

static enum status add_strings(struct against *a, const json_t *value)
{
    size_t i;
    json_t *child;
    const char *key;
    if (json_is_string(value))
        return against_add(a, (struct text){json_string_value(value), json_string_length(value)});
    if (json_is_array(value)) {
        json_array_foreach(value, i, child) TRY(add_strings(a, child));
    } else if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, child) TRY(add_strings(a, child));
    }
    return OK;
}

static enum status add_records(struct against *a, struct jsonl *j, struct err *e)
{
    struct jsonl_record r;
    for (;;) {
        TRY(jsonl_next(j, &r, e));
        if (r.kind == JSONL_END) return OK;
        if (r.kind == JSONL_BAD) return e->code;
        if (add_strings(a, r.value)) return err_set(e, ERR_MEMORY, "no memory for the items");
    }
}

static enum status add_line(struct against *a, const char *line, size_t n)
{
    buf_clear(&a->line);
    if (utf8_append_lossy(&a->line, line, n)) return ERR_MEMORY;
    return a->line.len ? against_add(a, (struct text){a->line.data, a->line.len}) : OK;
}

/* A file that is no JSON (*e says why). */
static enum status add_lines(struct against *a, const char *path, struct err *e)
{
    enum status s = OK;
    char *line = mem_alloc(LINE_MAX_BYTES);
    FILE *f = fopen(path, "re");
    if (!line) s = err_set(e, ERR_MEMORY, "no memory to read %s", path);
    if (!s && !f) s = err_errno(e, "cannot open %s", path);
    for (size_t at = 0; !s;) { /* a longer line counts as several */
        size_t got = fread(line + at, 1, LINE_MAX_BYTES - at, f), all = at + got, from = 0;
        if (memchr(line, 0, all)) s = e->code; /* nor text */
        if (s) break;
        for (const char *nl; !s && (nl = memchr(line + from, '\n', all - from));
             from = (size_t)(nl + 1 - line))
            s = add_line(a, line + from, (size_t)(nl - line) - from);
        at = all - from;
        memmove(line, line + from, at);
        if (!s && (!got || at == LINE_MAX_BYTES)) {
            s = add_line(a, line, at);
            at = 0;
        }
        if (s) s = err_set(e, s, "no memory for the items of %s", path);
        if (!got) break;
    }
    if (!s && ferror(f)) s = err_errno(e, "cannot read %s", path);
    if (!s) *e = (struct err){0};
    if (f) fclose(f);
    mem_free(line);
    return s;
}

enum status against_add_file(struct against *a, const char *path, struct err *e)
{
    struct jsonl *j;
    struct file *p = mem_resize(a->files, a->num_files + 1, sizeof *p);
    if (!p) return err_set(e, ERR_MEMORY, "no memory for %s", path);
    a->files = p;
    p[a->num_files] = (struct file){mem_strdup(path), a->items};
    if (!p[a->num_files].path) return err_set(e, ERR_MEMORY, "no memory for %s", path);
    a->num_files++;
    enum status s = jsonl_open(&j, path, NULL, e);
    if (s == ERR_FORMAT) return add_lines(a, path, e);
    if (!s) s = add_records(a, j, e);
    jsonl_close(j);
    return s;
}
