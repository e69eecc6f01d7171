#include "run/engine_internal.h"

#include <string.h>

void engine_decode_reset(struct engine *g) { g->cache_length = 0; }

int32_t engine_decode_keep(struct engine *g, const int32_t *ids, int32_t n)
{
    int32_t same = 0;
    while (same < n && same < g->cache_length && g->cached[same] == ids[same]) same++;
    g->cache_length = same;
    return same;
}

enum status engine_decode(struct engine *g, const int32_t *ids, int32_t n, float *logits,
                          struct err *e)
{
    int32_t done = g->cache_length;
    const struct model_config *c = g->options.config;
    if (n < 1 || n > g->options.decode_rows || done + n > g->options.cache_rows)
        return err_set(e, ERR_SHAPE, "%d tokens behind %d: the cache holds %d", (int)n, (int)done,
                       (int)g->options.cache_rows);
    struct segment segment = {.start = done, .length = n, .position = done, .prefix_length = done};
    engine_upload(g, g->on_device.ids, ids, n, sizeof *ids);
    engine_upload(g, g->on_device.segments, &segment, 1, sizeof segment);
    for (int32_t i = 0; i < n; i++) {
        int32_t position = done + i;
        engine_upload(g, g->on_device.positions + i, &position, 1, sizeof position);
    }
    for (int32_t l = 0; l < c->num_layers; l++) g->caches[l].length = done;
    if (g->has_lora) lora_clear_dropout(&g->lora);
    struct tokens tokens = engine_device_tokens(g, n, 1);
    struct tensor *hidden = engine_record_decode(g, &tokens);
    TRY(tape_bind(g->tape, &g->decode_plan, g->step_base, g->scratch_base, e));
    tape_forward(g->tape);
    size_t last = (size_t)(n - 1) * (size_t)hidden->ld * dtype_size(g->device.type);
    const struct param *head = &g->params.params[g->model.head];
    g->device.k->linear_forward(&g->device, g->logits, (const char *)hidden->data + last,
                                head->data, NULL, NULL, 1, c->hidden_size, c->vocab_size,
                                c->vocab_size, c->hidden_size, 0);
    if (logits) g->device.k->download_floats(&g->device, logits, g->logits, (size_t)c->vocab_size);
    memcpy(g->cached + done, ids, (size_t)n * sizeof *ids);
    g->cache_length = done + n;
    return logits ? g->device.k->sync(&g->device, e) : OK;
}

enum status engine_draw(struct engine *g, const struct kern_sample *how, int32_t *id, struct err *e)
{
    struct device *d = &g->device;
    if (!d->k->sample) return err_set(e, ERR_UNSUPPORTED, "%s does not sample", d->k->name);
    d->k->sample(d, g->drawn, g->logits, g->options.config->vocab_size, how);
    d->k->download(d, id, g->drawn, sizeof *id);
    return d->k->sync(d, e);
}
