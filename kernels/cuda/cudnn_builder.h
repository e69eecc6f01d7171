/* cudnn_builder.h - descriptors of cuDNN's, made one behind the other: what graphs and plans share.
 *
 * A builder keeps the first status that was not well, and where; from then on each of these does
 * nothing, so that a graph is written down without a look at each call. */
#ifndef CRIA_KERNELS_CUDA_CUDNN_BUILDER_H
#define CRIA_KERNELS_CUDA_CUDNN_BUILDER_H

#include "kernels/cuda/cudnn_graph.h"

enum { DNN_MOST_MADE = 160, DNN_MOST_OPERATIONS = 48 };

/* A tensor of the graph. */
struct value {
    void *tensor;
    int64_t dim[4];
};

struct dnn_builder {
    const struct sdpa_target *t;
    const struct sdpa_shape *s;
    void *made[DNN_MOST_MADE]; /* all but what is handed out */
    void *operations[DNN_MOST_OPERATIONS];
    struct value input[SDPA_TENSORS_END];
    int num_made, num_operations;
    int status; /* the first that was not well; then nothing more is done */
    const char *at;
};

void dnn_check(struct dnn_builder *b, int status, const char *at);
void *dnn_make(struct dnn_builder *b, int kind, const char *at); /* NULL where it did not go well */
void dnn_set(struct dnn_builder *b, void *d, int name, int type, int64_t count, const void *values);
void dnn_set_number(struct dnn_builder *b, void *d, int name, int type, int value);
void dnn_set_int64(struct dnn_builder *b, void *d, int name, int64_t value);
void dnn_set_true(struct dnn_builder *b, void *d, int name);
void dnn_set_descriptor(struct dnn_builder *b, void *d, int name, void *value);
void dnn_finalize(struct dnn_builder *b, void *d, const char *at);
void dnn_release(struct dnn_builder *b, const void *kept); /* all that was made, but for this */

/* The graph of b->s for b->t, finalized (cudnn_graph.c). */
void *sdpa_graph(struct dnn_builder *b);

#endif
