/* test_cudnn.c - the library itself, without a GPU: that cuDNN takes the graphs of cudnn_graph.h,
 * and names an engine for them, for devices described by their properties. It computes nothing.
 * Skipped where libcudnn.so.9, or any libcuda.so.1 (CUDA's stub will do), is not found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <dlfcn.h>

#include "kernels/cuda/cudnn_graph.h"

#if __has_include(<cudnn_graph.h>) && __has_include(<cuda_runtime_api.h>)
#include <cudnn_graph.h>
#define X(name, number) _Static_assert((int)DNN_##name == (int)CUDNN_##name, #name);
CUDNN_NUMBERS(X)
#undef X
#endif

/* The library, with a count of the descriptors there are. */
static const struct cudnn *real;
static struct cudnn counting, *const lib = &counting;
static int descriptors;

static int create_counted(int kind, void **out)
{
    int status = real->cudnnBackendCreateDescriptor(kind, out);
    descriptors += !status;
    return status;
}

static int destroy_counted(void *d)
{
    descriptors--;
    return real->cudnnBackendDestroyDescriptor(d);
}

/* What cuDNN wants to know of a device; later versions want more of this than earlier ones. */
static void *describe_device(int capability, int multiprocessors, int shared)
{
    char text[1200];
    void *p = NULL;
    snprintf(text, sizeof text,
             "{\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], "
             "\"regsPerBlock\": 65536, \"multiProcessorCount\": %d, \"smCountOrigin\": 0, "
             "\"warpSize\": 32, \"maxSharedMemoryPerBlock\": 49152, "
             "\"maxSharedMemoryPerBlockOptin\": %d, \"oversizedSharedMemoryPerBlock\": 0, "
             "\"reservedSharedMemoryPerBlock\": 1024, \"maxRegistersPerSM\": 65536, "
             "\"maxCtasPerSM\": 32, \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 2048, "
             "\"pciDeviceId\": 0, \"isTccDriver\": 0, \"supportCoopLaunch\": 1, "
             "\"smClockRateKHz\": 1700000, \"memClockRateKHz\": 2000000, "
             "\"memoryBusWidth\": 5120, \"l2CacheSize\": 41943040, \"deviceName\": \"sm_%d\", "
             "\"deviceVer\": %d, \"driverVer\": 13000, \"cudaDeviceId\": 0, "
             "\"totalGlobalMem\": 85045084160}",
             multiprocessors, shared, capability, 10 * capability);
    assert_int_equal(lib->cudnnBackendCreateDescriptor(DNN_BACKEND_DEVICEPROP_DESCRIPTOR, &p), 0);
    assert_int_equal(lib->cudnnBackendSetAttribute(p, DNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                                   DNN_TYPE_CHAR, (int64_t)strlen(text), text),
                     0);
    int status = lib->cudnnBackendFinalize(p);
    if (!status) return p;
    print_message("this cuDNN wants to know more of a device: %s\n",
                  lib->cudnnGetErrorString(status));
    lib->cudnnBackendDestroyDescriptor(p);
    return NULL;
}

struct call {
    int32_t sequences, length, H, KV, D, window;
};

static struct sdpa_shape shape_of(const struct call *c, int backward)
{
    int32_t ld = (c->H + 2 * c->KV) * c->D; /* q, k, v are columns of one matrix */
    struct sdpa_shape s = {.backward = backward,
                           .sequences = c->sequences,
                           .length = c->length,
                           .H = c->H,
                           .KV = c->KV,
                           .D = c->D,
                           .window = c->window,
                           .ldq = ld,
                           .ldk = ld,
                           .ldv = ld,
                           .ldo = c->H * c->D};
    if (backward) s.lddq = s.lddk = s.lddv = ld;
    return s;
}

/* The case table's kinds of shapes, and those of models. */
static const struct call calls[] = {
    {6, 256, 4, 1, 64, 0},    {6, 256, 2, 2, 64, 5},     {6, 256, 3, 1, 128, 64},
    {1, 256, 7, 1, 64, 0},    {1, 512, 1, 1, 64, 70},    {1, 384, 2, 1, 128, 0},
    {6, 256, 4, 2, 8, 0},     {6, 256, 1, 1, 80, 0},     {1, 256, 2, 1, 96, 0},
    {1, 256, 1, 1, 256, 0},   {1, 4096, 32, 8, 128, 0},  {1, 8192, 32, 8, 128, 0},
    {8, 512, 32, 8, 128, 0},  {32, 128, 32, 8, 64, 0},   {2, 4096, 32, 8, 128, 1024},
    {4, 1024, 24, 8, 128, 0}, {1, 4096, 32, 32, 128, 0}, {14, 320, 28, 4, 128, 0},
};
enum { NUM_CALLS = sizeof calls / sizeof *calls };

