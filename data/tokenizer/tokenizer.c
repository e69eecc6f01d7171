#include "data/tokenizer/tokenizer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/utf8.h"

#define TEXT_TOKENIZER_MAX ((size_t)256 << 20) /* bytes of a tokenizer file */

void id_list_free(struct id_list *l)
{
    mem_free(l->ids);
    *l = (struct id_list){0};
}

enum status id_list_reserve(struct id_list *l, size_t more)
{
    if (more <= l->cap - l->len) return OK;
    size_t cap = l->cap + l->cap / 2 + more + 64;
    int32_t *p = mem_resize(l->ids, cap, sizeof *p);
    if (!p) return ERR_MEMORY;
    l->ids = p;
    l->cap = cap;
    return OK;
}

enum status id_list_append(struct id_list *l, const int32_t *ids, size_t n)
{
    TRY(id_list_reserve(l, n));
    if (n) memcpy(l->ids + l->len, ids, n * sizeof *ids);
    l->len += n;
    return OK;
}

enum status tokenizer_add(struct tokenizer *t, int32_t id, unsigned flags)
{
    if (t->added_count == t->added_cap) {
        size_t cap = t->added_cap * 2 + 64;
        struct added_token *added = mem_resize(t->added, cap, sizeof *added);
        if (!added) return ERR_MEMORY;
        t->added = added;
        t->added_cap = cap;
    }
    t->added[t->added_count++] = (struct added_token){id, flags};
    return OK;
}

enum status tokenizer_put(struct vocab *v, int32_t id, const char *text, size_t n, const char *path,
                          struct err *e)
{
    if (!n) return err_at(e, ERR_FORMAT, path, 0, 0, "token %d is empty", id);
    if (id < 0 || id >= VOCAB_SIZE_MAX)
        return err_at(e, ERR_FORMAT, path, 0, 0, "token id %d is out of range", id);
    switch (vocab_put(v, id, text, n)) {
    case VOCAB_ID_TAKEN: return err_at(e, ERR_FORMAT, path, 0, 0, "two tokens have id %d", id);
    case VOCAB_SPELLING_TAKEN:
        return err_at(e, ERR_FORMAT, path, 0, 0, "token %d, \"%.*s\", is there twice", id,
                      (int)(n < 80 ? n : 80), text);
    case VOCAB_NO_MEMORY: return err_at(e, ERR_MEMORY, path, 0, 0, "no memory for the vocabulary");
    case VOCAB_PUT: break;
    }
    return OK;
}

static void derive_byte_ids(struct tokenizer *t)
{
    const struct vocab *v = tokenizer_symbols(t);
    for (int b = 0; b < 256; b++) {
        char name[8], byte = (char)b;
        snprintf(name, sizeof name, "<0x%02X>", b);
        int32_t id = t->alphabet == ALPHABET_BYTES ? vocab_find(v, &byte, 1)
                     : t->byte_fallback            ? vocab_find(&t->vocab, name, 6)
                                                   : -1;
        t->byte_ids[b] = id < t->model_size ? id : -1;
    }
}

static enum status derive_char_ids(struct tokenizer *t)
{
    const struct vocab *v = tokenizer_symbols(t);
    if (t->alphabet == ALPHABET_BYTES) return OK;
    t->char_ids = mem_resize(NULL, 0x10000, sizeof *t->char_ids);
    if (!t->char_ids) return ERR_MEMORY;
    memset(t->char_ids, 0xFF, 0x10000 * sizeof *t->char_ids);
    for (int32_t id = 0; id < v->size; id++) {
        size_t n;
        uint32_t cp;
        const char *text = vocab_text(v, id, &n);
        if (!text || n > 3 || (v == &t->vocab && id >= t->model_size)) continue;
        if (utf8_decode((const unsigned char *)text, n, &cp) == (int)n) t->char_ids[cp] = id;
    }
    return OK;
}

