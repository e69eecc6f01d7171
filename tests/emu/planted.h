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
    X(hopper, "attention on sm_90a", NULL, 0)                                                 \
    X(hopper_no_wait_q, "attention on sm_90a", "queries are not waited for", 1)               \
    X(hopper_no_wait_k, "attention on sm_90a", "keys are not waited for", 1)                  \
    X(hopper_no_wait_v, "attention on sm_90a", "values are not waited for", 1)                \
    X(hopper_no_wait_free, "attention on sm_90a", "a stage is filled while still read", 1)    \
    X(hopper_parity, "attention on sm_90a", "another phase is waited for", 0)                 \
    X(hopper_parity_free, "attention on sm_90a", "a free stage, by another phase", 0)         \
    X(hopper_few_bytes, "attention on sm_90a", "fewer bytes are expected", 0)                 \
    X(hopper_many_bytes, "attention on sm_90a", "more bytes are expected", 0)                 \
    X(hopper_early_k, "attention on sm_90a", "keys are given back while read", 1)             \
    X(hopper_early_v, "attention on sm_90a", "values are given back while read", 1)           \
    X(hopper_no_fence, "attention on sm_90a", "no fence before products", 0)                  \
    X(hopper_no_end_s, "attention on sm_90a", "scores are not waited for", 0)                 \
    X(hopper_no_end_o, "attention on sm_90a", "sums are not waited for", 0)                   \
    X(hopper_unheld, "attention on sm_90a", "neither, nor are they held", 0)                  \
    X(hopper_rescaled, "attention on sm_90a", "sums rescaled under their product", 0)         \
    X(hopper_packed, "attention on sm_90a", "weights are written while read", 0)              \
    X(hopper_no_turn, "attention on sm_90a", "a turn is not waited for", 0)                   \
    X(hopper_turn_kept, "attention on sm_90a", "a turn is not handed on", 0)                  \
    X(hopper_kept_registers, "attention on sm_90a", "no registers are given", 0)              \
    X(hopper_few_registers, "attention on sm_90a", "too few registers are given", 0)          \
    X(hopper_no_together, "attention on sm_90a", "other warps may still read q", 1)           \
    X(hopper_no_init_fence, "attention on sm_90a", "no fence behind the inits", 0)            \
    X(hopper_no_init_barrier, "attention on sm_90a", "no barrier behind the inits", 1)        \
    X(hopper_by_one, "attention on sm_90a", "a row sees one key too many", 0)                 \
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
    X(hopper_back_no_each, "gradients on sm_90a", "a part goes out before it is put", 0)      \
    X(hopper_back_in_flight, "gradients on sm_90a", "copies are under way at the end", 0)     \
    X(hopper_back_by_one, "gradients on sm_90a", "a row sees one key too many", 0)            \
    X(values, "pairs of bf16, powers of two, short copies", NULL, 0)                          \
    X(streams, "two streams", NULL, 0)                                                        \
    X(streams_no_event, "two streams", "one does not wait for the other", 1)                  \
    X(streams_host, "two streams", "the host's buffer is used again too early", 1)            \
    X(streams_early, "two streams", "the result is read before it is there", 1)               \
    X(copies, "numbers that wait on the host", NULL, 0)                                       \
    X(copies_out_early, "numbers that wait on the host", "sent before they are made", 1)      \
    X(copies_out_reused, "numbers that wait on the host", "their place is used too early", 1) \
    X(copies_in_early, "numbers that wait on the host", "brought back too early", 1)          \
    X(copies_in_read, "numbers that wait on the host", "read before they are back", 1)

enum planted {
#define X(name, what, fault, ordered) PLANTED_##name,
    PLANTED(X)
#undef X
        NUM_PLANTED
};

/* 0: the result was right. */
int planted_run(enum planted p, uint64_t seed);
int planted_flash_run(enum planted p);  /* those of attention */
int planted_copies_run(enum planted p); /* those of copies to the host and back */
/* What planted_flash_run plants on sm_90a, in attention and in its gradients. */
void planted_hopper_forward(enum planted p);
void planted_hopper_backward(enum planted p);

#ifdef __cplusplus
}
#endif

#endif
