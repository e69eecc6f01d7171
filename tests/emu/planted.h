/* planted.h - small kernels, each right and with one fault planted.
 *
 * A fault is caught when its run ends the process or gives a wrong result; what is right must
 * pass every time.
 */
#ifndef CRIA_TESTS_EMU_PLANTED_H
#define CRIA_TESTS_EMU_PLANTED_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* name, what runs, what is wrong with it, whether TSan must see it every time */
#define PLANTED(X)                                                                            \
    X(sums, "two sums over a block", NULL, 0)                                                 \
    X(sums_no_barrier, "two sums over a block", "no barrier before the parts are read", 1)    \
    X(sums_reused, "two sums over a block", "the parts are written while still read", 1)      \
    X(turn, "lanes turned by shared memory", NULL, 0)                                         \
    X(turn_no_sync, "lanes turned by shared memory", "no __syncwarp", 1)                      \
    X(product, "a product in a pipeline", NULL, 0)                                            \
    X(product_no_wait, "a product in a pipeline", "copies are not waited for", 0)             \
    X(product_no_barrier, "a product in a pipeline", "others' copies are not waited for", 1)  \
    X(product_reused, "a product in a pipeline", "a buffer is filled while still read", 1)    \
    X(product_past_end, "a product in a pipeline", "a tile lies past shared memory", 0)       \
    X(product_in_flight, "a product in a pipeline", "copies are under way at the end", 0)     \
    X(masked, "causal sums", NULL, 0)                                                         \
    X(masked_by_one, "causal sums", "a row sees one key too many", 0)                         \
    X(masked_past_end, "causal sums", "one element is read past the end", 0)                  \
    X(masked_wrote_past, "causal sums", "one element is written past the end", 0)             \
    X(vote, "a vote of some lanes", NULL, 0)                                                  \
    X(vote_divergent, "a vote of some lanes", "a full mask in a branch", 0)                   \
    X(vote_left, "a vote of some lanes", "some leave before a barrier", 0)                    \
    X(flash, "flash attention", NULL, 0)                                                      \
    X(flash_no_wait, "flash attention", "copies are not waited for", 0)                       \
    X(flash_no_barrier, "flash attention", "others' keys are not waited for", 1)              \
    X(flash_reused, "flash attention", "keys are fetched over those in use", 1)               \
    X(flash_by_one, "flash attention", "a row sees one key too many", 0)                      \
    X(flash_window, "flash attention", "a window is one too wide", 0)                         \
    X(flash_past_end, "flash attention", "one key is read past the end", 0)                   \
    X(flash_back, "its gradients", NULL, 0)                                                   \
    X(flash_back_no_wait, "its gradients", "copies are not waited for", 0)                    \
    X(flash_back_reused, "its gradients", "a stage is filled while still read", 1)            \
    X(flash_back_by_one, "its gradients", "a row sees one key too many", 0)                   \
    X(flash_back_past_end, "its gradients", "one line is read past the end", 0)               \
    X(hopper_back, "gradients on sm_90a", NULL, 0)                                            \
    X(hopper_back_no_wait, "gradients on sm_90a", "an mbarrier is not waited for", 0)         \
    X(hopper_back_parity, "gradients on sm_90a", "another phase is waited for", 0)            \
    X(hopper_back_few_bytes, "gradients on sm_90a", "fewer bytes are expected", 0)            \
    X(hopper_back_many_bytes, "gradients on sm_90a", "more bytes are expected", 0)            \
    X(hopper_back_early, "gradients on sm_90a", "a stage is given back while read", 0)        \
    X(hopper_back_no_fence, "gradients on sm_90a", "no fence before products", 0)             \
    X(hopper_back_no_end, "gradients on sm_90a", "products are not waited for", 0)            \
    X(hopper_back_no_proxy, "gradients on sm_90a", "products do not see what was put", 0)     \
    X(hopper_back_no_barrier, "gradients on sm_90a", "the other half is not waited for", 0)   \
    X(hopper_back_sums, "gradients on sm_90a", "sums are not waited for", 0)                  \
    X(hopper_back_by_one, "gradients on sm_90a", "a row sees one key too many", 0)            \
    X(values, "pairs of bf16, powers of two, short copies", NULL, 0)                          \
    X(streams, "two streams", NULL, 0)                                                        \
    X(streams_no_event, "two streams", "one does not wait for the other", 0)                  \
    X(streams_host, "two streams", "the host's buffer is used again too early", 0)            \
    X(streams_early, "two streams", "the result is read before it is there", 0)               \
    X(copies, "numbers that wait on the host", NULL, 0)                                       \
    X(copies_out_early, "numbers that wait on the host", "sent before they are made", 0)      \
    X(copies_out_reused, "numbers that wait on the host", "their place is used too early", 0) \
    X(copies_in_early, "numbers that wait on the host", "brought back too early", 0)          \
    X(copies_in_read, "numbers that wait on the host", "read before they are back", 0)

enum planted {
#define X(name, what, fault, ordered) PLANTED_##name,
    PLANTED(X)
#undef X
        NUM_PLANTED
};

/* 0: the result was right. */
int planted_run(enum planted p, uint64_t seed);
int planted_flash_run(enum planted p);  /* those of flash attention */
int planted_copies_run(enum planted p); /* those of copies to the host and back */
void planted_hopper(enum planted p);    /* the fault in gradients on sm_90a */

#ifdef __cplusplus
}
#endif

#endif
