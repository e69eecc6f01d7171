/* Captures and graphs in emulation: the emulator is as strict as CUDA, and cuda/graph.c records,
 * replays and forgets as it says. */
#include "support/check.h"

#include <string.h>

#include "kernels/emu/runtime.h"
#include "kernels/kernels.h"

enum { N = 64, ROOM = 128 << 20 };

/* --- the emulator --- */

static cudaStream_t compute, copy;
static cudaEvent_t there, back;
static float *device, *pinned;

static int open_streams(void **state)
{
    (void)state;
    cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&copy, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&there, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&back, cudaEventDisableTiming);
    cudaMalloc((void **)&device, 2 * N * sizeof *device);
    return cudaHostAlloc((void **)&pinned, 2 * N * sizeof *pinned, cudaHostAllocDefault);
}

static int close_streams(void **state)
{
    (void)state;
    cudaFree(device);
    cudaFreeHost(pinned);
    cudaEventDestroy(there);
    cudaEventDestroy(back);
    cudaStreamDestroy(compute);
    return cudaStreamDestroy(copy);
}

static void begin(void)
{
    assert_int_equal(cudaStreamBeginCapture(compute, cudaStreamCaptureModeThreadLocal),
                     cudaSuccess);
}

/* Ends with this error, or with a graph that was launched. */
static void end(cudaError_t wanted)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    assert_int_equal(cudaStreamEndCapture(compute, &graph), wanted);
    if (wanted) {
        assert_null(graph);
        return;
    }
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    assert_int_equal(cudaGraphLaunch(exec, compute), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(compute), cudaSuccess);
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
}

static cudaError_t down(void *to, cudaStream_t s)
{
    return cudaMemcpyAsync(to, device, sizeof *device, cudaMemcpyDeviceToHost, s);
}

static void test_capture(void **state)
{
    (void)state;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    pinned[0] = -1;
    begin();
    assert_int_equal(cudaMemsetAsync(device, 0, N, compute), cudaSuccess);
    assert_int_equal(down(pinned, compute), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(compute, &graph), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(compute), cudaSuccess);
    assert_true(pinned[0] == -1); /* nothing has run yet */
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    for (int i = 0; i < 3; i++) {
        pinned[0] = -1;
        assert_int_equal(cudaGraphLaunch(exec, compute), cudaSuccess);
        assert_int_equal(cudaStreamSynchronize(compute), cudaSuccess);
        assert_true(pinned[0] == 0);
    }
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(compute, &graph), cudaErrorIllegalState);
}

/* What CUDA forbids while a stream is captured. */
static void test_forbidden(void **state)
{
    void *p;
    float pageable;
    (void)state;
    begin();
    assert_int_equal(cudaStreamSynchronize(compute), cudaErrorStreamCaptureUnsupported);
    end(cudaErrorStreamCaptureInvalidated);
    begin();
    assert_int_equal(cudaMalloc(&p, 1), cudaErrorStreamCaptureUnsupported);
    end(cudaErrorStreamCaptureInvalidated);
    begin();
    assert_int_equal(cudaHostAlloc(&p, 1, 0), cudaErrorStreamCaptureUnsupported);
    end(cudaErrorStreamCaptureInvalidated);
    begin();
    assert_int_equal(cudaFree(device), cudaErrorStreamCaptureUnsupported);
    end(cudaErrorStreamCaptureInvalidated);
    begin();
    assert_int_equal(down(&pageable, compute), cudaErrorStreamCaptureUnsupported);
    end(cudaErrorStreamCaptureInvalidated);
    begin();
    assert_int_equal(cudaEventRecord(there, compute), cudaSuccess);
    assert_int_equal(cudaEventSynchronize(there), cudaErrorCapturedEvent);
    end(cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaStreamWaitEvent(copy, there, 0), cudaErrorCapturedEvent); /* it is over */
    assert_int_equal(cudaEventRecord(there, copy), cudaSuccess);
    begin();
    assert_int_equal(cudaStreamWaitEvent(compute, there, 0), cudaErrorStreamCaptureIsolation);
    end(cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaStreamSynchronize(compute), cudaSuccess);
}

static void fork_copy(void)
{
    assert_int_equal(cudaEventRecord(there, compute), cudaSuccess);
    assert_int_equal(cudaStreamWaitEvent(copy, there, 0), cudaSuccess);
    assert_int_equal(down(pinned, copy), cudaSuccess);
    assert_int_equal(cudaEventRecord(back, copy), cudaSuccess);
}

/* A second stream has to be back at the end. */
static void test_join(void **state)
{
    (void)state;
    begin();
    fork_copy();
    end(cudaErrorStreamCaptureUnjoined);
    begin();
    fork_copy();
    assert_int_equal(cudaStreamWaitEvent(compute, back, 0), cudaSuccess);
    end(cudaSuccess);
    assert_int_equal(down(pinned, copy), cudaSuccess); /* a stream like any other again */
    assert_int_equal(cudaStreamSynchronize(copy), cudaSuccess);
}

/* A copy that is joined, but later than what it copies is overwritten: the graph lacks an edge, and
 * its nodes run in an order that shows it. */
