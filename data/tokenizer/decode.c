#include "data/tokenizer/decode.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "data/tokenizer/bytes.h"
#include "data/tokenizer/utf8.h"

#define PIECES_MAX ((size_t)1 << 34) /* bytes */

void piece_list_init(struct piece_list *p)
{
    *p = (struct piece_list){0};
    buf_init(&p->text, PIECES_MAX);
}

void piece_list_free(struct piece_list *p)
{
    buf_free(&p->text);
    mem_free(p->ends);
    p->ends = NULL;
    p->count = p->cap = 0;
}

/* Ends the piece whose bytes were appended to p->text. */
static enum status end_piece(struct piece_list *p)
{
    if (p->count == p->cap) {
        size_t cap = p->cap * 2 + 64;
        size_t *ends = mem_resize(p->ends, cap, sizeof *ends);
        if (!ends) return ERR_MEMORY;
        p->ends = ends;
        p->cap = cap;
    }
    p->ends[p->count++] = p->text.len;
    return OK;
}

enum status piece_list_add(struct piece_list *p, const char *text, size_t n)
{
    TRY(buf_append(&p->text, text, n));
    return end_piece(p);
}

/* One piece in, what it becomes appended to out->text; the caller ends the piece. */
static enum status replace_piece(const struct decoder_step *step, const char *text, size_t n,
                                 struct buf *out)
{
    size_t from = strlen(step->from);
    const char *end = text + n;
    while (text < end) {
        const char *hit = from ? memmem(text, (size_t)(end - text), step->from, from) : NULL;
        TRY(buf_append(out, text, (size_t)((hit ? hit : end) - text)));
        if (!hit) break;
        TRY(buf_puts(out, step->to));
        text = hit + from;
    }
    return OK;
}

static enum status strip_piece(const struct decoder_step *step, const char *text, size_t n,
                               struct buf *out)
{
    size_t c = strlen(step->from);
    if (!c) return buf_append(out, text, n);
    for (int i = 0; i < step->start && n >= c && !memcmp(text, step->from, c); i++) {
        text += c;
        n -= c;
    }
    for (int i = 0; i < step->stop && n >= c && !memcmp(text + n - c, step->from, c); i++) n -= c;
    return buf_append(out, text, n);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The byte that "<0xHH>" names, or -1. Rust's parser takes "+H" for two digits, too. */
static int byte_of(const char *text, size_t n)
{
    if (n != 6 || memcmp(text, "<0x", 3) || text[5] != '>') return -1;
    int high = text[3] == '+' ? 0 : hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Ends a run of byte pieces that starts at `from` in out->text. */
static enum status end_bytes(struct piece_list *out, size_t from, int stream)
{
    size_t n = out->text.len - from;
    if (!n) return OK;
    if (!stream && utf8_valid_prefix(out->text.data + from, n) != n) {
        out->text.len = from;
        for (size_t i = 0; i < n; i++) TRY(piece_list_add(out, UTF8_REPLACEMENT, 3));
        return OK;
    }
    return end_piece(out);
}

static enum status byte_fallback(const struct piece_list *in, struct piece_list *out, int stream)
{
    size_t at = 0, run = 0; /* run: where the bytes that wait start in out->text */
    for (size_t i = 0; i < in->count; i++) {
        const char *text = in->text.data + at;
        size_t n = in->ends[i] - at;
        int byte = byte_of(text, n);
        at = in->ends[i];
        if (byte >= 0) {
            TRY(buf_putc(&out->text, (char)byte));
            continue;
        }
        TRY(end_bytes(out, run, stream));
        TRY(piece_list_add(out, text, n));
        run = out->text.len;
    }
    return end_bytes(out, run, stream);
}

static enum status fuse(const struct piece_list *in, struct piece_list *out)
{
    return piece_list_add(out, in->text.data, in->text.len);
}

static enum status byte_level(const struct piece_list *in, struct piece_list *out, int stream)
{
    struct buf raw;
    buf_init(&raw, PIECES_MAX);
    enum status s = OK;
    size_t at = 0;
    for (size_t i = 0; i < in->count && !s; at = in->ends[i++]) {
        const char *text = in->text.data + at;
        size_t n = in->ends[i] - at;
        int whole;
        s = bytes_append_raw(&raw, text, n, &whole);
        if (!s && !whole) s = buf_append(&raw, text, n);
    }
    const char *data = raw.data ? raw.data : "";
    if (!s)
        s = stream ? buf_append(&out->text, data, raw.len)
                   : utf8_append_lossy(&out->text, data, raw.len);
    buf_free(&raw);
    return s ? s : end_piece(out);
}

static enum status map_pieces(const struct decoder_step *step, const struct piece_list *in,
                              struct piece_list *out, struct decode_mode mode)
{
    struct decoder_step here = *step;
    size_t at = 0;
    for (size_t i = 0; i < in->count; at = in->ends[i++]) {
        const char *text = in->text.data + at;
        size_t n = in->ends[i] - at;
        int first = i == 0 && (!mode.stream || mode.first);
        enum status s = OK;
        switch (step->kind) {
        case DECODE_STRIP: s = strip_piece(step, text, n, &out->text); break;
        case DECODE_METASPACE:
            snprintf(here.to, sizeof here.to, "%s", first && step->start ? "" : " ");
            s = replace_piece(&here, text, n, &out->text);
            break;
        case DECODE_JOIN:
            if (!first) s = buf_putc(&out->text, ' ');
            if (!s) s = buf_append(&out->text, text, n);
            break;
        default: s = replace_piece(step, text, n, &out->text); break;
        }
        if (s) return s;
        TRY(end_piece(out));
    }
    return OK;
}

static enum status apply_step(const struct decoder_step *step, const struct piece_list *in,
                              struct piece_list *out, struct decode_mode mode)
{
    switch (step->kind) {
    case DECODE_BYTE_FALLBACK: return byte_fallback(in, out, mode.stream);
    case DECODE_FUSE: return fuse(in, out);
    case DECODE_BYTE_LEVEL: return byte_level(in, out, mode.stream);
    default: return map_pieces(step, in, out, mode);
    }
}

enum status decoder_apply(const struct decoder *d, struct piece_list *pieces,
                          struct decode_mode mode)
{
    struct piece_list other;
    piece_list_init(&other);
    enum status s = OK;
    int fused = 0;
    for (int i = 0; i < d->count && !s; i++) {
        const struct decoder_step *step = &d->steps[i];
        fused |= step->kind == DECODE_FUSE || step->kind == DECODE_BYTE_LEVEL;
        if (mode.stream && !mode.first && fused && step->kind == DECODE_STRIP) continue;
        buf_clear(&other.text);
        other.count = 0;
        s = buf_reserve(&other.text, pieces->text.len);
        if (!s) s = apply_step(step, pieces, &other, mode);
        struct piece_list swap = *pieces;
        *pieces = other;
        other = swap;
    }
    piece_list_free(&other);
    return s;
}
