#include "kernels/cuda/cudnn_builder.h"

void dnn_check(struct dnn_builder *b, int status, const char *at)
{
    if (!status || b->status) return;
    b->status = status;
    b->at = at;
}

void *dnn_make(struct dnn_builder *b, int kind, const char *at)
{
    void *d = NULL;
    if (b->num_made == DNN_MOST_MADE) dnn_check(b, -1, at);
    if (b->status) return NULL;
    dnn_check(b, b->t->lib->cudnnBackendCreateDescriptor(kind, &d), at);
    if (d) b->made[b->num_made++] = d;
    return d;
}

void dnn_set(struct dnn_builder *b, void *d, int name, int type, int64_t count, const void *values)
{
    if (!b->status)
        dnn_check(b, b->t->lib->cudnnBackendSetAttribute(d, name, type, count, values),
                  "an attribute");
}

void dnn_set_number(struct dnn_builder *b, void *d, int name, int type, int value)
{
    dnn_set(b, d, name, type, 1, &value);
}

void dnn_set_int64(struct dnn_builder *b, void *d, int name, int64_t value)
{
    dnn_set(b, d, name, DNN_TYPE_INT64, 1, &value);
}

void dnn_set_true(struct dnn_builder *b, void *d, int name)
{
    const char yes = 1;
    dnn_set(b, d, name, DNN_TYPE_BOOLEAN, 1, &yes);
}

void dnn_set_descriptor(struct dnn_builder *b, void *d, int name, void *value)
{
    dnn_set(b, d, name, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void dnn_finalize(struct dnn_builder *b, void *d, const char *at)
{
    if (!b->status) dnn_check(b, b->t->lib->cudnnBackendFinalize(d), at);
}

void dnn_release(struct dnn_builder *b, const void *kept)
{
    for (int i = b->num_made; i-- > 0;)
        if (b->made[i] != kept) b->t->lib->cudnnBackendDestroyDescriptor(b->made[i]);
}
