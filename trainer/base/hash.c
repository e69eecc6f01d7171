#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"

struct hasher {
    XXH3_state_t *state;
};

struct hasher *hasher_create(void)
{
    struct hasher *h = mem_calloc(1, sizeof *h);
    if (!h) return NULL;
    h->state = XXH3_createState();
    if (!h->state) {
        mem_free(h);
        return NULL;
    }
    XXH3_128bits_reset(h->state);
    return h;
}

void hasher_destroy(struct hasher *h)
{
    if (!h) return;
    XXH3_freeState(h->state);
    mem_free(h);
}

void hasher_bytes(struct hasher *h, const void *p, size_t n)
{
    if (n) XXH3_128bits_update(h->state, p, n);
}

void hasher_u64(struct hasher *h, uint64_t v)
{
    unsigned char b[8];
    for (int i = 0; i < 8; i++) b[i] = (unsigned char)(v >> (8 * i));
    hasher_bytes(h, b, sizeof b);
}

void hasher_string(struct hasher *h, const char *s)
{
    size_t n = strlen(s);
    hasher_u64(h, n);
    hasher_bytes(h, s, n);
}

static void to_hex(XXH128_hash_t v, char out[HASH_HEX_SIZE])
{
    snprintf(out, HASH_HEX_SIZE, "%016llx%016llx", (unsigned long long)v.high64,
             (unsigned long long)v.low64);
}

void hasher_hex(const struct hasher *h, char out[HASH_HEX_SIZE])
{
    to_hex(XXH3_128bits_digest(h->state), out);
}

void hasher_digest(const struct hasher *h, uint64_t out[2])
{
    XXH128_hash_t v = XXH3_128bits_digest(h->state);
    out[0] = v.low64;
    out[1] = v.high64;
}

void hasher_reset(struct hasher *h) { XXH3_128bits_reset(h->state); }

void hash_hex(const void *p, size_t n, char out[HASH_HEX_SIZE]) { to_hex(XXH3_128bits(p, n), out); }

uint64_t hash_name(const char *name) { return XXH3_64bits(name, strlen(name)); }

enum status hash_file(const char *path, char out[HASH_HEX_SIZE], struct err *e)
{
    enum status s = OK;
    char *block = NULL;
    struct hasher *h = hasher_create();
    FILE *f = fopen(path, "rb");
    if (!f) {
        s = err_errno(e, "%s", path);
        goto out;
    }
    size_t n, size = 1 << 20;
    block = mem_alloc(size);
    if (!block || !h) {
        s = err_set(e, ERR_MEMORY, "no memory to hash %s", path);
        goto out;
    }
    while ((n = fread(block, 1, size, f)) > 0) hasher_bytes(h, block, n);
    if (ferror(f)) s = err_errno(e, "%s", path);
    hasher_hex(h, out);
out:
    if (f) fclose(f);
    mem_free(block);
    hasher_destroy(h);
    return s;
}
