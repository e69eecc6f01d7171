#include "data/prepare/crew.h"

#include <pthread.h>
#include <sched.h>

#define FED_MAX 16 /* threads that one reader and one writer keep busy */

/* Blocks are numbered; block b lies in slot b % slots. settled <= taken <= filled. */
struct crew {
    const struct crew_job *job;
    size_t slots;
    pthread_mutex_t lock;
    pthread_cond_t change;
    size_t filled, taken, settled;                /* how many blocks */
    unsigned char done[2 * CREW_THREADS_MAX + 2]; /* by slot: worked on, not settled */
    int filling, settling, exhausted;
    enum status status;
    struct err *e;
};

struct member {
    struct crew *crew;
    size_t thread;
    pthread_t id;
};

size_t crew_slots(size_t threads) { return 2 * threads + 2; }

size_t crew_threads(size_t wanted)
{
    cpu_set_t set;
    if (wanted) return wanted < CREW_THREADS_MAX ? wanted : CREW_THREADS_MAX;
    size_t cores = sched_getaffinity(0, sizeof set, &set) ? 1 : (size_t)CPU_COUNT(&set);
    return cores < FED_MAX ? cores : FED_MAX;
}

static void settle_one(struct crew *c)
{
    size_t slot = c->settled % c->slots;
    c->settling = 1;
    pthread_mutex_unlock(&c->lock);
    enum status s = c->job->settle(c->job->ctx, slot, c->e);
    pthread_mutex_lock(&c->lock);
    c->settling = 0;
    c->done[slot] = 0;
    c->settled++;
    c->status = s;
}

static void fill_one(struct crew *c)
{
    size_t slot = c->filled % c->slots;
    c->filling = 1;
    pthread_mutex_unlock(&c->lock);
    int more = c->job->fill(c->job->ctx, slot);
    pthread_mutex_lock(&c->lock);
    c->filling = 0;
    c->exhausted = !more;
    c->filled += more != 0;
}

static void work_one(struct crew *c, size_t thread)
{
    size_t slot = c->taken++ % c->slots;
    pthread_mutex_unlock(&c->lock);
    c->job->work(c->job->ctx, slot, thread);
    pthread_mutex_lock(&c->lock);
    c->done[slot] = 1;
}

/* Settling makes room, filling makes work: both go first, filling only while little lies ready. */
static void run(struct crew *c, size_t thread)
{
    pthread_mutex_lock(&c->lock);
    while (!c->status && !(c->exhausted && c->settled == c->filled)) {
        int room = !c->filling && !c->exhausted && c->filled - c->settled < c->slots;
        int ready = c->filled > c->taken;
        if (!c->settling && c->done[c->settled % c->slots])
            settle_one(c);
        else if (room && c->filled - c->taken < c->slots / 2)
            fill_one(c);
        else if (ready)
            work_one(c, thread);
        else {
            pthread_cond_wait(&c->change, &c->lock);
            continue;
        }
        pthread_cond_broadcast(&c->change);
    }
    pthread_mutex_unlock(&c->lock);
}

static void *run_member(void *arg)
{
    struct member *m = arg;
    run(m->crew, m->thread);
    return NULL;
}

enum status crew_run(const struct crew_job *job, size_t threads, struct err *e)
{
    struct crew c = {.job = job,
                     .slots = crew_slots(threads),
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .change = PTHREAD_COND_INITIALIZER,
                     .e = e};
    struct member members[CREW_THREADS_MAX];
    size_t started = 1;
    for (; started < threads; started++) {
        members[started] = (struct member){.crew = &c, .thread = started};
        if (pthread_create(&members[started].id, NULL, run_member, &members[started])) break;
    }
    run(&c, 0);
    for (size_t i = 1; i < started; i++) pthread_join(members[i].id, NULL);
    pthread_cond_destroy(&c.change);
    pthread_mutex_destroy(&c.lock);
    return c.status;
}
