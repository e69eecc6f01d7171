#include "cli/signals.h"

#include <pthread.h>
#include <signal.h>

#include "base/aside.h"

static signals_listener *listener;
static sigset_t watched;

static void let_it_end(int number)
{
    sigset_t one;
    aside_remove_all();
    sigemptyset(&one);
    sigaddset(&one, number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(number);
}

static void *wait_for_signals(void *context)
{
    int number;
    (void)context;
    while (!sigwait(&watched, &number))
        if (!listener || !listener(number)) let_it_end(number);
    return NULL;
}

enum status signals_watch(signals_listener *listen, struct err *e)
{
    pthread_t thread;
    listener = listen;
    sigemptyset(&watched);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &watched, NULL);
    if (pthread_create(&thread, NULL, wait_for_signals, NULL)) {
        pthread_sigmask(SIG_UNBLOCK, &watched, NULL);
        return err_set(e, ERR_MEMORY, "no thread to wait for signals could be started");
    }
    pthread_detach(thread);
    return OK;
}