static enum status derive_added(struct tokenizer *t)
{
    t->special = mem_calloc((size_t)t->vocab.size, 1);
    t->added_spelling = mem_calloc((size_t)t->vocab.size, sizeof *t->added_spelling);
    if (!t->special || !t->added_spelling) return ERR_MEMORY;
    struct normalizer_work work;
    normalizer_work_init(&work);
    enum status s = OK;
    for (size_t i = 0; i < t->added_count && !s; i++) {
        const struct added_token *a = &t->added[i];
        size_t n, normal_n;
        const char *text = vocab_text(&t->vocab, a->id, &n), *normal;
        t->special[a->id] = (a->flags & ADDED_SPECIAL) != 0;
        if (t->kinds && t->kinds[a->id] == TOKEN_CONTROL) continue; /* plain text in a text */
        if (!(a->flags & ADDED_NORMALIZED)) {
            s = added_matcher_put(&t->raw_matcher, text, n, a->id, a->flags);
            continue;
        }
        if (t->alphabet == ALPHABET_SENTENCEPIECE) { /* pieces are spelled normalized */
            s = added_matcher_put(&t->normalized_matcher, text, n, a->id, a->flags);
            continue;
        }
        s = normalizer_apply(&t->normalizer, &work, text, n, 1, 1, &normal, &normal_n);
        if (!s && normal_n)
            s = added_matcher_put(&t->normalized_matcher, normal, normal_n, a->id, a->flags);
        if (!s && (normal_n != n || memcmp(normal, text, n)) && !t->added_spelling[a->id]) {
            t->added_spelling[a->id] = mem_strndup(normal, normal_n);
            if (!t->added_spelling[a->id]) s = ERR_MEMORY;
        }
    }
    normalizer_work_free(&work);
    return s;
}

/* Whether a character without a symbol of its own always becomes byte tokens that no merge has. */
static int bytes_stand_alone(const struct tokenizer *t)
{
    for (int b = 0; b < 256; b++)
        if (!t->byte_fallback || t->byte_ids[b] < 0) return 0;
    for (size_t i = 0; i < t->merges.slot_count; i++) {
        const struct merge *m = &t->merges.slots[i];
        if (m->pair == MERGE_FREE) continue;
        for (int b = 0; b < 256; b++)
            if ((int32_t)(m->pair >> 32) == t->byte_ids[b] ||
                (int32_t)(uint32_t)m->pair == t->byte_ids[b])
                return 0;
    }
    return 1;
}

/* A character that is unknown or waits for its neighbours is not cut from them. */
static void set_states(struct tokenizer *t)
{
    uint8_t unknown = bytes_stand_alone(t) ? CUTS_FREE : CUTS_STUCK;
    for (uint32_t cp = 0; cp < 0xFFFF; cp++) {
        int32_t id = t->char_ids[cp];
        t->cuts->states[cp] = id < 0                                    ? unknown
                              : id >= t->model_size || id == t->unknown ? CUTS_STUCK
                                                                        : 0;
    }
    t->cuts->states[0xFFFF] = CUTS_STUCK; /* stands for all above it */
}

/* What the merges join. A merge whose parts have no spelling can join anything: then nothing is
 * cut. */
static enum status derive_cuts(struct tokenizer *t)
{
    const struct vocab *v = tokenizer_symbols(t);
    int32_t space = t->alphabet == ALPHABET_BYTES ? -1 : t->char_ids[0x2581];
    struct cuts *c = t->cuts = mem_calloc(1, sizeof *t->cuts);
    if (!c) return ERR_MEMORY;
    if (t->alphabet != ALPHABET_BYTES) set_states(t);
    c->words = space >= 0 && space < t->model_size;
    for (size_t i = 0; i < t->merges.slot_count; i++) {
        const struct merge *m = &t->merges.slots[i];
        if (m->pair == MERGE_FREE) continue;
        size_t left_n, right_n;
        const char *left = vocab_text(v, (int32_t)(m->pair >> 32), &left_n);
        const char *right = vocab_text(v, (int32_t)(uint32_t)m->pair, &right_n);
        if (!left || !right) {
            memset(c->states, CUTS_STUCK, sizeof c->states);
            c->words = 0;
            break;
        }
        cuts_join(c, left, left_n, right, right_n);
        int left_ends = left_n >= 3 && !memcmp(left + left_n - 3, META_SPACE, 3);
        int right_starts = right_n >= 3 && !memcmp(right, META_SPACE, 3);
        if (right_starts && !left_ends) c->words = 0;
    }
    cuts_finish(c);
    return OK;
}

static void hash_vocab(struct hasher *h, const struct vocab *v)
{
    hasher_u64(h, (uint64_t)v->size);
    for (int32_t id = 0; id < v->size; id++) {
        size_t n = 0;
        const char *text = vocab_text(v, id, &n);
        hasher_u64(h, n);
        if (text) hasher_bytes(h, text, n);
    }
}

