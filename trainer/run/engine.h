/* engine.h - a model in memory that can run micro-batches.
 *
 * Joins what the rooms below supply: device, parameters, model, adapter, tape, and the three
 * arenas. Training, evaluation, generation and merging differ in what they ask of it:
 *
 *     engine_describe   what there will be: config, parameters, adapter; no memory yet
 *     engine_measure    plans the largest micro-batches: what memory there will be
 *     engine_allocate   takes the arenas
 *     engine_load_*     weights into place
 *     engine_train / engine_evaluate on batches; engine_decode on new tokens
 *     engine_score, engine_backward, engine_reference on batches of preferences
 *     engine_free
 */
#ifndef CRIA_RUN_ENGINE_H
#define CRIA_RUN_ENGINE_H

#include "adapter/lora.h"
#include "adapter/rows.h"
#include "autograd/ops.h"
#include "autograd/param.h"
#include "base/hash.h"
#include "data/loader/loader.h"
#include "model/model.h"
#include "objective/cross_entropy.h"
#include "optim/optimizer.h"
#include "run/frozen.h"

/* What engine_reference computes with. */
enum engine_reference {
    ENGINE_NO_REFERENCE,
    ENGINE_REFERENCE_BASE,    /* the base without the adapter and what it trains */
    ENGINE_REFERENCE_ADAPTER, /* the base and a frozen copy of the adapter */
    ENGINE_REFERENCE_MODEL,   /* a frozen copy of the base's weights, without adapter */
};

/* What can be done with a micro-batch. */
enum engine_pass {
    ENGINE_TRAIN, /* forward and backward */
    ENGINE_EVALUATE,
    ENGINE_SCORE, /* forward, and later */
    ENGINE_BACKWARD,
    ENGINE_REFER, /* the reference forward */
    ENGINE_PASSES
};

struct engine_options {
    const char *device;                /* "auto" (the GPU if there is one), "cpu", "null", "cuda" */
    int fp32;                          /* on a GPU too, which else computes in bf16 */
    int no_masters;                    /* param.h */
    int moments_8bit;                  /* param.h too */
    int threads;                       /* 0: all cores this process may use */
    const struct model_config *config; /* must outlive the engine */
    const struct lora_options *lora;   /* NULL: no adapter */
    int train; /* gradients and optimiser states: of the adapter, else of all */
    struct model_recompute recompute;
    int graphs; /* what recurs is replayed, where the device can */
    int pairs;  /* micro-batches are of preferences: the loss is known after forward */
    enum engine_reference reference;
    int reference_in_place; /* whoever asks for it has put it in the policy's place */
    enum loss_reduction reduction;
    struct loader_limits train_limits; /* of the largest training micro-batch */
    struct loader_limits eval_limits;  /* of the largest that only runs forward; zero: none */
    int32_t base_vocab;  /* rows of embedding and head in the base's files where that is fewer than
                            vocab_size; 0: it is not */
    int32_t positions;   /* rotary table: one more than the highest position */
    int32_t cache_rows;  /* decoding: capacity of the key-value cache; 0: no decoding */
    int32_t decode_rows; /* decoding: most tokens given at once */
    /* How far a load of weights is that takes long; NULL: nobody. */
    void (*loading)(void *context, uint64_t done, uint64_t all, double seconds);
    void *loading_context;
};

/* Bytes of the three arenas, and of the host's memory where block inputs wait. */
struct engine_memory {
    size_t run, step, scratch, host;
};

struct engine {
    struct engine_options options;
    struct device device;
    struct param_set params;
    struct model model;
    struct lora lora;
    int has_lora;
    struct token_rows rows;        /* tokens trained one by one */
    struct frozen reference;       /* where it differs from the policy */
    char base_hash[HASH_HEX_SIZE]; /* of the base's files (weights.h); empty: none were */
    struct tape *tape;
    struct tape_plan train_plan, eval_plan, reference_plan, decode_plan;
    struct engine_memory memory;
    struct engine_memory untrained; /* the same but for what training micro-batches need */
    void *run_base, *step_base, *scratch_base, *host_base;
    const float *copy;    /* where weights.h has put what is saved; NULL: it is on the device */
    struct engine_batch { /* device copies of a micro-batch, in the run arena */
        int32_t *ids, *positions, *documents, *rows, *targets;
        int32_t *slots;          /* NULL: no token is trained by itself */
        struct rng_key *dropout; /* [1]; NULL: there is none */
        float *dlogp;
        struct segment *segments;
    } on_device;
    struct engine_numbers { /* of a training micro-batch that has begun; heap */
        struct batch batch; /* N, S, documents, keys, rows and weights of it */
        float *weights;
        int32_t *documents, *keys, *rows;
    } numbers[2];           /* the next to end, and the one behind it */
    int begun, ended;       /* how many have begun and not ended; which ends next */
    int bound;              /* the tape is that of the micro-batch whose pass was last */
    struct tensor *logp;    /* of the tape: the log-probabilities */
    struct engine_results { /* of the head, in the device's memory; where is fixed by the plan */
        void *logp, *hit, *stats;
    } results[ENGINE_PASSES];
    struct kv_cache *caches; /* heap, [num_layers] */
    int32_t cache_length;
    int32_t *cached;    /* heap, [cache_rows]: the ids in the cache */
    float *logits;      /* device [V], decoding */
    int32_t *drawn;     /* device [1], decoding where the device samples */
    float *host_floats; /* heap: behind engine_train, logp [S] of its supervised rows */
    float *host_stats;  /* heap: with pairs, [4, S] by enum head_stat */
    uint8_t *host_hits;
    int32_t *host_slots;
};