static void test_missing_edge(void **state)
{
    int wrong = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        emu_set_seed(seed);
        begin();
        assert_int_equal(cudaMemsetAsync(device, 1, sizeof *device, compute), cudaSuccess);
        fork_copy();
        assert_int_equal(cudaMemsetAsync(device, 2, sizeof *device, compute), cudaSuccess);
        assert_int_equal(cudaStreamWaitEvent(compute, back, 0), cudaSuccess);
        end(cudaSuccess);
        wrong += ((unsigned char *)pinned)[0] != 1;
    }
    print_message("a copy from a place that is used again: wrong in %d of 20\n", wrong);
    assert_true(wrong > 0 && wrong < 20);
}

/* --- graph.c --- */

static struct device d;

static int open_device(void **state)
{
    struct err e = {0};
    (void)state;
    CHECK_OK(device_open_type(&d, "cuda", DTYPE_F32, 0, &e), &e);
    d.graphs = ROOM;
    CHECK_OK(d.k->alloc(&d, 2 * N * sizeof(float), (void **)&device, &e), &e);
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    d.k->release(&d, device, 2 * N * sizeof(float));
    device_close(&d);
    return 0;
}

static struct kern_graphs counts(void)
{
    struct kern_graphs c;
    d.k->graph_counts(&d, &c);
    return c;
}

/* The second half becomes the first, under a key; what was done about it. */
static enum kern_graph move(int32_t key)
{
    struct err e = {0};
    enum kern_graph how = d.k->graph_begin(&d, &key, sizeof key);
    if (how == KERN_GRAPH_REPLAYED) return how;
    d.k->copy_rows(&d, device, sizeof(float), device + N, sizeof(float), N, sizeof(float));
    if (how == KERN_GRAPH_RECORDS) CHECK_OK(d.k->graph_end(&d, &e), &e);
    return how;
}

/* The same with a number that must come out. */
static enum kern_graph moved(int32_t key, float value)
{
    float host[N];
    for (int i = 0; i < N; i++) host[i] = value;
    d.k->upload(&d, device + N, host, sizeof host);
    enum kern_graph how = move(key);
    d.k->download(&d, host, device, sizeof host);
    for (int i = 0; i < N; i++) assert_true(host[i] == value);
    return how;
}

static void test_replay(void **state)
{
    struct err e = {0};
    (void)state;
    d.graphs = 0;
    for (int i = 0; i < 3; i++) assert_int_equal(moved(1, (float)i), KERN_GRAPH_NONE);
    d.graphs = ROOM;
    assert_int_equal(moved(1, 10), KERN_GRAPH_NONE);
    assert_int_equal(moved(1, 11), KERN_GRAPH_RECORDS);
    assert_int_equal(moved(2, 12), KERN_GRAPH_NONE);
    for (int i = 0; i < 3; i++) assert_int_equal(moved(1, (float)(20 + i)), KERN_GRAPH_REPLAYED);
    CHECK_OK(d.k->trace(&d, 1, &e), &e); /* each kernel by itself */
    assert_int_equal(moved(1, 30), KERN_GRAPH_NONE);
    CHECK_OK(d.k->trace(&d, 0, &e), &e);
    assert_int_equal(moved(1, 31), KERN_GRAPH_REPLAYED);
    assert_true(counts().plain == 2 && counts().recorded == 1 && counts().replayed == 4);
    assert_true(counts().held == 1 && counts().bytes > 0);
}

/* More keys than there is room for: those in use keep their places, others lose them. */
static void test_room(void **state)
{
    enum { KEYS = 40, HELD = 32 };
    (void)state;
    for (int round = 0; round < 4; round++)
        for (int k = 0; k < KEYS; k++) moved(k, (float)(round * KEYS + k));
    assert_true(counts().held == HELD && counts().recorded == HELD);
    assert_int_equal(counts().replayed, 2 * HELD);
    assert_int_equal(counts().plain, KEYS + 3 * (KEYS - HELD));
    assert_int_equal(moved(KEYS, 0), KERN_GRAPH_NONE);
    assert_int_equal(moved(0, 0), KERN_GRAPH_REPLAYED);
    assert_int_equal(moved(KEYS, 0), KERN_GRAPH_RECORDS); /* 1 was not used since */
    assert_int_equal(counts().held, HELD);
    assert_int_equal(moved(0, 0), KERN_GRAPH_REPLAYED);
    assert_int_equal(moved(1, 0), KERN_GRAPH_RECORDS); /* for 2 */
    assert_int_equal(moved(2, 0), KERN_GRAPH_RECORDS);
}

/* The room in bytes: 128 MB, of which a node takes a part that is set here. */
static void test_bytes(void **state)
{
    (void)state;
    emu_set_graph_bytes(ROOM / 4);
    for (int k = 0; k < 6; k++)
        for (int i = 0; i < 3; i++) moved(k, (float)(10 * k + i));
    assert_true(counts().held == 4 && counts().bytes <= ROOM);
    assert_int_equal(counts().recorded, 6);
    emu_set_graph_bytes(ROOM + 1); /* one that will never fit is not tried again */
    assert_int_equal(moved(10, 1), KERN_GRAPH_NONE);
    assert_int_equal(moved(10, 2), KERN_GRAPH_RECORDS);
    assert_int_equal(moved(10, 3), KERN_GRAPH_NONE);
    assert_true(counts().bytes <= ROOM);
    emu_set_graph_bytes(0);
}

