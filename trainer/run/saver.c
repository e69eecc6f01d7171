#include "run/saver.h"

#include <signal.h>
#include <stdio.h>

#include "base/mem.h"
#include "kernels/profile.h"
#include "run/save.h"
#include "run/weights.h"

/* Of the memory that is left, the most the copy may take where nobody asked for it. */
enum { AUTO_PART = 4 };

/* Whether there will be checkpoints while training goes on. */
static int saves_between(const struct config *c)
{
    return c->save_steps != 0 || c->load_best_model_at_end;
}

size_t saver_memory(const struct session *s)
{
    const struct config *c = s->config;
    size_t bytes = weights_copy_bytes(&s->engine);
    if (!saves_between(c) || c->async_save == CONFIG_ASYNC_SAVE_FALSE) return 0;
    if (c->async_save == CONFIG_ASYNC_SAVE_TRUE) return bytes;
    int beside = s->engine.device.k->memory != NULL; /* the device computes, the host has time */
    return beside && bytes <= memory_available(NULL) / AUTO_PART ? bytes : 0;
}

enum status saver_open(struct saver *v, const struct session *s, struct err *e)
{
    *v = (struct saver){.bytes = s->memory.item[MEMORY_snapshot]};
    if (!v->bytes) return OK;
    v->session = mem_calloc(1, sizeof *v->session);
    v->copy = v->session ? mem_pages(v->bytes) : NULL;
    if (v->copy) return OK;
    return err_set(e, ERR_MEMORY, "no memory for a copy of %zu bytes of what is saved", v->bytes);
}

/* --- the writer --- */

static void *write_checkpoint(void *context)
{
    struct saver *v = context;
    v->result.status = save_checkpoint(v->session, v->result.path, sizeof v->result.path, &v->err);
    atomic_store(&v->ended, 1);
    return NULL;
}

/* Signals are for the thread that trains. */
static enum status start_thread(struct saver *v, struct err *e)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&v->thread, NULL, write_checkpoint, v);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    v->running = !failed;
    return failed ? err_set(e, ERR_MEMORY, "no thread to save in") : OK;
}

enum status saver_start(struct saver *v, struct session *s, struct err *e)
{
    struct device *d = &s->engine.device;
    *v->session = *s;
    v->session->engine.device.k = profile_inner(d); /* a profile may end before the writer does */
    v->session->engine.copy = v->copy;
    weights_copy(&s->engine, v->copy);
    TRY(d->k->sync(d, e));
    atomic_store(&v->ended, 0);
    v->err = (struct err){0};
    v->result = (struct saver_result){.step = s->done};
    return start_thread(v, e);
}

int saver_collect(struct saver *v, int wait, struct saver_result *out, struct err *e)
{
    if (!v->running || (!wait && !atomic_load(&v->ended))) return 0;
    pthread_join(v->thread, NULL);
    v->running = 0;
    *out = v->result;
    if (v->result.status) *e = v->err;
    return 1;
}

void saver_close(struct saver *v)
{
    if (v->running) pthread_join(v->thread, NULL);
    mem_pages_free(v->copy, v->bytes);
    mem_free(v->session);
    *v = (struct saver){0};
}
