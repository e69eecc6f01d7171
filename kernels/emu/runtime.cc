#include "kernels/emu/streams.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map>

#include "kernels/emu/block.h"

static std::vector<struct emu_stream *> streams;

/* --- streams and events --- */

static int can_run(const struct emu_stream *s)
{
    if (s->queue.empty()) return 0;
    const struct task *t = s->queue.front();
    return !t->event || t->event->recorded >= t->wanted;
}

static void run_one(struct emu_stream *s)
{
    struct task *t = s->queue.front();
    s->queue.pop_front();
    emu::strand_run(&s->strand, [s, t] {
        emu::fiber_order_acquire(t->order);
        if (t->event) emu::fiber_order_acquire(&t->event->order[t->wanted % TOKENS]);
        if (t->work) t->work();
        delete t;
        emu::fiber_order_release(&s->done);
    });
}

static void enqueue(struct emu_stream *s, std::function<void()> work, struct emu_event *event)
{
    char *order = &s->order[s->queued++ % TOKENS];
    s->queue.push_back(new task{std::move(work), event, event ? event->asked : 0, order});
    emu::fiber_order_release(order);
}

/* Streams take turns, at random, until done() holds. */
static void run_until(const std::function<bool()> &done)
{
    while (!done()) {
        size_t first = emu::draw() % (streams.size() + !streams.size()), i = 0;
        while (i < streams.size() && !can_run(streams[(first + i) % streams.size()])) i++;
        if (i == streams.size()) emu::fail("streams wait for an event that nobody records");
        run_one(streams[(first + i) % streams.size()]);
    }
}

