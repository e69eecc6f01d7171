#include "run/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"
#include "data/store/store.h"
#include "data/tokenizer/normalize.h"
#include "data/tokenizer/split.h"
#include "kernels/kernels.h"
#include "run/memory.h"
#include "run/precision.h"

static struct doctor_check *add(struct doctor *d, const char *name)
{
    struct doctor_check *c = &d->checks[d->count < DOCTOR_CHECKS_MAX - 1 ? d->count++ : d->count];
    *c = (struct doctor_check){.name = name};
    return c;
}

static void PRINTF_LIKE(2, 3) warn(struct doctor_check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->advice, sizeof c->advice, fmt, ap);
    va_end(ap);
    c->warning = 1;
}

/* The first line of a small file without its newline; 0: not there. */
static int read_line(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    char *line = f ? fgets(out, (int)size, f) : NULL;
    if (f) fclose(f);
    if (!line) return 0;
    out[strcspn(out, "\n")] = 0;
    return 1;
}

/* --- processor --- */

static void cpu_name(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, size, "unknown processor");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, size, "%s", colon + 2);
        break;
    }
    if (f) fclose(f);
}

static void check_cpu(struct doctor *d)
{
    struct doctor_check *c = add(d, "cpu");
    char name[128];
    cpu_name(name, sizeof name);
#if defined(__x86_64__)
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = __builtin_cpu_supports("avx512f");
    const char *bf16 = precision_bf16_unit();
    snprintf(c->found, sizeof c->found, "%s; %s; %s%s; computes in fp32", name,
             avx512 ? "AVX-512"
             : avx2 ? "AVX2 and FMA"
                    : "neither AVX2 nor FMA",
             bf16 ? "bf16 by " : "no bf16 products", bf16 ? bf16 : "");
    if (!avx2)
        warn(c, "the kernels run without vector instructions, several times slower: use "
                "another machine, or a virtual one that passes the processor through");
#else
    snprintf(c->found, sizeof c->found, "%s", name);
#endif
}

static int usable_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

/* Cores that a control group's quota amounts to; 0: no quota. */
static double quota_cores(void)
{
    char quota[64], period[64];
    if (read_line("/sys/fs/cgroup/cpu.max", quota, sizeof quota)) {
        char *space = strchr(quota, ' ');
        return !strncmp(quota, "max", 3) || !space ? 0 : strtod(quota, NULL) / strtod(space, NULL);
    }
    if (!read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota, sizeof quota) ||
        !read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period, sizeof period))
        return 0;
    return strtod(quota, NULL) > 0 ? strtod(quota, NULL) / strtod(period, NULL) : 0;
}

static void check_cores(struct doctor *d)
{
    struct doctor_check *c = add(d, "cores");
    int usable = usable_cores();
    double quota = quota_cores(), load = 0;
    char line[64];
    if (read_line("/proc/loadavg", line, sizeof line)) load = strtod(line, NULL);
    int used = snprintf(c->found, sizeof c->found, "%d usable of %ld, load %.1f", usable,
                        sysconf(_SC_NPROCESSORS_ONLN), load);
    if (quota > 0)
        snprintf(c->found + used, sizeof c->found - (size_t)used, ", a quota of %.1f", quota);
    if (quota > 0 && quota < usable - 0.5)
        warn(c, "a control group gives %.1f cores to %d threads: set threads: %d", quota, usable,
             quota < 1 ? 1 : (int)quota);
    else if (load > 1.5 * usable)
        warn(c, "others are computing here: steps take longer than planned, and waiting threads "
                "burn time unless OMP_WAIT_POLICY=passive is set");
}

/* --- memory --- */

static void check_memory(struct doctor *d)
{
    struct doctor_check *c = add(d, "memory");
    const char *limit;
    size_t left = memory_available(&limit);
    snprintf(c->found, sizeof c->found, "%.1f GB for this process (%s)", (double)left / 1e9, limit);
    if (left < (size_t)1 << 30)
        warn(c, "there is little: end other programs or raise the limit; cria plan says what a run "
                "takes");
}

