#include "kernels/cuda/cudnn.h"

#include <dlfcn.h>
#include <string.h>

#define LIBRARY "libcudnn.so.9"

static struct cudnn functions;

/* A function's address, which ISO C does not get from a pointer to data by a cast. */
static int find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

const struct cudnn *cudnn_load(struct err *e)
{
    static int loaded;
    if (loaded) return &functions;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    int all = library != NULL;
#define X(type, name, arguments) all = all && find(library, #name, &functions.name);
    CUDNN_FUNCTIONS(X)
#undef X
    if (all && functions.cudnnGetVersion() >= CUDNN_OLDEST) {
        loaded = 1;
        return &functions;
    }
    err_set(e, ERR_DEVICE, "%s: %s", LIBRARY, library ? "older than 9.19" : "not found");
    err_hint(e, "install cuDNN 9.19 or newer (PyPI's nvidia-cudnn-cu13 brings it), or name its "
                "folder in LD_LIBRARY_PATH");
    if (library) dlclose(library);
    return NULL;
}