void emu_enqueue(cudaStream_t s, std::function<void()> work)
{
    if (!s) emu::fail("work for the default stream");
    if (s->capture) return emu_capture_add(s, std::move(work));
    enqueue(s, std::move(work), NULL);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    *out = new emu_stream();
    emu::strand_begin(&(*out)->strand);
    streams.push_back(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (s->capture) return emu_capture_break(cudaErrorStreamCaptureUnsupported);
    run_until([s] { return s->queue.empty(); });
    emu::fiber_order_acquire(&s->done);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    if (!s) return cudaSuccess;
    cudaStreamSynchronize(s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (long)i--);
    emu::strand_end(&s->strand);
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    if (s->capture || e->capture) return emu_capture_wait(s, e);
    enqueue(s, nullptr, e);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = new emu_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    if (e) run_until([e] { return e->recorded >= e->asked; });
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    e->capture = s->capture;
    e->nodes = s->nodes;
    if (s->capture) return cudaSuccess;
    uint64_t now = ++e->asked;
    emu_enqueue(s, [e, now] {
        e->recorded = now;
        emu::fiber_order_release(&e->order[now % TOKENS]);
        e->when = std::chrono::steady_clock::now();
    });
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    *ms = std::chrono::duration<float, std::milli>(end->when - begin->when).count();
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (e->capture)
        return emu_capturing() ? emu_capture_break(cudaErrorCapturedEvent) : cudaErrorCapturedEvent;
    run_until([e] { return e->recorded >= e->asked; });
    emu::fiber_order_acquire(&e->order[e->asked % TOKENS]);
    return cudaSuccess;
}

/* In a capture what the host's side of a copy is must stay where it is. */
static cudaError_t check_copy(const struct emu_stream *s, const void *to, const void *from,
                              size_t bytes, enum cudaMemcpyKind kind)
{
    const void *host = kind == cudaMemcpyHostToDevice   ? from
                       : kind == cudaMemcpyDeviceToHost ? to
                                                        : NULL;
    if (!s->capture || !host || emu_is_pinned(host, bytes)) return cudaSuccess;
    return emu_capture_break(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t s)
{
    if (check_copy(s, to, from, bytes, kind)) return cudaErrorStreamCaptureUnsupported;
    if (bytes) emu_enqueue(s, [=] { memmove(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind, cudaStream_t s)
{
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
    emu_enqueue(s, [=] {
        for (size_t r = 0; r < height; r++)
            memmove((char *)to + r * to_pitch, (const char *)from + r * from_pitch, width);
    });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    if (bytes) emu_enqueue(s, [=] { memset(p, value, bytes); });
    return cudaSuccess;
}

/* --- memory --- */

enum { PAGE = 4096, ALIGN = 256, SLACK = 0xA5 };

struct allocation {
    char *pages;
    size_t mapped, bytes;
};

static std::map<void *, struct allocation> allocations;
static size_t limit = (size_t)8 << 30, used;

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    *out = NULL;
    if (emu_capturing()) return emu_capture_break(cudaErrorStreamCaptureUnsupported);
    if (bytes > limit - used) return cudaErrorMemoryAllocation;
    size_t padded = round_up(bytes ? bytes : 1, ALIGN), inner = round_up(padded, PAGE);
    size_t mapped = inner + 2 * PAGE;
    void *p = mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return cudaErrorMemoryAllocation;
    char *at = (char *)p + PAGE;
    if (mprotect(at, inner, PROT_READ | PROT_WRITE)) return cudaErrorMemoryAllocation;
    *out = at + inner - padded;
    memset(*out, 0xff, bytes);
    memset((char *)*out + bytes, SLACK, padded - bytes);
    allocations[*out] = {(char *)p, mapped, bytes};
    used += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    if (emu_capturing()) return emu_capture_break(cudaErrorStreamCaptureUnsupported);
    auto found = allocations.find(p);
    if (found == allocations.end()) return cudaErrorInvalidValue;
    for (struct emu_stream *s : streams) cudaStreamSynchronize(s); /* as CUDA's does */
    const struct allocation &a = found->second;
    const unsigned char *end = (const unsigned char *)a.pages + a.mapped - PAGE;
    for (const unsigned char *b = (const unsigned char *)p + a.bytes; b < end; b++)
        if (*b != SLACK) emu::fail("memory of %zu bytes was written behind its end", a.bytes);
    used -= a.bytes;
    munmap(a.pages, a.mapped);
    allocations.erase(found);
    return cudaSuccess;
}

static std::map<const char *, size_t> pinned;

bool emu_is_pinned(const void *p, size_t bytes)
{
    auto behind = pinned.upper_bound((const char *)p);
    if (behind == pinned.begin()) return false;
    const auto &block = *--behind;
    return (const char *)p + bytes <= block.first + block.second;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    if (emu_capturing()) return emu_capture_break(cudaErrorStreamCaptureUnsupported);
    *out = aligned_alloc(PAGE, round_up(bytes ? bytes : 1, PAGE));
    if (!*out) return cudaErrorMemoryAllocation;
    pinned[(const char *)*out] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    if (emu_capturing()) return emu_capture_break(cudaErrorStreamCaptureUnsupported);
    pinned.erase((const char *)p);
    free(p);
    return cudaSuccess;
}

cudaError_t emu_take(long bytes)
{
    if (bytes > 0 && (size_t)bytes > limit - used) return cudaErrorMemoryAllocation;
    used += (size_t)bytes;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *free_bytes = limit - used;
    *total = limit;
    return cudaSuccess;
}

void emu_set_memory(size_t bytes) { limit = bytes > used ? bytes : used; }

/* --- the device --- */

static int devices = 1, devices_opened, capability = 90;
static size_t shared_most = emu::SHARED_MAX;
static cudaError_t answer = cudaSuccess;

void emu_set_devices(int count, cudaError_t a)
{
    devices = count;
    answer = a;
}

extern "C" void emu_set_capability(int c) { capability = c; }

int emu_devices_opened(void) { return devices_opened; }

void emu_set_shared(size_t bytes) { shared_most = bytes; }

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = devices;
    return answer;
}

cudaError_t cudaSetDevice(int device)
{
    devices_opened += device < devices;
    return device < devices ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
    *p = {};
    snprintf(p->name, sizeof p->name, "emulator");
    p->major = capability / 10;
    p->minor = capability % 10;
    p->multiProcessorCount = 4;
    p->totalGlobalMem = limit;
    p->sharedMemPerBlockOptin = shared_most;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

cudaError_t cudaGetLastError(void) { return cudaSuccess; }

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNotSupported: return "operation not supported";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnjoined: return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
        return "dependency created on uncaptured work in another stream";
    default: return "another error";
    }
}

/* --- ranges --- */

static int ranges;

int nvtxRangePushA(const char *name)
{
    if (!name || !*name) emu::fail("a range without a name");
    return ranges++;
}

int nvtxRangePop(void)
{
    if (!ranges) emu::fail("a range ends that nobody began");
    return --ranges;
}

int emu_ranges(void) { return ranges; }

void emu_set_seed(uint64_t seed) { emu::set_seed(seed); }
