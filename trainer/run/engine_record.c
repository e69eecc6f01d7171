#include "run/engine_internal.h"

#include "base/mem.h"
#include "kernels/profile.h"

struct tokens engine_device_tokens(const struct engine *g, int32_t rows, int32_t segments)
{
    return (struct tokens){rows,
                           g->on_device.ids,
                           g->on_device.positions,
                           g->on_device.documents,
                           g->on_device.segments,
                           segments,
                           g->on_device.slots,
                           0};
}

/* Up to a multiple of 128, four an octave, as cuDNN's plans are made (cuda/attention_cudnn.c): a
 * shape like any other, that should recur. */
static int32_t round_length(int32_t n)
{
    int32_t step = 128;
    while (8 * step <= n) step *= 2;
    return (n + step - 1) / step * step;
}

struct tokens engine_batch_tokens(const struct engine *g, const struct batch *b)
{
    int32_t segments = b->num_segments + b->tail.segments;
    struct tokens tokens = engine_device_tokens(g, engine_rows(b), segments);
    tokens.longest = segments_longest(b->segments, segments);
    if (b->tail.rows) tokens.longest = round_length(tokens.longest);
    return tokens;
}

static const struct param_rows *trained_rows(const struct engine *g)
{
    return g->rows.rows.count && g->options.train ? &g->rows.rows : NULL;
}

/* Records a training or evaluation micro-batch of this size. */
struct head_result engine_record(struct engine *g, int backward, const struct tokens *tokens,
                                 int32_t supervised)
{
    struct slot_filler filler = g->has_lora ? lora_filler(&g->lora) : (struct slot_filler){0};
    struct model_call call = {.recompute = g->options.recompute,
                              .filler = g->has_lora ? &filler : NULL,
                              .rows = trained_rows(g)};
    struct head_request request = {.S = supervised,
                                   .rows = g->on_device.rows,
                                   .targets = g->on_device.targets,
                                   .dlogp =
                                       backward && !g->options.pairs ? g->on_device.dlogp : NULL,
                                   .want_spread = g->options.pairs};
    tape_reset(g->tape, backward);
    if (call.rows) {
        request.trained = param_tensor(g->tape, &g->params, call.rows->head, 1);
        request.trained_rows = call.rows->ids;
    }
    struct tensor *hidden = model_forward(&g->model, g->tape, tokens, &call);
    return op_head(g->tape, hidden, model_head(&g->model, g->tape), &request);
}

/* Records the reference's forward. The copies must be in use. */
struct head_result engine_record_reference(struct engine *g, const struct tokens *tokens,
                                           int32_t supervised)
{
    int adapted = g->options.reference == ENGINE_REFERENCE_ADAPTER;
    struct slot_filler filler = adapted ? lora_filler(&g->lora) : (struct slot_filler){0};
    struct model_call call = {.filler = adapted ? &filler : NULL};
    struct head_request request = {
        .S = supervised, .rows = g->on_device.rows, .targets = g->on_device.targets};
    tape_reset(g->tape, 0);
    struct tensor *hidden = model_forward(&g->model, g->tape, tokens, &call);
    return op_head(g->tape, hidden, model_head(&g->model, g->tape), &request);
}

struct tensor *engine_record_decode(struct engine *g, const struct tokens *tokens)
{
    struct slot_filler filler = g->has_lora ? lora_filler(&g->lora) : (struct slot_filler){0};
    struct model_call call = {.filler = g->has_lora ? &filler : NULL, .caches = g->caches};
    tape_reset(g->tape, 0);
    return tape_keep(model_forward(&g->model, g->tape, tokens, &call));
}

/* --- in --- */

void engine_upload(struct engine *g, void *to, const void *from, int64_t count, size_t each)
{
    if (count) g->device.k->upload(&g->device, to, from, (size_t)count * each);
}

void engine_upload_batch(struct engine *g, const struct batch *b)
{
    const struct engine_batch *d = &g->on_device;
    int32_t rows = engine_rows(b), supervised = engine_supervised(b);
    profile_segments(&g->device, b->segments, b->num_segments);
    profile_enter(&g->device, SCOPE_upload, -1);
    engine_upload(g, d->ids, b->ids, rows, sizeof *d->ids);
    engine_upload(g, d->positions, b->positions, rows, sizeof *d->positions);
    engine_upload(g, d->documents, b->keys, rows, sizeof *d->documents);
    engine_upload(g, d->rows, b->rows, supervised, sizeof *d->rows);
    engine_upload(g, d->targets, b->targets, supervised, sizeof *d->targets);
    engine_upload(g, d->segments, b->segments, b->num_segments + b->tail.segments,
                  sizeof *d->segments);
    if (d->slots) {
        rows_find(&g->rows, b->ids, rows, g->host_slots);
        engine_upload(g, d->slots, g->host_slots, rows, sizeof *d->slots);
    }
    profile_leave(&g->device);
}

void engine_upload_dropout(struct engine *g, uint64_t seed, int64_t step)
{
    struct rng_key key = rng_key(seed, RNG_DROPOUT, (uint64_t)step);
    if (g->on_device.dropout) engine_upload(g, g->on_device.dropout, &key, 1, sizeof key);
}