/* The workspace an engine asks for lies within what attention_cudnn.c leaves for it. */
static void expect_engine(const struct sdpa_target *t, const struct call *c, int backward,
                          const char *device)
{
    struct sdpa_shape s = shape_of(c, backward);
    struct sdpa_plan p;
    struct err e = {0};
    size_t rows = (size_t)c->sequences * (size_t)c->length * (size_t)c->H;
    size_t most = 2 * rows * (size_t)(c->length + 4 * c->D) + ((size_t)1 << 20);
    enum status status = sdpa_choose(&p, t, &s, &e);
    if (status)
        fail_msg("%s, %d x %d, H %d/%d, D %d, window %d, %s: %s", device, (int)c->sequences,
                 (int)c->length, (int)c->H, (int)c->KV, (int)c->D, (int)c->window,
                 backward ? "backward" : "forward", e.message);
    print_message("%s %8s %2d x %4d H %2d/%-2d D %3d window %4d: workspace %zu\n", device,
                  backward ? "backward" : "forward", (int)c->sequences, (int)c->length, (int)c->H,
                  (int)c->KV, (int)c->D, (int)c->window, p.workspace);
    assert_true(p.workspace <= most);
    sdpa_plan_free(&p, lib);
    sdpa_plan_free(&p, lib);
}

static void test_hopper(void **state)
{
    struct sdpa_target t = {lib, NULL, describe_device(90, 132, 232448)};
    (void)state;
    if (!t.properties) skip();
    for (int i = 0; i < 2 * NUM_CALLS; i++) expect_engine(&t, &calls[i / 2], i % 2, "sm_90");
    lib->cudnnBackendDestroyDescriptor(t.properties);
    assert_int_equal(descriptors, 0);
}

/* Older devices have no deterministic gradient: that is said, not failed over. */
static void test_ampere(void **state)
{
    struct sdpa_target t = {lib, NULL, describe_device(80, 108, 166912)};
    struct sdpa_plan p;
    struct err e = {0};
    (void)state;
    if (!t.properties) skip();
    for (int i = 0; i < NUM_CALLS; i++) expect_engine(&t, &calls[i], 0, "sm_80");
    struct sdpa_shape s = shape_of(&calls[0], 1);
    enum status status = sdpa_choose(&p, &t, &s, &e);
    if (status) assert_int_equal(status, ERR_UNSUPPORTED);
    sdpa_plan_free(&p, lib);
    lib->cudnnBackendDestroyDescriptor(t.properties);
    assert_int_equal(descriptors, 0);
}

/* What cuDNN does not take is an error with its words, and nothing is left behind. */
static void test_refused(void **state)
{
    struct sdpa_target t = {lib, NULL, describe_device(90, 132, 232448)};
    struct call odd = {1, 256, 2, 1, 64, 0};
    struct err e = {0};
    struct sdpa_plan p;
    (void)state;
    if (!t.properties) skip();
    struct sdpa_shape s = shape_of(&odd, 0);
    s.KV = 3; /* does not divide 2 */
    assert_int_not_equal(sdpa_choose(&p, &t, &s, &e), OK);
    assert_null(p.config);
    assert_non_null(strstr(e.message, "cuDNN"));
    s = shape_of(&odd, 0);
    s.sequences = -1;
    e = (struct err){0};
    assert_int_equal(sdpa_choose(&p, &t, &s, &e), ERR_DEVICE);
    assert_non_null(strstr(e.message, "cuDNN does not take"));
    lib->cudnnBackendDestroyDescriptor(t.properties);
    assert_int_equal(descriptors, 0);
}

/* cuDNN looks for the driver by its name, which a stub bears too. */
static int find_driver(void)
{
    if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL)) return 1;
#ifdef CUDA_STUB
    if (dlopen(CUDA_STUB, RTLD_NOW | RTLD_GLOBAL)) return 1;
#endif
    return 0;
}

int main(void)
{
    struct err e = {0};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hopper),
        cmocka_unit_test(test_ampere),
        cmocka_unit_test(test_refused),
    };
    real = cudnn_load(&e);
    if (!real) {
        print_message("skipped, no cuDNN: %s; %s\n", e.message, e.hint);
        return 77;
    }
    if (!find_driver()) {
        print_message("skipped: neither libcuda.so.1 nor CUDA's stub of it is found\n");
        return 77;
    }
    counting = *real;
    counting.cudnnBackendCreateDescriptor = create_counted;
    counting.cudnnBackendDestroyDescriptor = destroy_counted;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
