/* Speed of a tokenizer, cold: a fresh cache a thread, each text once.
 *
 *     bench_tokenizer TOKENIZER THREADS FILE.jsonl... [--hash]
 *
 * A line of FILE is a JSON string. Reading and parsing are not timed. Prints, a file a line: its
 * name, megabytes, ids, seconds; with --hash also the XXH3 of all ids with -1 behind each text, as
 * tools/golden/tokenizer_hashes.py has it. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/tokenizer/tokenizer.h"

#define BLOCK 64 /* texts that a thread takes at a time */

struct texts {
    struct buf bytes;
    size_t *ends, count, cap;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_tokenizer: %s\n", what);
    exit(1);
}

static void add_line(struct texts *t, const char *line, size_t n)
{
    struct err e = {0};
    json_t *text;
    if (json_parse_text(line, n, "line", &text, &e)) die(e.message);
    if (t->count == t->cap) {
        t->cap = t->cap * 2 + 1024;
        t->ends = mem_resize(t->ends, t->cap, sizeof *t->ends);
        if (!t->ends) die("no memory");
    }
    if (buf_append(&t->bytes, json_string_value(text), json_string_length(text))) die("too large");
    t->ends[t->count++] = t->bytes.len;
    json_decref(text);
}

static void read_texts(struct texts *t, const char *path)
{
    struct err e = {0};
    struct buf file;
    buf_init(&file, (size_t)1 << 32);
    buf_init(&t->bytes, (size_t)1 << 32);
    if (io_read_file(path, &file, &e)) die(e.message);
    for (size_t at = 0; at < file.len;) {
        const char *line = file.data + at, *newline = memchr(line, '\n', file.len - at);
        size_t n = newline ? (size_t)(newline - line) : file.len - at;
        add_line(t, line, n);
        at += n + 1;
    }
    buf_free(&file);
}

/* Ids of texts first ... last-1 of the file, ends of each, one list a block. */
static void encode_block(const struct tokenizer *tok, struct tokenizer_scratch *scratch,
                         const struct texts *t, size_t first, struct id_list *out)
{
    static const int32_t end = -1;
    struct err e = {0};
    for (size_t i = first; i < first + BLOCK && i < t->count; i++) {
        size_t from = i ? t->ends[i - 1] : 0;
        if (tokenizer_encode(tok, scratch, t->bytes.data + from, t->ends[i] - from, TOK_TEXT_START,
                             out, &e) ||
            id_list_append(out, &end, 1))
            die(e.message);
    }
}

static void measure(const struct tokenizer *tok, int threads, const char *path, int hash)
{
    struct texts t = {0};
    struct timespec from, to;
    char hex[HASH_HEX_SIZE] = "";
    size_t ids = 0;
    read_texts(&t, path);
    size_t blocks = (t.count + BLOCK - 1) / BLOCK;
    struct id_list *out = mem_calloc(blocks + 1, sizeof *out);
    struct hasher *h = hasher_create();
    if (!out || !h) die("no memory");
    clock_gettime(CLOCK_MONOTONIC, &from);
#pragma omp parallel num_threads(threads)
    {
        struct tokenizer_scratch *scratch = tokenizer_scratch_create();
        if (!scratch) die("no memory");
#pragma omp for schedule(dynamic)
        for (size_t b = 0; b < blocks; b++) encode_block(tok, scratch, &t, b * BLOCK, &out[b]);
        tokenizer_scratch_destroy(scratch);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
    for (size_t b = 0; b < blocks; b++) {
        if (hash) hasher_bytes(h, out[b].ids, out[b].len * sizeof *out[b].ids);
        ids += out[b].len;
        id_list_free(&out[b]);
    }
    if (hash) hasher_hex(h, hex);
    printf("%s %.6f %zu %.6f %s\n", path, (double)t.bytes.len / 1e6, ids - t.count, seconds, hex);
    hasher_destroy(h);
    mem_free(out);
    mem_free(t.ends);
    buf_free(&t.bytes);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct tokenizer *tok;
    int hash = argc > 1 && !strcmp(argv[argc - 1], "--hash");
    if (argc - hash < 4) die("usage: bench_tokenizer TOKENIZER THREADS FILE.jsonl... [--hash]");
    char *end;
    long threads = strtol(argv[2], &end, 10);
    if (*end || threads < 1 || threads > 1024) die("THREADS is a number from 1 to 1024");
    if (tokenizer_open(&tok, argv[1], &e)) die(e.message);
    for (int i = 3; i < argc - hash; i++) measure(tok, (int)threads, argv[i], hash);
    tokenizer_close(tok);
    return 0;
}
