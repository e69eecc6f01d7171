/* runtime.h - the part of the CUDA runtime that kernels/cuda uses, for the host.
 *
 * Names and arguments are CUDA's. A stream is a queue: what is put into it happens only when
 * somebody waits, and several streams then take turns drawn from the seed, held only by their
 * events. So a missing wait between streams, a host buffer that is used again too early, or a
 * result that is read before it is there shows as wrong numbers, as on a device but every time.
 *
 * A stream can be captured: capture.cc, by CUDA's rules. What is captured keeps the values of its
 * arguments; calls that CUDA forbids meanwhile (waits of the host, allocations, copies from or to
 * memory that is not pinned) fail as there, and break the capture.
 *
 * Device memory is host memory: filled with NaN, its last 256 bytes before an unmapped page; an
 * unmapped page lies before it too. Bytes behind the size asked for are looked at when it is
 * freed. cudaMalloc fails, as a device's does, behind emu_memory_limit.
 */
#ifndef CRIA_KERNELS_EMU_RUNTIME_H
#define CRIA_KERNELS_EMU_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int cudaError_t;
enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorIllegalState = 401,
    cudaErrorLaunchFailure = 719,
    cudaErrorNotSupported = 801,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureUnmatched = 903,
    cudaErrorStreamCaptureUnjoined = 904,
    cudaErrorStreamCaptureIsolation = 905,
    cudaErrorCapturedEvent = 907
};

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };

enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
};
enum {
    cudaStreamNonBlocking = 1,
    cudaEventDefault = 0,
    cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0
};

typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;
typedef struct emu_graph *cudaGraph_t;
typedef struct emu_graph_exec *cudaGraphExec_t;

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
};

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t s);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t s);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s);

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t g, cudaStream_t s);
cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
/* How many graphs have been made executable, and how many times one was launched. */
void emu_graph_counts(long *recorded, long *replayed);
/* Bytes of the device's memory that a node of an executable graph takes; 0: what it starts at. */
void emu_set_graph_bytes(size_t bytes);
/* What the end of every capture says; starts as cudaSuccess. */
void emu_set_capture_error(cudaError_t error);

/* NVTX's ranges: counted, and the end of one that nobody began is a fault. */
int nvtxRangePushA(const char *name);
int nvtxRangePop(void);
int emu_ranges(void); /* open now */

/* Seeds the schedule of blocks, threads and streams; 0: blocks in order. */
void emu_set_seed(uint64_t seed);

/* How many devices there are (1), and what the driver says when asked (cudaSuccess). */
void emu_set_devices(int count, cudaError_t answer);
/* How often one was opened. */
int emu_devices_opened(void);
/* What the library behind products says of its algorithm; starts as "the CBLAS". */
void emu_set_algorithm(const char *name);
/* Bytes of device memory there are in all; starts at 8 GB. */
void emu_set_memory(size_t bytes);
/* Bytes of shared memory the device says a block may have; starts at what sm_90 gives. */
void emu_set_shared(size_t bytes);
/* Whether there is a cuDNN (there is), and how many of its plans have been started. */
void emu_set_cudnn(int there);
long emu_cudnn_runs(void);

#ifdef __cplusplus
}

#include <functional>

/* Puts work into a stream. */
void emu_enqueue(cudaStream_t s, std::function<void()> work);
#endif

#endif