static void hash_steps(struct hasher *h, const struct tokenizer *t)
{
    hasher_u64(h, (uint64_t)t->normalizer.count);
    for (int i = 0; i < t->normalizer.count; i++) {
        const struct normalizer_step *z = &t->normalizer.steps[i];
        hasher_u64(h, (uint64_t)z->kind);
        hasher_string(h, z->from);
        hasher_string(h, z->to);
        hasher_u64(h, (uint64_t)(z->add_prefix | z->remove_extra << 1));
    }
    hasher_u64(h, (uint64_t)t->pre_count);
    for (int i = 0; i < t->pre_count; i++) {
        const struct pre_step *p = &t->pre[i];
        hasher_u64(h, (uint64_t)p->kind);
        hasher_u64(h, (uint64_t)p->prefix << 1 | (uint64_t)(p->split != 0));
        hasher_string(h, p->replacement);
        hasher_string(h, p->pattern ? p->pattern : "");
    }
}

static uint64_t mixed(uint64_t h)
{
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
    h = (h ^ h >> 27) * 0x94D049BB133111EBu;
    return h ^ h >> 31;
}

/* The same whatever slots the merges lie in: their hashes are added up. */
static void hash_merges(struct hasher *h, const struct merge_table *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->slot_count; i++) {
        const struct merge *slot = &m->slots[i];
        uint64_t result = (uint64_t)slot->rank << 32 | (uint32_t)slot->id;
        if (slot->pair != MERGE_FREE) sum += mixed(mixed(slot->pair) ^ result);
    }
    hasher_u64(h, m->used);
    hasher_u64(h, sum);
}

static enum status derive_hash(struct tokenizer *t)
{
    struct hasher *h = hasher_create();
    if (!h) return ERR_MEMORY;
    const int64_t numbers[] = {t->alphabet, t->ignore_merges, t->fuse_unknown, t->byte_fallback,
                               t->unknown,  t->model_size,    t->bos,          t->eos,
                               t->adds_bos, t->adds_eos};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        hasher_u64(h, (uint64_t)numbers[i]);
    hash_vocab(h, &t->vocab);
    hash_vocab(h, &t->symbols);
    hash_merges(h, &t->merges);
    hash_steps(h, t);
    for (size_t i = 0; i < t->added_count; i++)
        hasher_u64(h, (uint64_t)t->added[i].id << 8 | t->added[i].flags);
    hasher_hex(h, t->hash);
    hasher_destroy(h);
    return OK;
}

enum status tokenizer_finish(struct tokenizer *t, const char *path, struct err *e)
{
    static atomic_ullong serials;
    if (!t->vocab.size) return err_at(e, ERR_FORMAT, path, 0, 0, "the vocabulary is empty");
    t->serial = atomic_fetch_add(&serials, 1) + 1;
    derive_byte_ids(t);
    enum status s = derive_char_ids(t);
    if (!s) s = derive_added(t);
    if (!s) s = derive_cuts(t);
    if (!s) s = derive_hash(t);
    return s ? err_at(e, s, path, 0, 0, "no memory for the tokenizer") : OK;
}

/* Which reader a file is for: by its first byte, since both Llama 2 and 3 say tokenizer.model. */
static enum status read_content(struct tokenizer *t, const char *path, struct err *e)
{
    struct buf content;
    buf_init(&content, TEXT_TOKENIZER_MAX);
    enum status s = io_read_file(path, &content, e);
    if (!s && !content.len) s = err_at(e, ERR_FORMAT, path, 0, 0, "the file is empty");
    if (!s) {
        const char *text = content.data ? content.data : "";
        const char *first = text + strspn(text, " \t\r\n");
        if (*first == '{')
            s = tok_json_read(t, path, text, content.len, e);
        else if (*text == '\n') /* field 1, a message */
            s = tok_sentencepiece_read(t, path, text, content.len, e);
        else
            s = tok_tiktoken_read(t, path, text, content.len, e);
    }
    buf_free(&content);
    if (s == ERR_FORMAT) err_hint(e, "fetch the file again from the model's repository");
    return s;
}

static enum status open_directory(struct tokenizer *t, const char *dir, char *path, struct err *e)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        TRY(io_join(path, IO_PATH_MAX, dir, names[i], e));
        if (!io_exists(path)) continue;
        TRY(read_content(t, path, e));
        return tok_config_read(t, dir, e);
    }
    err_set(e, ERR_IO, "%s holds neither tokenizer.json nor tokenizer.model", dir);
    return err_hint(e, "copy the tokenizer's files from the model's repository there");
}

