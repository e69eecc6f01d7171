/* graph.c - work that is queued again and again, as CUDA graphs.
 *
 * A key's first time runs plainly, so that what is made once is made (modules, algorithms, cuDNN's
 * plans); its second is captured from the compute stream, made executable and launched; from the
 * third on one launch stands for it all. The copy stream is drawn in by the events of copies.c and
 * has to be back by the end. What the work reads by value was read at the capture, so a key says
 * all that it depends on outside of the device's memory (kernels.h).
 *
 * Executables take memory of the device, which the driver alone knows: it is looked at around each
 * one's making. There are at most HELD of them in d->graphs bytes; one of a new key takes the
 * place of those longest unused, but of none that was used since the key was first seen: where more
 * shapes take turns than there is room for, those that have it keep it. Where capture fails nothing
 * has run, and from then on everything runs plainly.
 */
#include <string.h>

#include "base/mem.h"
#include "kernels/cuda/cuda.h"

enum { KEYS = 256, HELD = 32 };

struct graph {
    unsigned char key[KERN_GRAPH_KEY];
    size_t size;          /* of the key; 0: a free place */
    uint64_t seen, used;  /* when first and last */
    cudaGraphExec_t exec; /* NULL: none yet */
    size_t bytes;         /* that it takes of the device's memory */
    int too_large;        /* for all of the room */
};

struct cuda_graphs {
    struct graph all[KEYS];
    struct graph *recording;
    uint64_t clock; /* one more at each begin */
    struct kern_graphs counts;
    int given_up;
};

static struct cuda_graphs *graphs_of(const struct device *d)
{
    struct cuda_state *s = cuda_state(d);
    if (!s->graphs) s->graphs = mem_calloc(1, sizeof *s->graphs);
    return s->graphs;
}

static void drop(struct device *d, struct graph *g)
{
    struct cuda_graphs *all = cuda_state(d)->graphs;
    if (!g->exec) return;
    cuda_note(d, cudaStreamSynchronize(cuda_state(d)->compute), "a graph's end"); /* it may run */
    cuda_note(d, cudaGraphExecDestroy(g->exec), "a graph's end");
    all->counts.held--;
    all->counts.bytes -= g->bytes;
    g->exec = NULL;
    g->bytes = 0;
    g->seen = all->clock; /* as if it were new */
}

void cuda_graphs_close(struct device *d)
{
    struct cuda_graphs *all = cuda_state(d)->graphs;
    if (!all) return;
    for (int i = 0; i < KEYS; i++) drop(d, &all->all[i]);
    mem_free(all);
    cuda_state(d)->graphs = NULL;
}

void cuda_graph_counts(const struct device *d, struct kern_graphs *out)
{
    const struct cuda_graphs *all = cuda_state(d)->graphs;
    *out = all ? all->counts : (struct kern_graphs){0};
}

/* The key's place, or the one for it: free, or else the longest unused without an executable. */
static struct graph *find(struct cuda_graphs *all, const void *key, size_t size)
{
    struct graph *old = NULL;
    for (struct graph *g = all->all; g < all->all + KEYS; g++) {
        if (g->size == size && !memcmp(g->key, key, size)) return g;
        if (!g->exec && (!old || g->used < old->used)) old = g;
    }
    *old = (struct graph){.size = size, .seen = all->clock}; /* KEYS > HELD: there is one */
    memcpy(old->key, key, size);
    return old;
}

/* The executable longest unused, if not used since `seen`. */
static struct graph *stale(struct cuda_graphs *all, uint64_t seen)
{
    struct graph *old = NULL;
    for (struct graph *g = all->all; g < all->all + KEYS; g++)
        if (g->exec && g->used < seen && (!old || g->used < old->used)) old = g;
    return old;
}

static void give_up(struct cuda_graphs *all)
{
    (void)cudaGetLastError();
    all->given_up = 1;
}

