#include "base/aside.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char paths[ASIDE_MAX][IO_PATH_MAX]; /* empty: free */

/* The place that holds `path`, or -1. */
static int find(const char *path)
{
    for (int i = 0; i < ASIDE_MAX; i++)
        if (!strcmp(paths[i], path)) return i;
    return -1;
}

void aside_begin(const char *path)
{
    pthread_mutex_lock(&mutex);
    int place = find("");
    if (place >= 0 && strlen(path) < IO_PATH_MAX) snprintf(paths[place], IO_PATH_MAX, "%s", path);
    pthread_mutex_unlock(&mutex);
}

void aside_end(const char *path)
{
    pthread_mutex_lock(&mutex);
    int place = path[0] ? find(path) : -1;
    if (place >= 0) paths[place][0] = 0;
    pthread_mutex_unlock(&mutex);
}

void aside_remove_all(void)
{
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < ASIDE_MAX; i++)
        if (paths[i][0]) unlink(paths[i]);
    pthread_mutex_unlock(&mutex);
}