/* Opens the device and lays out everything; takes no arena. Where "auto" finds a GPU that cannot
 * be used, a line says why. ERR_CONFIG, ERR_DEVICE, ERR_MEMORY,
 * ERR_SHAPE. After a failure engine_free is still due. */
MUST_CHECK enum status engine_describe(struct engine *g, const struct engine_options *o,
                                       struct err *e);

/* Plans the largest micro-batches and fills g->memory; takes no arena. ERR_MEMORY, ERR_SHAPE. */
MUST_CHECK enum status engine_measure(struct engine *g, struct err *e);

/* Behind engine_measure, before engine_allocate: plans the training micro-batch anew with this
 * recomputation. ERR_MEMORY, ERR_SHAPE. */
MUST_CHECK enum status engine_set_recompute(struct engine *g, const struct model_recompute *r,
                                            struct err *e);

/* Host memory of a micro-batch's results, which grows with the largest one. */
size_t engine_host_bytes(const struct engine *g);

/* Device memory for what recurs, at most; 0: nothing is kept. Small beside the arenas, as their sum
 * is a plan of what will be used. Behind engine_measure. */
size_t engine_graph_bytes(const struct engine *g);

/* Measures unless that is done; then takes the arenas. ERR_MEMORY, ERR_SHAPE. */
MUST_CHECK enum status engine_allocate(struct engine *g, struct err *e);
void engine_free(struct engine *g); /* zeroed is fine */

/* Runs products on `d` (the engine's device, or the CPU in its place) that make its BLAS take all
 * the workspace the largest micro-batches will want. ERR_MEMORY, ERR_DEVICE. */
MUST_CHECK enum status engine_touch_products(const struct engine *g, struct device *d,
                                             struct err *e);

/* One micro-batch forward and backward: gradients are added. Dropout is keyed by (seed, step).
 * ERR_DEVICE, ERR_SHAPE (larger than the limits). */
MUST_CHECK enum status engine_train(struct engine *g, const struct batch *b, uint64_t seed,
                                    int64_t step, struct cross_entropy_sums *sums, struct err *e);

/* The same in two: begin queues everything, end waits for the numbers of the one that began first.
 * Where the device has answer_begin, a second may begin before the first has ended, and the device
 * need not wait in between. *of (may be NULL): of that micro-batch N, S, documents, keys, rows and
 * weights, for g->host_floats; until another begins. What failed on the device may be told only
 * later. */
MUST_CHECK enum status engine_train_begin(struct engine *g, const struct batch *b, uint64_t seed,
                                          int64_t step, struct err *e);
void engine_train_end(struct engine *g, struct cross_entropy_sums *sums, struct batch *of);

/* Forward only; no dropout. */
MUST_CHECK enum status engine_evaluate(struct engine *g, const struct batch *b,
                                       struct cross_entropy_sums *sums, struct err *e);

/* What the head says of each supervised row [S]; host memory, until the next micro-batch. */
struct engine_scores {
    const float *logp, *mean_logit, *entropy, *sum_p2;
    const uint8_t *hit;
};

/* A micro-batch of preferences forward; with `backward` as engine_train does it, and then
 * engine_backward must come next. ERR_DEVICE, ERR_SHAPE. */
MUST_CHECK enum status engine_score(struct engine *g, const struct batch *b, int backward,
                                    uint64_t seed, int64_t step, struct engine_scores *out,
                                    struct err *e);

/* The rest of it: adds the gradients of dlogp [S]. ERR_DEVICE. */
MUST_CHECK enum status engine_backward(struct engine *g, const struct batch *b, const float *dlogp,
                                       struct err *e);

/* Takes the weights as they are now for the reference's. */
void engine_keep_reference(struct engine *g);

/* The reference's log-probabilities [S] in g->host_floats; nothing of the policy changes. Errors as
 * engine_score. */
MUST_CHECK enum status engine_reference(struct engine *g, const struct batch *b, struct err *e);

/* Applies the summed gradients and clears them; see optimizer_step. After ERR_NUMERIC nothing has
 * changed, and engine_drop is due before the next micro-batch. */
MUST_CHECK enum status engine_update(struct engine *g, const struct adamw_options *o, double lr,
                                     int64_t t, double divisor, double *grad_norm, struct err *e);

/* Clears the summed gradients: their step is left out. */
void engine_drop(struct engine *g);

/* After loading trainable tokens from a file: their rows into the tables. */
void engine_refresh(struct engine *g);

/* Decoding. Forgets the cached tokens. */
void engine_decode_reset(struct engine *g);
/* Forgets all but the longest start they share with ids[0..n); returns its length. */
int32_t engine_decode_keep(struct engine *g, const int32_t *ids, int32_t n);
/* n more tokens; logits [V] (host) of what follows the last, NULL: they stay on the device.
 * ERR_SHAPE: over the cache. */
MUST_CHECK enum status engine_decode(struct engine *g, const int32_t *ids, int32_t n, float *logits,
                                     struct err *e);

/* *id drawn from those logits where they lie; -1: one is not a number. ERR_UNSUPPORTED: by devices
 * with `sample` alone (kernels.h). */
MUST_CHECK enum status engine_draw(struct engine *g, const struct kern_sample *how, int32_t *id,
                                   struct err *e);

/* What decides the arithmetic of a micro-batch. */
struct engine_work {
    double rows, supervised;
    double pairs; /* of a row and a row that it sees, summed over the layers */
};

struct engine_work engine_work(const struct engine *g, const struct batch *b);

/* FLOPs of base products, head and attention. An adapter's own, and what checkpointing computes
 * again, are not counted: the floor is without them. */
double engine_train_flops(const struct engine *g, const struct engine_work *w);
double engine_forward_flops(const struct engine *g, const struct engine_work *w);

#endif
