/* signals.h - Ctrl-C and SIGTERM without a handler.
 *
 * A handler's frame is laid under the stack pointer of whichever thread the signal meets, and
 * oneDNN's products (2.6.3) do not keep what lies there free: of 6000 products of 150 x 1024 x 256
 * under a signal each 0.3 ms, every run ended with a broken heap, on one thread and on two. So the
 * signals are blocked in every thread, and one thread of its own waits for them.
 */
#ifndef CRIA_CLI_SIGNALS_H
#define CRIA_CLI_SIGNALS_H

#include "base/status.h"

/* Called by the waiting thread. 0: the signal has its default effect, and the program ends. */
typedef int signals_listener(int number);

/* From here to the program's end SIGINT and SIGTERM go to `listen` (NULL: they end the program).
 * What is half-made (base/aside.h) is removed before the program ends. Before any other thread is
 * made, since threads inherit what is blocked; once. ERR_MEMORY: no thread could be started. */
MUST_CHECK enum status signals_watch(signals_listener *listen, struct err *e);

#endif
