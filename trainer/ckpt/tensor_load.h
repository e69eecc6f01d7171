/* tensor_load.h - many tensors of open files to where they shall lie, by several threads.
 *
 *     struct tensor_load loads[] = {{.tensor = t, .as = FILE_F32, .place = weights}, ...};
 *     struct tensor_load_options o = {0};
 *     if (tensor_load_all(f, loads, n, &o, &e)) ...
 *
 * A tensor is read in parts of TENSOR_PART elements. Threads take parts in the order in which they
 * lie in the files, so that disks and the page cache stream, and read each with pread in blocks of
 * TENSOR_BLOCK elements: small enough that a block is still in the second-level cache when it is
 * hashed and converted, large enough that calls cost nothing. Where the parts go:
 *
 *     as = FILE_TYPES    nowhere: their content is only hashed
 *     place              memory of the host for the whole tensor, elements of type `as`
 *     neither            through a ring of slots, from which the calling thread sends them on
 *
 * If the file has the type that is wanted, bytes are read straight to their place or slot; else a
 * block passes through the thread's own buffer. Conversions to BF16 and from F64 round to nearest
 * even (ckpt/file_type.h).
 *
 *     slot:  free -> a thread fills it -> full -> `send` takes it away -> sent -> `reclaim` -> free
 *
 * `send` may return before its copy is over (a device's copy from pinned memory): the next slots
 * are read meanwhile, and `reclaim` waits for that copy alone. Both are called by the calling
 * thread only; when tensor_load_all returns, all that was sent has been reclaimed.
 *
 * Parts are independent, so what is loaded and hashed does not depend on the number of threads or
 * their timing. The digest of a tensor is XXH3-128 over its type's name (as hash.h feeds strings)
 * and the XXH3-128 of each part's bytes in the file, in order: what the file holds, not what it
 * became. Parts of a fixed size are part of that definition.
 *
 * A file that ends too early or cannot be read is told with file, tensor and byte: of several
 * threads' errors, that of the first part. No thread is left when tensor_load_all returns. Threads
 * allocate nothing.
 */
#ifndef CRIA_CKPT_TENSOR_LOAD_H
#define CRIA_CKPT_TENSOR_LOAD_H

#include "ckpt/safetensors.h"

#define TENSOR_PART ((size_t)1 << 20)       /* elements */
#define TENSOR_BLOCK ((size_t)1 << 16)      /* elements */
#define TENSOR_SLOT_BYTES (TENSOR_PART * 4) /* a part as F32, or as anything narrower */
#define TENSOR_SLOTS_MAX 32

struct tensor_load {
    const struct tensor_info *tensor;
    enum file_type as;  /* F32 or BF16 of a type of real numbers; the file's own, up to 4 bytes an
                           element; FILE_TYPES: hashed alone */
    void *place;        /* NULL: through the ring */
    uint64_t digest[2]; /* out */
};

/* Slots of TENSOR_SLOT_BYTES that parts pass through. */
struct tensor_ring {
    void *slots[TENSOR_SLOTS_MAX];
    int count;
    void *context;
    /* Elements first ... first+count-1 of `load` lie in the slot, as `load->as`. */
    void (*send)(void *context, int slot, const struct tensor_load *load, size_t first,
                 size_t count);
    void (*reclaim)(void *context, int slot); /* returns when the slot may be written again */
};

struct tensor_load_options {
    int threads;                    /* 0: tensor_load_threads */
    const struct tensor_ring *ring; /* NULL: every load has a place, or needs none */
    /* Bytes read and to read, some four times a second, by the calling thread; NULL: nobody. */
    void (*progress)(void *context, uint64_t done, uint64_t all);
    void *context;
};

/* How many threads read so much: one for each 8 MB, at most the processors this process may use but
 * no fewer than four (a disk wants to be asked for more than one thing at a time), and 16. */
int tensor_load_threads(uint64_t bytes);

/* The heap it takes for this many threads, tensors and bytes in files. */
size_t tensor_load_memory(int threads, size_t tensors, uint64_t bytes);

/* ERR_IO, ERR_FORMAT (the file has shrunk), ERR_UNSUPPORTED (not a type that becomes `as`),
 * ERR_MEMORY (also: no thread). Nothing may be assumed of places and slots after an error. */
MUST_CHECK enum status tensor_load_all(const struct tensor_files *f, struct tensor_load *loads,
                                       size_t count, const struct tensor_load_options *o,
                                       struct err *e);

#endif
