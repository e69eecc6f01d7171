/* tok_sentencepiece.c - reads a SentencePiece .model of type BPE, and decodes as its rules say.
 *
 * The file is the protobuf message ModelProto; the fields that decide ids are listed below.
 * SentencePiece merges two adjacent symbols when their union is a piece, best score first. So each
 * way to cut a piece into two symbols is a merge whose rank is the place of the piece's score.
 * A character that occurs in pieces without being one still is a symbol: such characters get
 * ids behind the pieces' and are resolved to bytes or the unknown piece after merging.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/proto.h"
#include "data/tokenizer/utf8.h"

enum { /* field numbers */
       MODEL_PIECES = 1,
       MODEL_TRAINER = 2,
       MODEL_NORMALIZER = 3,
       MODEL_DENORMALIZER = 5,
       PIECE_TEXT = 1,
       PIECE_SCORE = 2,
       PIECE_TYPE = 3,
       TRAINER_TYPE = 3,
       TRAINER_SUFFIX = 24,
       TRAINER_BYTE_FALLBACK = 35,
       TRAINER_UNK_SURFACE = 44,
       TRAINER_BOS = 46,
       TRAINER_EOS = 47,
       NORMALIZER_CHARSMAP = 2,
       NORMALIZER_DUMMY_PREFIX = 3,
       NORMALIZER_REMOVE_EXTRA = 4,
       NORMALIZER_ESCAPE = 5
};

#define TYPE_BPE 2
#define DEFAULT_UNK_SURFACE " \xE2\x81\x87 "

/* PIECE_TYPE 1...6, as ours; UNUSED (5) is refused. */
static const enum token_kind kinds[] = {0, TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER,
                                        0, TOKEN_BYTE};

struct reader {
    struct tokenizer *t;
    const char *path;
    struct err *e;
    struct proto message;
    float *scores; /* by id */
    struct buf bos, eos, unk_surface;
    int has_unk_surface;
    uint64_t type, suffix, escape, dummy_prefix, remove_extra;
    int has_charsmap;
};

static enum status malformed(struct reader *r, const char *what)
{
    return err_at(r->e, ERR_FORMAT, r->path, 0, 0, "not a SentencePiece model: %s", what);
}

static enum status unsupported(struct reader *r, const char *what)
{
    err_at(r->e, ERR_UNSUPPORTED, r->path, 0, 0, "a SentencePiece model %s", what);
    return err_hint(r->e, "cria reads BPE models with the identity normalizer, as Llama 1, Llama 2 "
                          "and Mistral have; other kinds need a tokenizer.json");
}

static enum status no_memory(struct reader *r)
{
    return err_at(r->e, ERR_MEMORY, r->path, 0, 0, "no memory for the tokenizer");
}

/* "<0xHH>", as decoding relies on. */
static int is_byte_name(const char *text, size_t n)
{
    return n == 6 && !memcmp(text, "<0x", 3) && isxdigit((unsigned char)text[3]) &&
           isxdigit((unsigned char)text[4]) && text[5] == '>';
}

static enum status read_piece(struct reader *r, struct proto p, int32_t id)
{
    struct proto_field f;
    struct proto text = {p.at, p.at};
    uint64_t type = 1;
    int got;
    while ((got = proto_next(&p, &f)) > 0) {
        if (f.number == PIECE_TEXT && f.wire == PROTO_BYTES) text = f.body;
        if (f.number == PIECE_SCORE && f.wire == PROTO_FIXED32) r->scores[id] = proto_float(&f);
        if (f.number == PIECE_TYPE && f.wire == PROTO_VARINT) type = f.value;
    }
    size_t n = proto_size(&text);
    if (got < 0 || isnan(r->scores[id])) return malformed(r, "a bad piece");
    if (n > TOKEN_BYTES_MAX) return malformed(r, "a piece is too long");
    if (utf8_valid_prefix((const char *)text.at, n) != n)
        return malformed(r, "a piece is not UTF-8");
    if (type == 6 && !is_byte_name((const char *)text.at, n))
        return malformed(r, "a byte piece without a byte");
    if (type == 5) return unsupported(r, "with unused pieces is not supported");
    if (type < 1 || type > 6) return malformed(r, "a piece of unknown type");
    r->t->kinds[id] = (uint8_t)kinds[type];
    if (kinds[type] == TOKEN_UNKNOWN) {
        if (r->t->unknown >= 0) return malformed(r, "two unknown pieces");
        r->t->unknown = id;
    }
    return tokenizer_put(&r->t->vocab, id, (const char *)text.at, n, r->path, r->e);
}