enum status tokenizer_open(struct tokenizer **out, const char *path, struct err *e)
{
    char file[IO_PATH_MAX];
    *out = NULL;
    struct tokenizer *t = mem_calloc(1, sizeof *t);
    if (!t) return err_set(e, ERR_MEMORY, "no memory for a tokenizer");
    t->bos = t->eos = t->unknown = -1;
    snprintf(file, sizeof file, "%s", path);
    enum status s = io_is_dir(path) ? open_directory(t, path, file, e) : read_content(t, path, e);
    if (!s) s = tokenizer_finish(t, file, e);
    if (s)
        tokenizer_close(t);
    else
        *out = t;
    return s;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t) return;
    if (t->added_spelling)
        for (int32_t i = 0; i < t->vocab.size; i++) mem_free(t->added_spelling[i]);
    for (int i = 0; i < t->pre_count; i++) {
        mem_free(t->pre[i].pattern);
        splitter_destroy(t->pre[i].splitter);
    }
    vocab_free(&t->vocab);
    vocab_free(&t->symbols);
    merge_table_free(&t->merges);
    added_matcher_free(&t->raw_matcher);
    added_matcher_free(&t->normalized_matcher);
    mem_free(t->kinds);
    mem_free(t->unk_surface);
    mem_free(t->added);
    mem_free(t->chat_template);
    mem_free(t->char_ids);
    mem_free(t->cuts);
    mem_free(t->special);
    mem_free(t->added_spelling);
    mem_free(t);
}

/* The spelling a decoder starts from. */
static const char *decoder_spelling(const struct tokenizer *t, int32_t id, size_t *n)
{
    const char *text = vocab_text(&t->vocab, id, n);
    if (text && t->added_spelling[id]) {
        text = t->added_spelling[id];
        *n = strlen(text);
    }
    return text;
}

enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                             int skip_special, struct buf *out, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        size_t len;
        if (vocab_text(&t->vocab, ids[i], &len)) continue;
        err_set(e, ERR_DATA, "id %d (number %zu of %zu) stands for no token; ids are below %d",
                ids[i], i + 1, n, t->vocab.size);
        return err_hint(e, "these ids are another tokenizer's");
    }
    if (t->kinds) {
        enum status s = tok_sentencepiece_decode(t, ids, n, out);
        return s ? err_set(e, s, "no memory to decode %zu ids", n) : OK;
    }
    struct piece_list pieces;
    piece_list_init(&pieces);
    enum status s = buf_reserve(&pieces.text, 0);
    for (size_t i = 0; i < n && !s; i++) {
        size_t len = 0;
        const char *text = decoder_spelling(t, ids[i], &len);
        /* As the reference compares spellings, a special token whose normalized spelling differs
         * is not skipped. */
        if (skip_special && t->special[ids[i]] && !t->added_spelling[ids[i]]) continue;
        s = piece_list_add(&pieces, text, len);
    }
    if (!s) s = decoder_apply(&t->decoder, &pieces, (struct decode_mode){0, 0});
    if (!s) s = buf_append(out, pieces.text.data, pieces.text.len);
    piece_list_free(&pieces);
    return s ? err_set(e, s, "no memory to decode %zu ids", n) : OK;
}

enum status tokenizer_token_bytes(const struct tokenizer *t, int32_t id, int first, struct buf *out)
{
    size_t n = 0;
    const char *text = vocab_text(&t->vocab, id, &n);
    if (!text || t->special[id]) return OK;
    if (t->kinds && t->kinds[id] == TOKEN_UNKNOWN) return buf_puts(out, t->unk_surface);
    text = decoder_spelling(t, id, &n);
    struct piece_list pieces;
    piece_list_init(&pieces);
    enum status s = piece_list_add(&pieces, text, n);
    if (!s) s = decoder_apply(&t->decoder, &pieces, (struct decode_mode){1, first});
    if (!s && pieces.text.len) s = buf_append(out, pieces.text.data, pieces.text.len);
    piece_list_free(&pieces);
    return s;
}

int32_t tokenizer_vocab_size(const struct tokenizer *t) { return t->vocab.size; }
int32_t tokenizer_bos(const struct tokenizer *t) { return t->bos; }
int32_t tokenizer_eos(const struct tokenizer *t) { return t->eos; }
int tokenizer_adds_bos(const struct tokenizer *t) { return t->adds_bos && t->bos >= 0; }
int tokenizer_adds_eos(const struct tokenizer *t) { return t->adds_eos && t->eos >= 0; }

int32_t tokenizer_find(const struct tokenizer *t, const char *token)
{
    return vocab_find(&t->vocab, token, strlen(token));
}

int tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->vocab.size && t->special[id];
}

const char *tokenizer_hash(const struct tokenizer *t) { return t->hash; }
const char *tokenizer_chat_template(const struct tokenizer *t) { return t->chat_template; }
