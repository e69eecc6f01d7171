/* pairs.h - the data of the second act: instructions answered in two manners, and pairs that say
 * which of the two is better. */
#ifndef CRIA_QUICKSTART_PAIRS_H
#define CRIA_QUICKSTART_PAIRS_H

#include "base/status.h"
#include "task.h"

/* Writes into an existing folder
 *   wordy.jsonl         instructions, each answered long-winded by the toss of a coin, else short
 *   pairs.jsonl         alpaca_pairs: the short form chosen, the long-winded one rejected
 *   swapped.jsonl       the same, each pair turned round by the toss of a coin: a control
 *   asked.jsonl         the held-out instructions, answered short
 *   heldout-pairs.jsonl pairs of them
 * Which task has which manner follows from `seed`. ERR_IO, ERR_MEMORY. */
struct pairs_tasks {
    const struct task *wordy, *paired, *held_out;
    int num_wordy, num_paired, num_held_out;
};
MUST_CHECK enum status pairs_write(const struct pairs_tasks *t, uint32_t seed, const char *dir,
                                   struct err *e);

#endif
