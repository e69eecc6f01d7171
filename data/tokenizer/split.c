#include "data/tokenizer/split.h"

#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buf.h"
#include "base/mem.h"
#include "data/tokenizer/scan.h"
#include "data/tokenizer/utf8.h"

#define PATTERN_MAX ((size_t)1 << 20)
#define JIT_STACK_MAX ((size_t)16 << 20)

/* What the escapes of a pattern become, as the inside of a character class. White space is
 * White_Space of Unicode. The references know the letters and numbers of Unicode 16, PCRE2 10.42
 * those of 14: the newer ones follow the property (measured over all characters). */
static const struct escape {
    const char *escape, *class;
} escapes[] = {
    {"\\s", "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
            "\\x{202f}\\x{205f}\\x{3000}"},
    {"\\p{L}",
     "\\p{L}"
     "\\x{1c89}-\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}"
     "\\x{10d4a}-\\x{10d65}\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}-\\x{11240}"
     "\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}"
     "\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}"
     "\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}"
     "\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}"
     "\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}"
     "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"},
    {"\\p{N}",
     "\\p{N}"
     "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}"
     "\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}"
     "\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"},
};

struct splitter {
    scanner *scan;    /* of a known pattern; else NULL, and */
    pcre2_code *code; /* its regular expression */
};

struct splitter_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static void *pcre_alloc(size_t n, void *unused)
{
    (void)unused;
    return mem_alloc(n);
}

static void pcre_free(void *p, void *unused)
{
    (void)unused;
    mem_free(p);
}

static const struct escape *escape_at(const char *p)
{
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        if (!strncmp(p, escapes[i].escape, strlen(escapes[i].escape))) return &escapes[i];
    return NULL;
}

static enum status put_class(struct buf *out, const char *open, const char *class,
                             const char *close)
{
    TRY(buf_puts(out, open));
    TRY(buf_puts(out, class));
    return buf_puts(out, close);
}

static enum status unclear(const char *pattern, const char *what, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED, "split pattern %.200s: %s inside brackets", pattern, what);
}

/* Appends the pattern with its escapes spelled out. */
static enum status translate(struct buf *out, const char *pattern, struct err *e)
{
    int in_class = 0;
    for (const char *p = pattern; *p; p++) {
        const struct escape *escape = escape_at(p);
        enum status s;
        if (escape) {
            s = put_class(out, in_class ? "" : "[", escape->class, in_class ? "" : "]");
            p += strlen(escape->escape) - 1;
        } else if (*p == '\\' && p[1] == 'S') {
            if (in_class) return unclear(pattern, "\\S", e);
            s = put_class(out, "[^", escapes[0].class, "]");
            p++;
        } else if (*p == '\\' && p[1]) {
            s = buf_append(out, p, 2);
            p++;
        } else {
            if (*p == '[' && in_class && p[1] != ':') return unclear(pattern, "brackets", e);
            in_class = *p == '[' || (in_class && *p != ']');
            s = buf_putc(out, *p);
        }
        if (s) return err_set(e, s, "no memory for a split pattern");
    }
    return OK;
}

static enum status compile(struct splitter *s, const char *pattern, size_t n, uint32_t options,
                           struct err *e)
{
    pcre2_general_context *memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    int code = 0;
    PCRE2_SIZE at = 0;
    if (context)
        s->code = pcre2_compile((PCRE2_SPTR)pattern, n, PCRE2_UTF | options, &code, &at, context);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    if (!context || (!s->code && code == PCRE2_ERROR_HEAP_FAILED))
        return err_set(e, ERR_MEMORY, "no memory for a split pattern");
    if (s->code) {
        /* Without the JIT compiler the same expression is interpreted. */
        (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);
        return OK;
    }
    PCRE2_UCHAR text[160];
    pcre2_get_error_message(code, text, sizeof text);
    return err_set(e, ERR_UNSUPPORTED, "split pattern %.200s: %s (at byte %zu)", pattern,
                   (const char *)text, (size_t)at);
}