/* Events that a capture has recorded mean nothing when it is gone, and must not be waited for. */
static void reset_events(struct device *d)
{
    struct cuda_state *s = cuda_state(d);
    for (int i = 0; i < CUDA_HALVES; i++) {
        cuda_note(d, cudaEventRecord(s->staging.copied[i], s->copy), "events");
        cuda_note(d, cudaEventRecord(s->staging.arrived[i], s->compute), "events");
    }
    cuda_note(d, cudaEventRecord(s->copies.copied, s->copy), "events");
}

static enum kern_graph begin(struct device *d, struct cuda_graphs *all, struct graph *g)
{
    struct cuda_state *s = cuda_state(d);
    int first = g->seen == all->clock;
    g->used = all->clock;
    if (g->exec) {
        cuda_note(d, cudaGraphLaunch(g->exec, s->compute), "a graph's launch");
        all->counts.replayed++;
        return KERN_GRAPH_REPLAYED;
    }
    if (first || g->too_large) return KERN_GRAPH_NONE;
    if (all->counts.held == HELD) {
        struct graph *old = stale(all, g->seen);
        if (!old) return KERN_GRAPH_NONE;
        drop(d, old);
    }
    if (cudaStreamBeginCapture(s->compute, cudaStreamCaptureModeThreadLocal)) {
        give_up(all);
        return KERN_GRAPH_NONE;
    }
    all->recording = g;
    return KERN_GRAPH_RECORDS;
}

enum kern_graph cuda_graph_begin(struct device *d, const void *key, size_t size)
{
    const struct cuda_state *s = cuda_state(d);
    if (!d->graphs || s->trace || s->failed || size < 1 || size > KERN_GRAPH_KEY)
        return KERN_GRAPH_NONE;
    struct cuda_graphs *all = graphs_of(d);
    if (!all || all->given_up) return KERN_GRAPH_NONE;
    all->clock++;
    enum kern_graph how = begin(d, all, find(all, key, size));
    all->counts.plain += how == KERN_GRAPH_NONE;
    return how;
}

/* g's executable, and what it takes. */
static cudaError_t make(struct device *d, struct graph *g, cudaGraph_t graph)
{
    size_t before = 0, after = 0, total;
    cudaError_t error = cudaMemGetInfo(&before, &total);
    if (!error) error = cudaGraphInstantiate(&g->exec, graph, 0);
    if (error) {
        g->exec = NULL;
        return error;
    }
    error = cudaGraphUpload(g->exec, cuda_state(d)->compute);
    if (!error) error = cudaMemGetInfo(&after, &total);
    g->bytes = before > after ? before - after : 0;
    return error;
}

/* Keeps within the room. g has been launched. */
static void make_room(struct device *d, struct cuda_graphs *all, struct graph *g)
{
    struct graph *old = NULL;
    while (all->counts.bytes > d->graphs && (old = stale(all, g->seen))) drop(d, old);
    if (all->counts.bytes <= d->graphs) return;
    g->too_large = g->bytes > d->graphs;
    drop(d, g);
}

enum status cuda_graph_end(struct device *d, struct err *e)
{
    struct cuda_state *s = cuda_state(d);
    struct cuda_graphs *all = s->graphs;
    struct graph *g = all->recording;
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(s->compute, &graph);
    const char *what = s->failed ? s->failed_in : "the capture";
    if (s->failed) error = s->failed; /* tells more; nothing has run that could have failed */
    s->failed = cudaSuccess;
    all->recording = NULL;
    if (!error) {
        what = "making it executable";
        error = make(d, g, graph);
    }
    if (graph) (void)cudaGraphDestroy(graph);
    if (g->exec) {
        all->counts.held++;
        all->counts.bytes += g->bytes;
    }
    if (!error) {
        what = "its launch";
        error = cudaGraphLaunch(g->exec, s->compute);
    }
    if (error) {
        drop(d, g);
        give_up(all);
        reset_events(d);
        return err_set(e, ERR_DEVICE, "%s: %s", what, cudaGetErrorString(error));
    }
    all->counts.recorded++;
    make_room(d, all, g);
    return OK;
}
