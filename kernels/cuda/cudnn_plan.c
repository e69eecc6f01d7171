/* cudnn_plan.c - engines for a graph, plans and their running: the other half of cudnn_graph.h. */
#include "kernels/cuda/cudnn_builder.h"

enum { MOST_CONFIGS = 8 };

/* What cuDNN says of a config: whether it gives the same bits again, and its workspace. */
static int is_fit(struct dnn_builder *b, void *config, size_t *workspace)
{
    const struct cudnn *lib = b->t->lib;
    int notes[DNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0, bytes = 0;
    void *engine = dnn_make(b, DNN_BACKEND_ENGINE_DESCRIPTOR, "an engine");
    if (b->status) return 0;
    int status = lib->cudnnBackendGetAttribute(config, DNN_ATTR_ENGINECFG_ENGINE,
                                               DNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine);
    if (!status)
        status = lib->cudnnBackendGetAttribute(engine, DNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                               DNN_TYPE_NUMERICAL_NOTE,
                                               DNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes);
    for (int64_t i = 0; !status && i < count && i < DNN_NUMERICAL_NOTE_TYPE_COUNT; i++)
        if (notes[i] == DNN_NUMERICAL_NOTE_NONDETERMINISTIC) return 0;
    if (!status)
        status = lib->cudnnBackendGetAttribute(config, DNN_ATTR_ENGINECFG_WORKSPACE_SIZE,
                                               DNN_TYPE_INT64, 1, &count, &bytes);
    *workspace = (size_t)bytes;
    return !status && bytes >= 0;
}

/* The heuristic's first that is fit. */
static void *ask(struct dnn_builder *b, void *graph, size_t *workspace)
{
    void *configs[MOST_CONFIGS], *found = NULL;
    int64_t count = 0;
    void *heuristic = dnn_make(b, DNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "the heuristic");
    dnn_set_descriptor(b, heuristic, DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    dnn_set_number(b, heuristic, DNN_ATTR_ENGINEHEUR_MODE, DNN_TYPE_HEUR_MODE, DNN_HEUR_MODE_A);
    if (b->t->properties)
        dnn_set_descriptor(b, heuristic, DNN_ATTR_ENGINEHEUR_DEVICEPROP, b->t->properties);
    dnn_finalize(b, heuristic, "the heuristic");
    for (int i = 0; i < MOST_CONFIGS; i++)
        configs[i] = dnn_make(b, DNN_BACKEND_ENGINECFG_DESCRIPTOR, "an engine's config");
    if (b->status) return NULL;
    dnn_check(b,
              b->t->lib->cudnnBackendGetAttribute(heuristic, DNN_ATTR_ENGINEHEUR_RESULTS,
                                                  DNN_TYPE_BACKEND_DESCRIPTOR, MOST_CONFIGS, &count,
                                                  configs),
              "the heuristic's answer");
    for (int64_t i = 0; !b->status && i < count && !found; i++)
        if (is_fit(b, configs[i], workspace)) found = configs[i];
    return found;
}

enum status sdpa_choose(struct sdpa_plan *p, const struct sdpa_target *t,
                        const struct sdpa_shape *s, struct err *e)
{
    struct dnn_builder b = {.t = t, .s = s};
    *p = (struct sdpa_plan){.shape = *s};
    void *graph = sdpa_graph(&b);
    p->config = ask(&b, graph, &p->workspace);
    dnn_release(&b, p->config);
    if (b.status)
        return err_set(e, ERR_DEVICE, "cuDNN does not take %s: %s", b.at,
                       t->lib->cudnnGetErrorString(b.status));
    if (!p->config) return err_set(e, ERR_UNSUPPORTED, "cuDNN has no deterministic engine for it");
    return OK;
}

enum status sdpa_make(struct sdpa_plan *p, const struct sdpa_target *t, struct err *e)
{
    struct dnn_builder b = {.t = t, .s = &p->shape};
    int64_t count = 0, bytes = 0;
    p->plan = dnn_make(&b, DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a plan");
    dnn_set(&b, p->plan, DNN_ATTR_EXECUTION_PLAN_HANDLE, DNN_TYPE_HANDLE, 1, &t->handle);
    dnn_set_descriptor(&b, p->plan, DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, p->config);
    dnn_finalize(&b, p->plan, "a plan");
    if (!b.status)
        dnn_check(&b,
                  t->lib->cudnnBackendGetAttribute(p->plan, DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                   DNN_TYPE_INT64, 1, &count, &bytes),
                  "a plan's workspace");
    p->workspace = (size_t)bytes;
    if (!b.status) return OK;
    return err_set(e, ERR_DEVICE, "cuDNN does not make %s: %s", b.at,
                   t->lib->cudnnGetErrorString(b.status));
}

void sdpa_plan_free(struct sdpa_plan *p, const struct cudnn *lib)
{
    if (p->plan) lib->cudnnBackendDestroyDescriptor(p->plan);
    if (p->config) lib->cudnnBackendDestroyDescriptor(p->config);
    *p = (struct sdpa_plan){.plan = NULL};
}

int sdpa_run(const struct sdpa_plan *p, const struct sdpa_target *t, void *const *at,
             void *workspace)
{
    struct dnn_builder b = {.t = t, .s = &p->shape};
    int64_t ids[SDPA_TENSORS_END], count = 0;
    void *addresses[SDPA_TENSORS_END];
    for (int i = 0; i < SDPA_TENSORS_END; i++) {
        if (!sdpa_uses(&p->shape, (enum sdpa_tensor)i)) continue;
        ids[count] = i;
        addresses[count++] = at[i];
    }
    void *pack = dnn_make(&b, DNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "a pack");
    dnn_set(&b, pack, DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, DNN_TYPE_INT64, count, ids);
    dnn_set(&b, pack, DNN_ATTR_VARIANT_PACK_DATA_POINTERS, DNN_TYPE_VOID_PTR, count, addresses);
    dnn_set(&b, pack, DNN_ATTR_VARIANT_PACK_WORKSPACE, DNN_TYPE_VOID_PTR, 1, &workspace);
    dnn_finalize(&b, pack, "a pack");
    if (!b.status) dnn_check(&b, t->lib->cudnnBackendExecute(t->handle, p->plan, pack), "running");
    dnn_release(&b, NULL);
    return b.status;
}