static enum status keep(struct reader *r, struct buf *b, const struct proto_field *f)
{
    buf_clear(b);
    enum status s = buf_append(b, f->body.at, proto_size(&f->body));
    return s == ERR_MEMORY ? no_memory(r) : s ? malformed(r, "a name is too long") : OK;
}

static enum status read_trainer(struct reader *r, struct proto p)
{
    struct proto_field f;
    int got;
    while ((got = proto_next(&p, &f)) > 0) {
        if (f.wire == PROTO_VARINT && f.number == TRAINER_TYPE) r->type = f.value;
        if (f.wire == PROTO_VARINT && f.number == TRAINER_SUFFIX) r->suffix = f.value;
        if (f.wire == PROTO_VARINT && f.number == TRAINER_BYTE_FALLBACK)
            r->t->byte_fallback = f.value != 0;
        if (f.wire != PROTO_BYTES) continue;
        if (f.number == TRAINER_BOS) TRY(keep(r, &r->bos, &f));
        if (f.number == TRAINER_EOS) TRY(keep(r, &r->eos, &f));
        if (f.number == TRAINER_UNK_SURFACE) {
            TRY(keep(r, &r->unk_surface, &f));
            r->has_unk_surface = 1;
        }
    }
    return got < 0 ? malformed(r, "a bad trainer_spec") : OK;
}

static enum status read_normalizer(struct reader *r, struct proto p, int denormalizer)
{
    struct proto_field f;
    int got;
    while ((got = proto_next(&p, &f)) > 0) {
        if (f.number == NORMALIZER_CHARSMAP && f.wire == PROTO_BYTES)
            r->has_charsmap |= proto_size(&f.body) > 0;
        if (denormalizer || f.wire != PROTO_VARINT) continue;
        if (f.number == NORMALIZER_DUMMY_PREFIX) r->dummy_prefix = f.value;
        if (f.number == NORMALIZER_REMOVE_EXTRA) r->remove_extra = f.value;
        if (f.number == NORMALIZER_ESCAPE) r->escape = f.value;
    }
    return got < 0 ? malformed(r, "a bad normalizer_spec") : OK;
}

static enum status read_message(struct reader *r)
{
    struct proto p = r->message;
    struct proto_field f;
    int32_t id = 0;
    int got;
    while ((got = proto_next(&p, &f)) > 0) {
        if (f.wire != PROTO_BYTES) continue;
        switch (f.number) {
        case MODEL_PIECES: TRY(read_piece(r, f.body, id++)); break;
        case MODEL_TRAINER: TRY(read_trainer(r, f.body)); break;
        case MODEL_NORMALIZER: TRY(read_normalizer(r, f.body, 0)); break;
        case MODEL_DENORMALIZER: TRY(read_normalizer(r, f.body, 1)); break;
        default: break;
        }
    }
    return got < 0 ? malformed(r, "cut short or damaged") : OK;
}

/* How many pieces, so that arrays can be had before reading them. */
static enum status count_pieces(struct reader *r, int32_t *out)
{
    struct proto p = r->message;
    struct proto_field f;
    int64_t count = 0;
    int got;
    while ((got = proto_next(&p, &f)) > 0)
        count += f.number == MODEL_PIECES && f.wire == PROTO_BYTES;
    if (got < 0) return malformed(r, "cut short or damaged");
    if (!count || count > VOCAB_SIZE_MAX) return malformed(r, "no pieces, or too many");
    *out = (int32_t)count;
    return OK;
}

