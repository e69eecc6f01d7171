#include "run/generate.h"

#include <math.h>

#include "base/mem.h"

void generate_add_stop(struct generate_options *o, int32_t id)
{
    if (id < 0 || o->num_stops == GENERATE_STOPS_MAX) return;
    for (int32_t i = 0; i < o->num_stops; i++)
        if (o->stops[i] == id) return;
    o->stops[o->num_stops++] = id;
}

int generate_is_stop(const struct generate_options *o, int32_t id)
{
    for (int32_t i = 0; i < o->num_stops; i++)
        if (o->stops[i] == id) return 1;
    return 0;
}

static enum status feed(struct engine *g, const int32_t *ids, size_t n, float *logits,
                        struct err *e)
{
    size_t at_once = (size_t)g->options.decode_rows;
    for (size_t at = 0; at < n; at += at_once) {
        size_t piece = n - at < at_once ? n - at : at_once;
        TRY(engine_decode(g, ids + at, (int32_t)piece, logits, e));
    }
    return OK;
}

/* logits NULL: they are on the device, which draws. */
static enum status draw(struct engine *g, struct sampler *s, const float *logits, uint64_t sequence,
                        uint32_t step, int32_t *id, struct err *e)
{
    *id = 0;
    if (!logits) {
        struct kern_sample how = sampler_request(s, sequence, step);
        TRY(engine_draw(g, &how, id, e));
    }
    for (int32_t i = 0; logits && i < s->vocab; i++)
        if (isnan(logits[i])) *id = -1;
    if (*id < 0)
        return err_set(e, ERR_NUMERIC,
                       "the model's logits are not numbers: are the weights whole?");
    if (logits) *id = sampler_draw(s, logits, sequence, step);
    return OK;
}

static enum status loop(struct engine *g, struct sampler *s, const struct generate_options *o,
                        uint64_t sequence, generate_listener *listen, void *context,
                        struct id_list *out, enum generate_end *end, float *logits, struct err *e)
{
    *end = GENERATE_LENGTH;
    for (int32_t step = 0; step < o->max_new_tokens; step++) {
        int32_t id;
        TRY(draw(g, s, logits, sequence, (uint32_t)step, &id, e));
        *end = GENERATE_STOP_TOKEN;
        if (generate_is_stop(o, id)) return OK;
        if (out && id_list_append(out, &id, 1))
            return err_set(e, ERR_MEMORY, "no memory for the generated ids");
        *end = GENERATE_LISTENER;
        if (listen && listen(context, id)) return OK;
        *end = GENERATE_LENGTH;
        if (step + 1 == o->max_new_tokens) return OK;
        *end = GENERATE_CACHE_FULL;
        if (g->cache_length == g->options.cache_rows) return OK;
        TRY(engine_decode(g, &id, 1, logits, e));
        *end = GENERATE_LENGTH;
    }
    return OK;
}

enum status generate(struct engine *g, struct sampler *s, const int32_t *prompt, size_t n,
                     const struct generate_options *o, uint64_t sequence, generate_listener *listen,
                     void *context, struct id_list *out, enum generate_end *end, struct err *e)
{
    int on_device = g->device.k->sample != NULL;
    float *logits = on_device ? NULL : mem_calloc((size_t)s->vocab, sizeof *logits);
    if (!logits && !on_device) return err_set(e, ERR_MEMORY, "no memory for logits");
    size_t kept = 0;
    if (o->reuse && n && n <= INT32_MAX)
        kept = (size_t)engine_decode_keep(g, prompt, (int32_t)(n - 1));
    else
        engine_decode_reset(g);
    enum status status =
        n ? OK : err_set(e, ERR_SHAPE, "an empty prompt and no token to start from");
    if (!status && n > (size_t)g->options.cache_rows) {
        status = err_set(e, ERR_SHAPE, "the prompt has %zu tokens, the context holds %d", n,
                         (int)g->options.cache_rows);
        err_hint(e, "raise --context, as far as the model goes, or shorten the prompt");
    }
    if (!status) status = feed(g, prompt + kept, n - kept, logits, e);
    if (!status) status = loop(g, s, o, sequence, listen, context, out, end, logits, e);
    mem_free(logits);
    return status;
}