static enum status compile_kind(struct splitter *s, const char *pattern, enum split_kind kind,
                                struct err *e)
{
    if (utf8_valid_prefix(pattern, strlen(pattern)) != strlen(pattern))
        return err_set(e, ERR_FORMAT, "split pattern: not UTF-8");
    if (kind == SPLIT_LITERAL) return compile(s, pattern, strlen(pattern), PCRE2_LITERAL, e);
    if (kind == SPLIT_PATTERN && (s->scan = scanner_find(pattern))) return OK;
    struct buf text;
    buf_init(&text, PATTERN_MAX);
    enum status status = translate(&text, pattern, e);
    if (!status) status = compile(s, text.data ? text.data : "", text.len, PCRE2_UCP, e);
    buf_free(&text);
    return status;
}

enum status splitter_create(struct splitter **out, const char *pattern, enum split_kind kind,
                            struct err *e)
{
    *out = NULL;
    struct splitter *s = mem_calloc(1, sizeof *s);
    if (!s) return err_set(e, ERR_MEMORY, "no memory for a split pattern");
    enum status status = compile_kind(s, pattern, kind, e);
    if (status)
        splitter_destroy(s);
    else
        *out = s;
    return status;
}

void splitter_destroy(struct splitter *s)
{
    if (!s) return;
    pcre2_code_free(s->code);
    mem_free(s);
}

struct splitter_scratch *splitter_scratch_create(void)
{
    struct splitter_scratch *s = mem_calloc(1, sizeof *s);
    pcre2_general_context *memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (s && memory) {
        s->match = pcre2_match_data_create(1, memory);
        s->context = pcre2_match_context_create(memory);
        s->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_MAX, memory);
    }
    pcre2_general_context_free(memory);
    if (s && s->match && s->context) {
        if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
        return s;
    }
    splitter_scratch_destroy(s);
    return NULL;
}

void splitter_scratch_destroy(struct splitter_scratch *s)
{
    if (!s) return;
    if (s->stack) pcre2_jit_stack_free(s->stack);
    pcre2_match_context_free(s->context);
    pcre2_match_data_free(s->match);
    mem_free(s);
}

/* The first match in text[at..n) that is not empty: 1 and its bounds, 0 for none, or one of the
 * negative values. */
static int find(const struct splitter *s, struct splitter_scratch *scratch, const char *text,
                size_t n, size_t at, size_t *start, size_t *end)
{
    while (at < n) {
        int got = pcre2_match(s->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, scratch->match,
                              scratch->context);
        if (got == PCRE2_ERROR_NOMATCH) return 0;
        if (got < 0) return got == PCRE2_ERROR_NOMEMORY ? SPLIT_NO_MEMORY : SPLIT_TOO_MUCH;
        const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(scratch->match);
        if (bounds[1] > bounds[0] && bounds[0] >= at) {
            *start = bounds[0];
            *end = bounds[1];
            return 1;
        }
        at = bounds[1] > at ? bounds[1] : at + utf8_length((unsigned char)text[at]);
    }
    return 0;
}

int splitter_cut(const struct splitter *s, struct splitter_scratch *scratch, const char *text,
                 size_t n, size_t at, size_t *ends, int max)
{
    int count = 0;
    if (s->scan) return (int)s->scan(text, n, at, ends, (size_t)max);
    while (at < n && count + 1 < max) {
        size_t start = n, end = n;
        int found = find(s, scratch, text, n, at, &start, &end);
        if (found < 0) return found;
        if (start > at) ends[count++] = start;
        if (found) ends[count++] = end;
        at = end;
    }
    return count;
}

void split_library_version(char *out, size_t size)
{
    char text[64] = "";
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) < (int)sizeof text)
        pcre2_config(PCRE2_CONFIG_VERSION, text);
    snprintf(out, size, "%s", text);
}
