#include "kernels/cuda/cublaslt.h"

#include <dlfcn.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

static struct cublaslt functions;

/* A function's address, which ISO C does not get from a pointer to data by a cast. */
static int find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

const struct cublaslt *cublaslt_load(struct err *e)
{
    static int loaded;
    if (loaded) return &functions;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    int all = library != NULL;
#define X(name) all = all && find(library, #name, &functions.name);
    CUBLASLT_FUNCTIONS(X)
#undef X
    if (all) {
        loaded = 1;
        return &functions;
    }
    err_set(e, ERR_DEVICE, "%s: %s", LIBRARY, library ? "an older one" : "not found");
    err_hint(e, "install CUDA's cuBLAS %d, or name its folder in LD_LIBRARY_PATH",
             CUBLAS_VER_MAJOR);
    if (library) dlclose(library);
    return NULL;
}
