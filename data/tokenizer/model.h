/* model.h - what a tokenizer is once read, whatever file it came from. Private to this room.
 *
 * A reader (tok_json.c, tok_sentencepiece.c, tok_tiktoken.c) fills the parts above the line;
 * tokenizer_finish derives the rest. Everything is const from then on.
 */
#ifndef CRIA_DATA_TOKENIZER_MODEL_H
#define CRIA_DATA_TOKENIZER_MODEL_H

#include "data/tokenizer/added.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/cuts.h"
#include "data/tokenizer/decode.h"
#include "data/tokenizer/normalize.h"
#include "data/tokenizer/split.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/vocab.h"

#define TOKEN_BYTES_MAX 1024      /* of a piece whose every split is looked up */
#define VOCAB_SIZE_MAX (1 << 24)  /* ids */
#define PRE_STEPS 8               /* of a pre-tokenizer */
#define META_SPACE "\xE2\x96\x81" /* U+2581 */

/* How text becomes the first symbols. */
enum alphabet {
    ALPHABET_CHARS,        /* characters of the vocabulary, else bytes, else the unknown token */
    ALPHABET_BYTES,        /* bytes, each a token */
    ALPHABET_SENTENCEPIECE /* as CHARS; which symbols are unknown is seen after the merges */
};

enum pre_kind { PRE_METASPACE, PRE_SPLIT, PRE_PREFIX_SPACE };
enum prefix_scheme { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS };

struct pre_step {
    enum pre_kind kind;
    enum prefix_scheme prefix; /* where a space is put in front (not SPLIT) */
    int split;                 /* METASPACE: pieces start at the spaces */
    char replacement[8];       /* METASPACE: what a space becomes */
    char *pattern;             /* SPLIT; owned */
    struct splitter *splitter;
};

enum token_kind { TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_BYTE };

struct added_token {
    int32_t id;
    unsigned flags;
};

struct tokenizer {
    struct vocab vocab;   /* spellings as the file has them; added tokens too */
    int32_t model_size;   /* ids of the BPE model are below this */
    struct vocab symbols; /* what merges work on, by the bytes of the text: byte-level tokens
                             decoded, a .model's mergeable pieces; empty: vocab serves */
    struct merge_table merges;
    enum alphabet alphabet;
    int ignore_merges, fuse_unknown, byte_fallback;
    int32_t unknown; /* id, -1: none */
    struct normalizer normalizer;
    struct pre_step pre[PRE_STEPS];
    int pre_count;
    struct decoder decoder;
    uint8_t *kinds;    /* of a .model: enum token_kind by id */
    char *unk_surface; /* of a .model: what <unk> is decoded to */
    struct added_token *added;
    size_t added_count, added_cap;
    int32_t bos, eos;
    int adds_bos, adds_eos;
    char *chat_template;
    /* ---- derived ---- */
    struct added_matcher raw_matcher, normalized_matcher;
    int32_t byte_ids[256]; /* token of a byte, -1: none */
    int32_t *char_ids;     /* symbol of each character below 0x10000, -1: none */
    uint8_t *special;      /* by id */
    char **added_spelling; /* by id, NULL: as in vocab; the normalized form of an added token */
    struct cuts *cuts;     /* where a pre-token may be cut */
    uint64_t serial;       /* no two tokenizers of a process share it */
    char hash[HASH_HEX_SIZE];
};

static inline const struct vocab *tokenizer_symbols(const struct tokenizer *t)
{
    return t->symbols.size ? &t->symbols : &t->vocab;
}

/* Readers. `path` is for messages; the content is text[0..n). ERR_FORMAT, ERR_MEMORY,
 * ERR_UNSUPPORTED. */
MUST_CHECK enum status tok_json_read(struct tokenizer *t, const char *path, const char *text,
                                     size_t n, struct err *e);
MUST_CHECK enum status tok_sentencepiece_read(struct tokenizer *t, const char *path,
                                              const char *text, size_t n, struct err *e);
MUST_CHECK enum status tok_tiktoken_read(struct tokenizer *t, const char *path, const char *text,
                                         size_t n, struct err *e);

/* What the other files of the directory say: BOS, EOS, chat template. Absent files are fine.
 * ERR_IO, ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status tok_config_read(struct tokenizer *t, const char *dir, struct err *e);

/* Appends an added token whose spelling is in vocab. ERR_MEMORY. */
MUST_CHECK enum status tokenizer_add(struct tokenizer *t, int32_t id, unsigned flags);

/* vocab_put, with messages for what can be wrong with a file. */
MUST_CHECK enum status tokenizer_put(struct vocab *v, int32_t id, const char *text, size_t n,
                                     const char *path, struct err *e);

/* Derives the lower half. ERR_MEMORY, ERR_FORMAT. */
MUST_CHECK enum status tokenizer_finish(struct tokenizer *t, const char *path, struct err *e);

/* The decoding of a .model (its rules are stated over token types, not spellings). */
MUST_CHECK enum status tok_sentencepiece_decode(const struct tokenizer *t, const int32_t *ids,
                                                size_t n, struct buf *out);

#endif