/* --- the products --- */

static void check_blas(struct doctor *d, struct device *device)
{
    struct doctor_check *c = add(d, "blas");
    device->k->describe(device, c->found, sizeof c->found);
    if (!strstr(c->found, "OpenBLAS"))
        warn(c, "install OpenBLAS (Debian: libopenblas0-openmp) and build against it: products are "
                "most of a step");
    else if (!strstr(c->found, "USE_OPENMP"))
        warn(c,
             "install OpenBLAS's OpenMP build (Debian: libopenblas0-openmp): its threads and ours "
             "get in each other's way");
    const char *set = getenv("OPENBLAS_NUM_THREADS");
    if (!c->warning && set)
        warn(c, "OPENBLAS_NUM_THREADS=%s is set: unset it and use the key threads", set);
    if (!c->warning && !strstr(c->found, "oneDNN") && !strstr(c->found, "portable"))
        warn(c,
             "install oneDNN (Debian: libdnnl-dev) and build again: its products are faster here");
}

static void check_gemm(struct doctor *d, struct device *device)
{
    struct doctor_check *c = add(d, "gemm");
    double rate = device_gemm_peak(device, 0.4) / 1e9;
    double each = rate / (device->threads > 0 ? device->threads : 1);
    snprintf(c->found, sizeof c->found, "%.0f GFLOP/s in fp32 on %d threads, %.0f a thread", rate,
             device->threads, each);
    if (each < 15) warn(c, "this is slow: see cpu, cores and blas above");
}

static void check_device(struct doctor *d)
{
    struct device device = {0};
    struct err e = {0};
    if (device_open(&device, "cpu", 0, &e)) {
        struct doctor_check *c = add(d, "blas");
        warn(c, "%s", e.message);
        return;
    }
    check_blas(d, &device);
    check_gemm(d, &device);
    device_close(&device);
}

enum { INSTRUCTIONS = 64 };

/* Whether the GPU does what the kernels were proven with in emulation. */
static void check_instructions(struct doctor *d, struct device *device)
{
    struct doctor_check *c = add(d, "wrappers");
    struct kern_check check[INSTRUCTIONS];
    struct err e = {0};
    int32_t count = 0, bad = 0;
    int64_t values = 0;
    if (device->k->check(device, 0, check, INSTRUCTIONS, &count, &e)) {
        warn(c, "%.200s", e.message);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        values += check[i].values;
        if (!check[i].wrong) continue;
        if (!bad++)
            snprintf(c->found, sizeof c->found, "%.64s: %d of %d values are wrong", check[i].name,
                     check[i].wrong, check[i].values);
    }
    if (!bad)
        snprintf(c->found, sizeof c->found, "%d do what their twins do, over %lld values",
                 (int)count, (long long)values);
    else
        warn(c, "%d of %d wrappers fail: do not train on this GPU, and tell us", (int)bad,
             (int)count);
}

/* The one engine of attention that wants a library which CUDA does not bring. */
static void check_cudnn(struct doctor *d, struct device *device)
{
    struct doctor_check *c = add(d, "cudnn");
    struct err e = {0};
    if (device_set_attention(device, ATTENTION_CUDNN, 128, &e))
        snprintf(c->found, sizeof c->found, "not to be had; %s", e.hint);
    else
        snprintf(c->found, sizeof c->found, "found, for attention: cudnn");
    device->attention = ATTENTION_AUTO;
}

static void check_gpu(struct doctor *d)
{
    struct doctor_check *c = add(d, "gpu");
    int there = io_exists("/dev/nvidia0");
    struct device device = {0};
    struct err e = {0};
    enum status status = device_open(&device, "cuda", 0, &e);
    if (!status) device.k->describe(&device, c->found, sizeof c->found);
    if (!status && device.k->check) check_instructions(d, &device);
    if (!status) check_cudnn(d, &device);
    device_close(&device);
    if (!status) return;
    snprintf(c->found, sizeof c->found, "%s: %s", there ? "not used" : "none", e.message);
    if (there) warn(c, "the GPU stays idle: %s", e.hint);
}

