/* streams.h - streams, events and captures of the emulated runtime; for runtime.cc and capture.cc.
 *
 * While a stream is captured, what is put into it becomes a node of a graph, behind the nodes that
 * the stream and the events it waited for have come to. A launch puts the nodes into a stream in an
 * order drawn anew each time, any that their edges allow: a missing edge shows as wrong numbers.
 */
#ifndef CRIA_KERNELS_EMU_STREAMS_H
#define CRIA_KERNELS_EMU_STREAMS_H

#include <chrono>
#include <deque>
#include <functional>
#include <vector>

#include "kernels/emu/runtime.h"
#include "kernels/emu/strand.h"

/* What a stream does next: work, or wait until `event` has been recorded `wanted` times. It stays
 * where it was made, before its token: on the host's stack TSan would take it for what was there.
 */
struct task {
    std::function<void()> work;
    struct emu_event *event;
    uint64_t wanted;
    char *order; /* TSan's token: what came before its being queued */
};

/* To TSan a stream is a thread, so that work of two streams, or of one and the host, on the same
 * bytes without an event between is a race in whatever turns they come. Tokens go round. */
enum { TOKENS = 64 };

struct emu_stream {
    std::deque<struct task *> queue;
    struct emu::strand strand;
    uint64_t queued;
    char order[TOKENS], done;
    uint64_t capture;       /* it is part of; 0: none */
    std::vector<int> nodes; /* of the capture, which the next one comes behind */
};

struct emu_event {
    uint64_t asked, recorded;
    std::chrono::steady_clock::time_point when;
    char order[TOKENS];
    uint64_t capture; /* it was last recorded in; 0: none */
    std::vector<int> nodes;
};

/* Whether a capture is under way; then a call that CUDA forbids in its thread breaks it. */
bool emu_capturing();
/* Breaks the capture that is under way and returns `error`. */
cudaError_t emu_capture_break(cudaError_t error);
/* Work for a captured stream. */
void emu_capture_add(struct emu_stream *s, std::function<void()> work);
/* A stream that is captured, or waits for an event that was. */
cudaError_t emu_capture_wait(struct emu_stream *s, struct emu_event *e);
/* Pinned memory that copies may use in a capture. */
bool emu_is_pinned(const void *p, size_t bytes);
/* Takes so much of the device's memory, or gives it back. */
cudaError_t emu_take(long bytes);

#endif
