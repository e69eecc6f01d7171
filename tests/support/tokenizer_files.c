#include "support/tokenizer_files.h"

#include <stdio.h>
#include <string.h>

#include "support/check.h"

void put_byte(struct proto_out *p, int byte)
{
    assert_true(p->n < sizeof p->bytes);
    p->bytes[p->n++] = (char)byte;
}

void put_body(struct proto_out *p, int field, const char *body, size_t n)
{
    assert_true(n < 16384);
    for (unsigned key = (unsigned)field << 3 | 2; key; key >>= 7)
        put_byte(p, (int)((key & 0x7F) | (key > 0x7F ? 0x80 : 0)));
    put_byte(p, (int)((n & 0x7F) | 0x80));
    put_byte(p, (int)(n >> 7));
    for (size_t i = 0; i < n; i++) put_byte(p, body[i]);
}

void put_number(struct proto_out *p, int field, int value)
{
    for (unsigned key = (unsigned)field << 3; key; key >>= 7)
        put_byte(p, (int)((key & 0x7F) | (key > 0x7F ? 0x80 : 0)));
    put_byte(p, value);
}

void put_piece(struct proto_out *p, const char *text, float score, int type)
{
    struct proto_out piece = {.n = 0};
    put_body(&piece, 1, text, strlen(text));
    put_byte(&piece, 2 << 3 | 5);
    memcpy(piece.bytes + piece.n, &score, 4); /* the machines this runs on are little endian */
    piece.n += 4;
    put_number(&piece, 3, type);
    put_body(p, 1, piece.bytes, piece.n);
}

struct proto_out sp_model(struct spec spec)
{
    struct proto_out p = {.n = 0}, part = {.n = 0};
    put_piece(&p, "<unk>", 0, 2);
    put_piece(&p, "<s>", 0, 3);
    put_piece(&p, "</s>", 0, 3);
    put_piece(&p, "<0xC3>", 0, 6);
    put_piece(&p, "<0xA9>", 0, 6);
    put_piece(&p, "ab", -1, 1); /* "b" is no piece of its own */
    put_piece(&p, "▁ab", -2, 1);
    put_piece(&p, "a", -3, 1);
    put_piece(&p, "▁", -4, 1);
    put_piece(&p, "<user>", 0, 4);
    put_piece(&p, "aa", -2.5f, 1);
    put_number(&part, 3, spec.type);
    put_number(&part, 24, spec.suffix);
    put_number(&part, 35, spec.bytes);
    put_body(&p, 2, part.bytes, part.n);
    part.n = 0;
    if (spec.charsmap) put_body(&part, 2, "map", 3);
    put_number(&part, 3, spec.prefix);
    put_number(&part, 4, spec.remove_extra);
    put_body(&p, 3, part.bytes, part.n);
    return p;
}

static size_t put_base64(char *out, const char *raw, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = 0;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = 0;
        for (size_t k = 0; k < 3; k++) v = v << 8 | (i + k < n ? (unsigned char)raw[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            out[len++] = i + k > n ? '=' : digits[v >> (18 - 6 * k) & 63];
    }
    return len;
}

size_t put_rank(char *out, const char *raw, size_t n, int rank)
{
    size_t len = put_base64(out, raw, n);
    return len + (size_t)snprintf(out + len, 16, " %d\n", rank);
}

size_t ranks(char *out)
{
    static const char *const tokens[] = {"bc", "ab", "abc", " abcd"};
    size_t n = 0;
    for (int b = 0; b < 256; b++) n += put_rank(out + n, (char[]){(char)b}, 1, b);
    for (int i = 0; i < 4; i++) n += put_rank(out + n, tokens[i], strlen(tokens[i]), 256 + i);
    return n;
}
