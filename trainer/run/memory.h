/* memory.h - what this process holds, what the machine has left, and by which name.
 *
 * An account is kept while a run is set up: each part, when it is done, takes what the process has
 * grown by since the last one. What cannot be seen yet (arenas, blocks that weights pass through,
 * log lines) is put in from sizes that are known. The sum is the peak that the run will reach.
 *
 *     memory_begin(&a);            all there is so far: libraries
 *     tokenizer_open(...);
 *     memory_take(&a, MEMORY_tokenizer);
 *     ...
 *     memory_add(&a, MEMORY_files, bytes);
 *
 * Growth is code pages, and of the heap what is touched or what is handed out, whichever is more:
 * a table that is allocated and not yet filled will be. Memory that was freed is given back first
 * (memory_settle), so that what a part only passed through does not stay on its bill.
 */
#ifndef CRIA_RUN_MEMORY_H
#define CRIA_RUN_MEMORY_H

#include <stddef.h>

/* name, meaning */
#define MEMORY_TABLE(X)                                                               \
    X(libraries, "the program and its libraries, as loaded")                          \
    X(tokenizer, "tokenizer and template")                                            \
    X(dataset, "per-document arrays, orders, HDF5's caches, a micro-batch")           \
    X(graph, "the parameters' names, the tape and its plans")                         \
    X(blas, "the BLAS's workspace and its threads' stacks")                           \
    X(files, "blocks and headers that weights pass through on load and save")         \
    X(snapshot, "a copy of what is saved, written while training goes on")            \
    X(history, "log lines, read back at every save")                                  \
    X(pinned, "block inputs that wait on the host (gradient_checkpointing: offload)") \
    X(starting, "held for a moment while starting, above what training takes")        \
    X(reserve, "code and stacks first touched while training")                        \
    X(graphs, "micro-batches kept as CUDA graphs, at most")                           \
    X(context, "the GPU's context and libraries, and what others hold of it")

enum memory_item {
#define X(name, text) MEMORY_##name,
    MEMORY_TABLE(X)
#undef X
        NUM_MEMORY_ITEMS
};

const char *memory_item_name(enum memory_item i);
const char *memory_item_text(enum memory_item i);

struct memory_account {
    size_t item[NUM_MEMORY_ITEMS];
    size_t code, anonymous, heap; /* of the process when last looked at */
    int held;                     /* freed blocks stay */
    size_t transient; /* the most that a start holds for a moment: see memory_note_peak */
};

/* Makes the heap return what is freed, for the rest of the process: call it before all else, or
 * freed blocks may stay and later peaks are higher than planned. */
void memory_steady(void);

/* From here on freed blocks stay: oneDNN takes what it packs into anew for every product, and pages
 * that came fresh from the system each time would cost a tenth of a step. What products took is
 * then still there when the account looks. */
void memory_hold(struct memory_account *a);

void memory_begin(struct memory_account *a);
void memory_take(struct memory_account *a, enum memory_item i);
void memory_add(struct memory_account *a, enum memory_item i, size_t bytes);
/* What was done since the process held `before` at most (memory_peak) is done by every start: if it
 * held more than anything before, that is noted, and a little that it may vary by. */
void memory_note_peak(struct memory_account *a, size_t before);

size_t memory_sum(const struct memory_account *a);

/* Bytes resident now, and the most there ever were (VmHWM); 0: the system does not tell. */
size_t memory_resident(void);
size_t memory_peak(void);

/* Bytes that this process could still take: what the machine has available (MemAvailable), or less
 * where control groups (v1, v2) or RLIMIT_AS and RLIMIT_DATA say so. `limit` (may be NULL): a word
 * for what decides. */
size_t memory_available(const char **limit);

#endif
