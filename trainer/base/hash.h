/* hash.h - 128-bit content hashes (XXH3), for cache keys and fingerprints.
 *
 * Not against malice: two files that somebody crafted to collide will. Hashing
 * in pieces gives the same value as in one go. Strings are fed with their length
 * before them, so that ("ab","c") and ("a","bc") differ.
 */
#ifndef CRIA_BASE_HASH_H
#define CRIA_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define HASH_HEX_SIZE 33 /* 32 digits and the zero */

struct hasher; /* heap */

struct hasher *hasher_create(void); /* NULL without memory */
void hasher_destroy(struct hasher *h);
void hasher_bytes(struct hasher *h, const void *p, size_t n);
void hasher_u64(struct hasher *h, uint64_t v); /* little endian */
void hasher_string(struct hasher *h, const char *s);
void hasher_hex(const struct hasher *h, char out[HASH_HEX_SIZE]); /* of all fed so far */
void hasher_digest(const struct hasher *h, uint64_t out[2]);      /* the same, low half first */
void hasher_reset(struct hasher *h);                              /* as if just created */

/* Of one block, in hex. */
void hash_hex(const void *p, size_t n, char out[HASH_HEX_SIZE]);

/* 64 bits of a string's hash, to key random numbers by a name. */
uint64_t hash_name(const char *name);

/* Of a file's content, in hex: ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status hash_file(const char *path, char out[HASH_HEX_SIZE], struct err *e);

#endif