/* Whatever a recording cannot hold: nothing of it runs, an error says why, and from then on all is
 * queued as it comes. */
static void refuse(void (*work)(void), const char *says)
{
    struct err e = {0};
    int32_t key = 7;
    float host = 5;
    d.k->upload(&d, device, &host, sizeof host);
    assert_int_equal(d.k->graph_begin(&d, &key, sizeof key), KERN_GRAPH_NONE);
    assert_int_equal(d.k->graph_begin(&d, &key, sizeof key), KERN_GRAPH_RECORDS);
    d.k->zero(&d, device, sizeof host);
    work();
    assert_int_equal(d.k->graph_end(&d, &e), ERR_DEVICE);
    assert_non_null(strstr(e.message, says));
    d.k->download(&d, &host, device, sizeof host);
    assert_true(host == 5);
    CHECK_OK(d.k->sync(&d, &e), &e);
    for (int i = 0; i < 3; i++) assert_int_equal(moved(1, (float)i), KERN_GRAPH_NONE);
    assert_int_equal(counts().held, 0);
}

static void upload_within(void)
{
    float x = 0;
    d.k->upload(&d, device, &x, sizeof x);
}

static void read_within(void)
{
    float x;
    d.k->download(&d, &x, device, sizeof x);
}

static void wait_within(void)
{
    struct err e;
    if (d.k->sync(&d, &e)) return;
}

static void *waiting; /* pinned */

static void send_away(void) { d.k->copy_out(&d, waiting, device, sizeof(float)); }

static void nothing(void) {}

static void test_upload_within(void **state)
{
    (void)state;
    refuse(upload_within, "upload: dependency created on uncaptured work");
}

static void test_read_within(void **state)
{
    (void)state;
    refuse(read_within, "download: operation not permitted");
}

static void test_wait_within(void **state)
{
    (void)state;
    refuse(wait_within, "what was queued: operation not permitted");
}

static void test_unjoined(void **state)
{
    struct err e = {0};
    (void)state;
    CHECK_OK(d.k->host_alloc(&d, sizeof(float), &waiting, &e), &e);
    refuse(send_away, "the capture: capturing stream has unjoined work");
    d.k->host_release(&d, waiting, sizeof(float));
}

static void test_capture_fails(void **state)
{
    (void)state;
    emu_set_capture_error(cudaErrorNotSupported);
    refuse(nothing, "the capture: operation not supported");
    emu_set_capture_error(cudaSuccess);
}

static void test_no_memory(void **state)
{
    (void)state;
    emu_set_graph_bytes((size_t)16 << 30);
    refuse(nothing, "making it executable: out of memory");
    emu_set_graph_bytes(0);
}

/* A number that is handed over by value stays that of the recording: caught by a comparison with
 * what is queued plainly, as runs are compared below. */
static void test_baked(void **state)
{
    float host[4][N];
    int32_t key = 3;
    struct err e = {0};
    (void)state;
    for (int i = 0; i < 4; i++) {
        float one[N];
        struct kern_adamw a = {.n = N, .param = device, .lr = 0, .bias1 = 1, .bias2 = 1};
        for (int k = 0; k < N; k++) one[k] = 1;
        a.weight_decay = 0.5f;
        a.lr = (float)(i + 1) / 4; /* p *= 1 - lr / 2 */
        a.m = a.v = device + N;
        a.eps = 1;
        a.grad = a.scale = device + N;
        d.k->zero(&d, device + N, N * sizeof(float));
        d.k->upload(&d, device, one, sizeof one);
        enum kern_graph how = d.k->graph_begin(&d, &key, sizeof key);
        if (how != KERN_GRAPH_REPLAYED) d.k->adamw(&d, &a);
        if (how == KERN_GRAPH_RECORDS) CHECK_OK(d.k->graph_end(&d, &e), &e);
        d.k->download(&d, host[i], device, sizeof host[i]);
    }
    assert_true(host[0][0] == 0.875f && host[1][0] == 0.75f); /* plain; recorded and launched */
    assert_true(host[2][0] == 0.75f && host[3][0] == 0.75f);  /* replays */
}

int main(void)
{
    const struct CMUnitTest streams[] = {
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_forbidden),
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_missing_edge),
    };
    const struct CMUnitTest devices[] = {
#define X(test) cmocka_unit_test_setup_teardown(test, open_device, close_device)
        X(test_replay),      X(test_room),        X(test_bytes),    X(test_upload_within),
        X(test_read_within), X(test_wait_within), X(test_unjoined), X(test_capture_fails),
        X(test_no_memory),   X(test_baked),
#undef X
    };
    return cmocka_run_group_tests(streams, open_streams, close_streams) +
           cmocka_run_group_tests(devices, NULL, NULL);
}