static int by_score(const void *a, const void *b) /* best first */
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Place of a score among the different ones, best first. */
static int32_t rank_of(const float *sorted, int32_t n, float score)
{
    int32_t low = 0, high = n - 1;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (sorted[middle] <= score)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Mergeable pieces, and the characters in them, under the ids described at the top. */
static enum status add_symbols(struct reader *r)
{
    struct tokenizer *t = r->t;
    int32_t next = t->model_size;
    for (int32_t id = 0; id < t->model_size; id++) {
        size_t n;
        const char *text = vocab_text(&t->vocab, id, &n);
        if (t->kinds[id] == TOKEN_NORMAL)
            TRY(tokenizer_put(&t->symbols, id, text, n, r->path, r->e));
    }
    for (int32_t id = 0; id < t->model_size; id++) {
        size_t n, len;
        const char *text = vocab_text(&t->vocab, id, &n);
        if (t->kinds[id] != TOKEN_NORMAL) continue;
        for (size_t i = 0; i < n; i += len) {
            len = utf8_length((unsigned char)text[i]);
            if (vocab_find(&t->symbols, text + i, len) < 0)
                TRY(tokenizer_put(&t->symbols, next++, text + i, len, r->path, r->e));
        }
    }
    return OK;
}

static enum status add_merges(struct reader *r)
{
    struct tokenizer *t = r->t;
    float *sorted = mem_resize(NULL, (size_t)t->model_size, sizeof *sorted);
    if (!sorted) return no_memory(r);
    memcpy(sorted, r->scores, (size_t)t->model_size * sizeof *sorted);
    qsort(sorted, (size_t)t->model_size, sizeof *sorted, by_score);
    enum status s = OK;
    for (int32_t id = 0; id < t->model_size && !s; id++) {
        size_t n;
        const char *text = vocab_text(&t->symbols, id, &n);
        if (!text) continue;
        int32_t rank = rank_of(sorted, t->model_size, r->scores[id]);
        for (size_t cut = utf8_length((unsigned char)*text); cut < n && !s;
             cut += utf8_length((unsigned char)text[cut])) {
            int32_t left = vocab_find(&t->symbols, text, cut);
            int32_t right = left < 0 ? -1 : vocab_find(&t->symbols, text + cut, n - cut);
            if (right >= 0) s = merge_table_put(&t->merges, left, right, rank, id);
        }
    }
    mem_free(sorted);
    return s ? no_memory(r) : OK;
}

/* The id of a control piece, by its name. */
static int32_t control(const struct tokenizer *t, const struct buf *name, const char *usual)
{
    int32_t id = name->data ? vocab_find(&t->vocab, name->data, name->len)
                            : vocab_find(&t->vocab, usual, strlen(usual));
    return id >= 0 && t->kinds[id] == TOKEN_CONTROL ? id : -1;
}

static enum status check_spec(struct reader *r)
{
    if (r->type != TYPE_BPE)
        return unsupported(r, r->type == 1 ? "of type unigram is not supported"
                                           : "of a type other than BPE is not supported");
    if (r->suffix) return unsupported(r, "with white space as a suffix is not supported");
    if (r->has_charsmap) return unsupported(r, "that normalizes characters is not supported");
    if (!r->escape) return unsupported(r, "that leaves spaces as they are is not supported");
    if (r->t->unknown < 0) return malformed(r, "no unknown piece");
    return OK;
}

/* For one token at a time; whole texts go through tok_sentencepiece_decode. */
static void set_stream_decoder(struct tokenizer *t)
{
    const struct normalizer_step *z = &t->normalizer.steps[0];
    const struct decoder_step steps[] = {
        {.kind = DECODE_FUSE},
        {.kind = DECODE_STRIP, .from = META_SPACE, .start = z->add_prefix || z->remove_extra},
        {.kind = DECODE_BYTE_FALLBACK},
        {.kind = DECODE_REPLACE, .from = META_SPACE, .to = " "}};
    t->decoder.count = sizeof steps / sizeof *steps;
    memcpy(t->decoder.steps, steps, sizeof steps);
}

static enum status build(struct reader *r)
{
    struct tokenizer *t = r->t;
    t->alphabet = ALPHABET_SENTENCEPIECE;
    t->fuse_unknown = 1;
    TRY(check_spec(r));
    TRY(add_symbols(r));
    TRY(add_merges(r));
    for (int32_t id = 0; id < t->model_size; id++) {
        unsigned flags = t->kinds[id] == TOKEN_CONTROL ? ADDED_SPECIAL
                         : t->kinds[id] == TOKEN_USER  ? ADDED_NORMALIZED
                                                       : 0;
        if (flags && tokenizer_add(t, id, flags)) return no_memory(r);
    }
    t->normalizer.steps[t->normalizer.count++] =
        (struct normalizer_step){.kind = NORMALIZE_SENTENCEPIECE,
                                 .add_prefix = r->dummy_prefix != 0,
                                 .remove_extra = r->remove_extra != 0};
    set_stream_decoder(t);
    t->unk_surface = r->has_unk_surface ? mem_strndup(r->unk_surface.data, r->unk_surface.len)
                                        : mem_strdup(DEFAULT_UNK_SURFACE);
    if (!t->unk_surface) return no_memory(r);
    t->bos = control(t, &r->bos, "<s>");
    t->eos = control(t, &r->eos, "</s>");
    t->adds_bos = t->bos >= 0; /* LlamaTokenizer's default */
    return OK;
}

enum status tok_sentencepiece_read(struct tokenizer *t, const char *path, const char *text,
                                   size_t n, struct err *e)
{
    const unsigned char *start = (const unsigned char *)text;
    struct reader r = {.t = t,
                       .path = path,
                       .e = e,
                       .message = {start, start + n},
                       .type = 1,
                       .escape = 1,
                       .dummy_prefix = 1,
                       .remove_extra = 1};
    buf_init(&r.bos, TOKEN_BYTES_MAX);
    buf_init(&r.eos, TOKEN_BYTES_MAX);
    buf_init(&r.unk_surface, TOKEN_BYTES_MAX);
    enum status s = count_pieces(&r, &t->model_size);
    if (!s) {
        r.scores = mem_calloc((size_t)t->model_size, sizeof *r.scores);
        t->kinds = mem_calloc((size_t)t->model_size, 1);
        if (!r.scores || !t->kinds) s = no_memory(&r);
    }
    if (!s) s = read_message(&r);
    if (!s) s = build(&r);
    mem_free(r.scores);
    buf_free(&r.bos);
    buf_free(&r.eos);
    buf_free(&r.unk_surface);
    return s;
}

/* A run of byte pieces: characters as far as they are well formed, else U+FFFD for one byte. */
static enum status flush_bytes(struct buf *run, struct buf *out)
{
    const unsigned char *p = (const unsigned char *)run->data;
    for (size_t i = 0; i < run->len;) {
        uint32_t cp;
        int len = utf8_decode(p + i, run->len - i, &cp);
        TRY(len > 0 ? buf_append(out, p + i, (size_t)len) : buf_puts(out, UTF8_REPLACEMENT));
        i += len > 0 ? (size_t)len : 1;
    }
    run->len = 0;
    return OK;
}

static enum status append_spaced(struct buf *out, const char *text, size_t n)
{
    for (const char *end = text + n; text < end;) {
        const char *mark = memmem(text, (size_t)(end - text), META_SPACE, 3);
        TRY(buf_append(out, text, (size_t)((mark ? mark : end) - text)));
        if (!mark) break;
        TRY(buf_putc(out, ' '));
        text = mark + 3;
    }
    return OK;
}

enum status tok_sentencepiece_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                                     struct buf *out)
{
    const struct normalizer_step *z = &t->normalizer.steps[0];
    struct buf run;
    size_t begin = out->len;
    int at_start = z->add_prefix || z->remove_extra, taken = 0;
    buf_init(&run, n + 1);
    enum status s = OK;
    for (size_t i = 0; i < n && !s; i++) {
        size_t len = 0;
        const char *text = vocab_text(&t->vocab, ids[i], &len);
        if (t->kinds[ids[i]] == TOKEN_BYTE) {
            s = buf_putc(&run, (char)strtol((char[]){text[3], text[4], 0}, NULL, 16));
            continue;
        }
        s = flush_bytes(&run, out);
        if (taken || out->len > begin) at_start = 0;
        taken = 0;
        if (s || t->kinds[ids[i]] == TOKEN_CONTROL) continue;
        if (t->kinds[ids[i]] == TOKEN_UNKNOWN) {
            s = buf_puts(out, t->unk_surface);
            continue;
        }
        if (at_start && len >= 3 && !memcmp(text, META_SPACE, 3)) {
            text += 3;
            len -= 3;
            taken = !z->remove_extra; /* then every leading one goes */
        }
        s = append_spaced(out, text, len);
    }
    if (!s) s = flush_bytes(&run, out);
    buf_free(&run);
    return s;
}
