/* trace.c - where the device's time goes: an event before and one behind each piece of work.
 *
 * Events are kept in a list and read when everything has run, so nothing waits in between; they
 * cost the device a microsecond or two a piece. The device's clock is set by the host's at the
 * beginning of the list, when both are at rest. Ranges go to NVTX, which does nothing unless a tool
 * listens.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gemm.h"

#if defined(CUDA_EMU)
#define HAVE_RANGES 1
#elif defined(__has_include)
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define HAVE_RANGES 1
#endif
#endif

#define MARKS_MAX ((size_t)1 << 20)

struct mark {
    char name[sizeof((struct kern_span *)0)->name];
    cudaStream_t stream;
    cudaEvent_t began, ended;
};

struct cuda_trace {
    struct mark *marks; /* heap; [made] have events, [count] are in use */
    size_t count, made, room;
    int open, failed; /* a mark has begun; one could not be kept */
    cudaEvent_t start;
    double clock; /* the host's, at `start` */
};

/* --- marks --- */

static int grow(struct cuda_trace *t)
{
    size_t room = t->room ? 2 * t->room : 1024;
    struct mark *marks = room > MARKS_MAX ? NULL : mem_resize(t->marks, room, sizeof *marks);
    if (!marks) return 0;
    t->marks = marks;
    t->room = room;
    return 1;
}

/* A mark with events; NULL: none is to be had. */
static struct mark *next_mark(struct cuda_trace *t)
{
    if (t->count < t->made) return &t->marks[t->count];
    if (t->made == t->room && !grow(t)) return NULL;
    struct mark *m = &t->marks[t->made];
    *m = (struct mark){.stream = NULL};
    if (cudaEventCreateWithFlags(&m->began, cudaEventDefault)) return NULL;
    if (cudaEventCreateWithFlags(&m->ended, cudaEventDefault)) {
        cudaEventDestroy(m->began);
        return NULL;
    }
    t->made++;
    return m;
}

static void begin(struct device *d, cudaStream_t stream, const char *name, size_t length)
{
    struct cuda_trace *t = cuda_state(d)->trace;
    struct mark *m = next_mark(t);
    t->open = m != NULL;
    if (!m) {
        (void)cudaGetLastError(); /* a list that is cut is no error of what is queued */
        t->failed = 1;
        return;
    }
    snprintf(m->name, sizeof m->name, "%.*s", (int)length, name);
    m->stream = stream;
    cuda_note(d, cudaEventRecord(m->began, stream), "trace");
}

void cuda_trace_begin(struct device *d, cudaStream_t stream, const char *name)
{
    if (cuda_state(d)->trace) begin(d, stream, name, strlen(name));
}

/* Where the kernel's name begins in "f(x, y) ? rows<T, 4> : rows<T, 1>, grid, ...". */
static const char *kernel_name(const char *text)
{
    int depth = 0;
    for (const char *at = text; *at && (depth || (*at != ',' && *at != '<')); at++) {
        depth += (*at == '(') - (*at == ')');
        if (depth || *at != '?') continue;
        text = at + 1;
        break;
    }
    while (*text == ' ') text++;
    return text;
}

void cuda_trace_launch(struct device *d, const char *text)
{
    if (!cuda_state(d)->trace) return;
    text = kernel_name(text);
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '_') n++;
    begin(d, cuda_state(d)->compute, text, n);
}

void cuda_trace_end(struct device *d)
{
    struct cuda_trace *t = cuda_state(d)->trace;
    if (!t || !t->open) return;
    struct mark *m = &t->marks[t->count++];
    t->open = 0;
    cuda_note(d, cudaEventRecord(m->ended, m->stream), "trace");
}

void gemm_trace(struct device *d, const struct gemm *g)
{
    char name[48];
    if (!cuda_state(d)->trace) return;
    snprintf(name, sizeof name, "gemm %dx%dx%d", (int)g->M, (int)g->N, (int)g->K);
    cuda_trace_begin(d, cuda_state(d)->compute, name);
}

/* --- the list --- */

static void trace_free(struct cuda_trace *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->made; i++) {
        cudaEventDestroy(t->marks[i].began);
        cudaEventDestroy(t->marks[i].ended);
    }
    if (t->start) cudaEventDestroy(t->start);
    mem_free(t->marks);
    mem_free(t);
}

/* Empties the list and sets the clock. */
static void start(struct device *d)
{
    struct cuda_state *s = cuda_state(d);
    s->trace->count = 0;
    s->trace->failed = 0;
    cuda_note(d, cudaStreamSynchronize(s->compute), "trace");
    cuda_note(d, cudaEventRecord(s->trace->start, s->compute), "trace");
    cuda_note(d, cudaEventSynchronize(s->trace->start), "trace");
    s->trace->clock = clock_seconds();
}

enum status cuda_trace(struct device *d, int on, struct err *e)
{
    struct cuda_state *s = cuda_state(d);
    trace_free(s->trace);
    s->trace = NULL;
    if (!on) return OK;
    struct cuda_trace *t = mem_calloc(1, sizeof *t);
    if (!t) return err_set(e, ERR_MEMORY, "no memory for a trace");
    cudaError_t error = cudaEventCreateWithFlags(&t->start, cudaEventDefault);
    if (error) {
        trace_free(t);
        return err_set(e, ERR_DEVICE, "no event for a trace: %s", cudaGetErrorString(error));
    }
    s->trace = t;
    start(d);
    return OK;
}

size_t cuda_trace_count(const struct device *d)
{
    const struct cuda_trace *t = cuda_state(d)->trace;
    return t ? t->count : 0;
}

enum status cuda_trace_read(struct device *d, struct kern_span *out, struct err *e)
{
    struct cuda_state *s = cuda_state(d);
    struct cuda_trace *t = s->trace;
    if (!t) return OK;
    int failed = t->failed;
    cuda_note(d, cudaStreamSynchronize(s->copy), "trace");
    TRY(d->k->sync(d, e));
    for (size_t i = 0; i < t->count; i++) {
        const struct mark *m = &t->marks[i];
        float began = 0, took = 0;
        cuda_note(d, cudaEventElapsedTime(&began, t->start, m->began), "trace");
        cuda_note(d, cudaEventElapsedTime(&took, m->began, m->ended), "trace");
        out[i] = (struct kern_span){.copy = m->stream == s->copy,
                                    .began = t->clock + 1e-3 * (double)began,
                                    .seconds = 1e-3 * (double)took};
        memcpy(out[i].name, m->name, sizeof out[i].name);
    }
    start(d);
    return failed ? err_set(e, ERR_MEMORY, "no memory for a trace") : d->k->sync(d, e);
}

/* --- ranges --- */

void cuda_range(struct device *d, const char *name)
{
    (void)d;
#ifdef HAVE_RANGES
    if (name)
        nvtxRangePushA(name);
    else
        nvtxRangePop();
#else
    (void)name;
#endif
}
