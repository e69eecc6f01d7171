#include "data/tokenizer/split.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buf.h"
#include "base/mem.h"
#include "data/tokenizer/utf8.h"

#define PATTERN_MAX ((size_t)1 << 20)
#define JIT_STACK_MAX ((size_t)16 << 20)

const char split_gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const char split_llama3_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* White_Space of Unicode, as the inside of a character class. */
#define WHITE_SPACE                                                              \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x" \
    "{2029}\\x{202f}\\x{205f}\\x{3000}"

struct splitter {
    pcre2_code *code;
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

/* Appends the pattern with \s and \S spelled out. */
static enum status translate(struct buf *out, const char *pattern, struct err *e)
{
    int in_class = 0;
    for (const char *p = pattern; *p; p++) {
        enum status s;
        if (*p == '\\' && p[1] == 's') {
            s = buf_puts(out, in_class ? WHITE_SPACE : "[" WHITE_SPACE "]");
            p++;
        } else if (*p == '\\' && p[1] == 'S') {
            if (in_class)
                return err_set(e, ERR_UNSUPPORTED, "split pattern %s: \\S inside brackets",
                               pattern);
            s = buf_puts(out, "[^" WHITE_SPACE "]");
            p++;
        } else if (*p == '\\' && p[1]) {
            s = buf_append(out, p, 2);
            p++;
        } else {
            if (*p == '[' && in_class && p[1] != ':')
                return err_set(e, ERR_UNSUPPORTED, "split pattern %s: brackets inside brackets",
                               pattern);
            if (*p == '[' && !in_class)
                in_class = 1;
            else if (*p == ']')
                in_class = 0;
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

enum status splitter_create(struct splitter **out, const char *pattern, int literal, struct err *e)
{
    *out = NULL;
    struct splitter *s = mem_calloc(1, sizeof *s);
    if (!s) return err_set(e, ERR_MEMORY, "no memory for a split pattern");
    struct buf text;
    buf_init(&text, PATTERN_MAX);
    enum status status;
    if (utf8_valid_prefix(pattern, strlen(pattern)) != strlen(pattern))
        status = err_set(e, ERR_FORMAT, "split pattern: not UTF-8");
    else if (literal)
        status = compile(s, pattern, strlen(pattern), PCRE2_LITERAL, e);
    else if (!(status = translate(&text, pattern, e)))
        status = compile(s, text.data ? text.data : "", text.len, PCRE2_UCP, e);
    buf_free(&text);
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

int splitter_find(const struct splitter *s, struct splitter_scratch *scratch, const char *text,
                  size_t n, size_t at, size_t *start, size_t *end)
{
    while (at < n) {
        int got = pcre2_match(s->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, scratch->match,
                              scratch->context);
        if (got == PCRE2_ERROR_NOMATCH) return 0;
        if (got < 0) return -1;
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
