/* generate.h - tokens one after another from an engine that decodes. */
#ifndef CRIA_RUN_GENERATE_H
#define CRIA_RUN_GENERATE_H

#include "data/tokenizer/tokenizer.h"
#include "run/engine.h"
#include "run/sampler.h"

#define GENERATE_STOPS_MAX 16

struct generate_options {
    int32_t max_new_tokens;
    int32_t stops[GENERATE_STOPS_MAX]; /* ids that end the text and are not part of it */
    int32_t num_stops;
    int reuse; /* feed only what differs from the tokens still in the engine's cache */
};

/* Told every new id; nonzero ends the generation. */
typedef int generate_listener(void *context, int32_t id);

/* Why it ended. */
enum generate_end { GENERATE_STOP_TOKEN, GENERATE_LENGTH, GENERATE_CACHE_FULL, GENERATE_LISTENER };

/* Continues prompt[0..n) (at least one id), which is fed in pieces of the engine's decode_rows.
 * The engine's cache is started anew, unless `reuse`: then logits may differ from a fresh start in
 * their last bits, as products over other numbers of rows do. New ids without the stop are appended
 * to `out` (may be NULL). `sequence` numbers the random stream. ERR_SHAPE: the prompt alone
 * overfills the cache; ERR_MEMORY, ERR_DEVICE, ERR_NUMERIC (a logit that is not a number). */
MUST_CHECK enum status generate(struct engine *g, struct sampler *s, const int32_t *prompt,
                                size_t n, const struct generate_options *o, uint64_t sequence,
                                generate_listener *listen, void *context, struct id_list *out,
                                enum generate_end *end, struct err *e);

/* Adds a stop; twice, -1 or one too many is ignored. */
void generate_add_stop(struct generate_options *o, int32_t id);
int generate_is_stop(const struct generate_options *o, int32_t id);

#endif
