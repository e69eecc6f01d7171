/* aside.h - files that are half-made, so that a program that is told to end leaves none of them.
 *
 *     aside_begin("data.h5.tmp");
 *     ... write, rename or give up ...
 *     aside_end("data.h5.tmp");
 *
 * Who ends the program by a signal calls aside_remove_all first (cli/signals.h). A kill that cannot
 * be caught leaves them; the next one to write the same file removes or overwrites them.
 */
#ifndef CRIA_BASE_ASIDE_H
#define CRIA_BASE_ASIDE_H

/* At most so many at once; more are left behind. */
#define ASIDE_MAX 16

void aside_begin(const char *path); /* copied */
void aside_end(const char *path);   /* of one that was not begun: nothing */
void aside_remove_all(void);        /* from any thread */

#endif
