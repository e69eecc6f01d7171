/* capture.cc - captures of streams, and graphs, as the CUDA runtime has them. */

#include "kernels/emu/block.h"
#include "kernels/emu/streams.h"

struct node {
    std::function<void()> work;
    std::vector<int> after;
};

struct emu_graph {
    std::vector<struct node> nodes;
};

struct emu_graph_exec {
    std::vector<struct node> nodes;
    size_t bytes;
};

enum { NODE_BYTES = 512 };
static size_t node_bytes = NODE_BYTES;

/* There is one thread that captures, so one capture at a time. */
static struct {
    uint64_t id; /* 0: none */
    struct emu_stream *origin;
    struct emu_graph *graph;
    std::vector<struct emu_stream *> streams;
    bool broken;
} now;
static uint64_t captures;
static long instantiated, launched;
static cudaError_t planned_error;

void emu_graph_counts(long *recorded, long *replayed)
{
    *recorded = instantiated;
    *replayed = launched;
}

void emu_set_graph_bytes(size_t bytes) { node_bytes = bytes ? bytes : (size_t)NODE_BYTES; }

void emu_set_capture_error(cudaError_t error) { planned_error = error; }

bool emu_capturing() { return now.id != 0; }

cudaError_t emu_capture_break(cudaError_t error)
{
    now.broken = true;
    return error;
}

/* --- while it lasts --- */

void emu_capture_add(struct emu_stream *s, std::function<void()> work)
{
    if (now.broken) return;
    now.graph->nodes.push_back({std::move(work), s->nodes});
    s->nodes = {(int)now.graph->nodes.size() - 1};
}

cudaError_t emu_capture_wait(struct emu_stream *s, struct emu_event *e)
{
    if (s->capture && e->capture != s->capture)
        return emu_capture_break(cudaErrorStreamCaptureIsolation);
    if (e->capture != now.id) return cudaErrorCapturedEvent; /* of one that is over */
    if (!s->capture) {
        s->capture = now.id;
        s->nodes.clear();
        now.streams.push_back(s);
    }
    s->nodes.insert(s->nodes.end(), e->nodes.begin(), e->nodes.end());
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
    if (s->capture || now.id) return cudaErrorIllegalState;
    now.id = s->capture = ++captures;
    now.origin = s;
    now.graph = new emu_graph;
    now.streams = {s};
    now.broken = false;
    s->nodes.clear();
    return cudaSuccess;
}

/* Whether the origin comes behind everything that the other streams did. */
static bool all_joined()
{
    std::vector<bool> before(now.graph->nodes.size());
    std::vector<int> look = now.origin->nodes;
    while (!look.empty()) {
        int n = look.back();
        look.pop_back();
        if (before[(size_t)n]) continue;
        before[(size_t)n] = true;
        for (int b : now.graph->nodes[(size_t)n].after) look.push_back(b);
    }
    for (const struct emu_stream *s : now.streams)
        for (int n : s->nodes)
            if (!before[(size_t)n]) return false;
    return true;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out)
{
    *out = NULL;
    if (!s->capture) return cudaErrorIllegalState;
    if (s != now.origin) return emu_capture_break(cudaErrorStreamCaptureUnmatched);
    cudaError_t error = now.broken      ? cudaErrorStreamCaptureInvalidated
                        : !all_joined() ? cudaErrorStreamCaptureUnjoined
                                        : planned_error;
    for (struct emu_stream *each : now.streams) each->capture = 0;
    now.id = 0;
    if (error)
        delete now.graph;
    else
        *out = now.graph;
    now.graph = NULL;
    return error;
}

/* --- graphs --- */

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long)
{
    *out = NULL;
    if (emu_capturing()) return emu_capture_break(cudaErrorStreamCaptureUnsupported);
    size_t bytes = g->nodes.size() * node_bytes;
    if (emu_take((long)bytes)) return cudaErrorMemoryAllocation;
    *out = new emu_graph_exec{g->nodes, bytes};
    instantiated++;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t s)
{
    return s->capture ? emu_capture_break(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g)
{
    if (!g) return cudaSuccess;
    (void)emu_take(-(long)g->bytes);
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s)
{
    std::vector<int> missing, ready;
    std::vector<std::vector<int>> behind(g->nodes.size());
    if (s->capture) return emu_capture_break(cudaErrorStreamCaptureUnsupported);
    for (size_t i = 0; i < g->nodes.size(); i++) {
        missing.push_back((int)g->nodes[i].after.size());
        for (int b : g->nodes[i].after) behind[(size_t)b].push_back((int)i);
        if (g->nodes[i].after.empty()) ready.push_back((int)i);
    }
    while (!ready.empty()) {
        size_t at = emu::draw() % ready.size();
        int n = ready[at];
        ready.erase(ready.begin() + (long)at);
        emu_enqueue(s, g->nodes[(size_t)n].work);
        for (int b : behind[(size_t)n])
            if (!--missing[(size_t)b]) ready.push_back(b);
    }
    launched++;
    return cudaSuccess;
}