/* --- libraries --- */

static void add_version(struct doctor *d, const char *name, const char *version)
{
    struct doctor_check *c = add(d, name);
    snprintf(c->found, sizeof c->found, "%s", version);
}

static void check_libraries(struct doctor *d)
{
    char text[64];
    add_version(d, "cria", CRIA_VERSION);
    store_library_version(text, sizeof text);
    add_version(d, "hdf5", text);
    add_version(d, "jansson", jansson_version_str());
    add_version(d, "libyaml", config_yaml_version());
    split_library_version(text, sizeof text);
    add_version(d, "pcre2", text);
    add_version(d, "utf8proc", normalize_library_version());
}

/* --- disk --- */

/* The nearest folder above that exists. */
static void existing_dir(const char *dir, char *out, size_t size)
{
    snprintf(out, size, "%s", dir);
    while (*out && !io_is_dir(out)) {
        char *slash = strrchr(out, '/');
        if (!slash) {
            snprintf(out, size, ".");
            return;
        }
        slash[slash == out] = 0;
    }
}

#define DISK_BYTES ((size_t)32 << 20)

/* Bytes a second, written and synced; 0: cannot write, errno says why. */
static double write_rate(const char *dir)
{
    char path[IO_PATH_MAX];
    struct err e = {0};
    if ((size_t)snprintf(path, sizeof path, "%s/.cria-doctor-XXXXXX", dir) >= sizeof path) return 0;
    int fd = mkstemp(path);
    if (fd < 0) return 0;
    void *block = mem_calloc(1, DISK_BYTES);
    double began = clock_seconds();
    int failed = !block || io_write_all(fd, block, DISK_BYTES, path, &e) || fsync(fd);
    double took = clock_seconds() - began;
    int why = errno;
    mem_free(block);
    close(fd);
    unlink(path);
    errno = why;
    return failed ? 0 : (double)DISK_BYTES / took;
}

static void check_disk(struct doctor *d, const char *dir)
{
    struct doctor_check *c = add(d, "disk");
    char there[IO_PATH_MAX];
    struct statvfs v;
    existing_dir(dir, there, sizeof there);
    double left = statvfs(there, &v) ? 0 : (double)v.f_bavail * (double)v.f_frsize;
    double rate = write_rate(there);
    snprintf(c->found, sizeof c->found, "%.1f GB free at %.200s, %.0f MB/s written and synced",
             left / 1e9, there, rate / 1e6);
    if (rate <= 0)
        warn(c, "cannot write there (%s): choose another output_dir", strerror(errno));
    else if (left < 2e9)
        warn(c, "a checkpoint of a 7B model takes 14 GB and more, of an adapter some 100 MB: make "
                "room, or set save_total_limit");
    else if (rate < 30e6)
        warn(c, "saving will be slow: put output_dir on a local disk, or raise save_steps");
}

void doctor_run(struct doctor *d, const char *dir)
{
    *d = (struct doctor){0};
    check_cpu(d);
    check_cores(d);
    check_memory(d);
    check_device(d);
    check_gpu(d);
    check_disk(d, dir);
    check_libraries(d);
}

enum status doctor_json(const struct doctor *d, struct buf *out, struct err *e)
{
    json_t *o = json_object(), *list = json_array();
    int warnings = 0;
    for (const struct doctor_check *c = d->checks; c < d->checks + d->count; c++) {
        warnings += c->warning;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", c->name, "status",
                                              c->warning ? "warning" : "ok", "found", c->found,
                                              "advice", c->advice));
    }
    json_object_set_new(o, "checks", list);
    json_object_set_new(o, "warnings", json_integer(warnings));
    enum status s = json_append_text(o, out, e);
    json_decref(o);
    return s;
}
