#include "run/memory.h"

#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/io.h"
#include "base/size.h"

static const struct {
    const char *name, *text;
} items[NUM_MEMORY_ITEMS] = {
#define X(name, text) {#name, text},
    MEMORY_TABLE(X)
#undef X
};

const char *memory_item_name(enum memory_item i) { return items[i].name; }
const char *memory_item_text(enum memory_item i) { return items[i].text; }

/* --- what the system says --- */

/* A small text file of /proc or /sys; 0: not there. */
static int read_text(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(out, 1, size - 1, f) : 0;
    if (f) fclose(f);
    out[n] = 0;
    return n > 0;
}

/* The number behind a line's `key`, in bytes (lines say kB); 0: none. */
static size_t line_bytes(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (!strncmp(at, key, n)) return (size_t)strtoull(at + n, NULL, 10) * 1024;
    return 0;
}

static size_t status_bytes(const char *key)
{
    char text[4096];
    return read_text("/proc/self/status", text, sizeof text) ? line_bytes(text, key) : 0;
}

size_t memory_resident(void) { return status_bytes("VmRSS:"); }
size_t memory_peak(void) { return status_bytes("VmHWM:"); }

/* --- the account --- */

#define BLOCK_LIMIT (1 << 18) /* bytes; blocks from here on are mapped, and unmapped when freed */

void memory_steady(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, BLOCK_LIMIT); /* naming it stops glibc from raising it */
    mallopt(M_TRIM_THRESHOLD, 2 * BLOCK_LIMIT);
#endif
}

#define WORKSPACE_LIMIT (1 << 25) /* bytes; glibc takes no more */

void memory_hold(struct memory_account *a)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, WORKSPACE_LIMIT);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
    a->held = 1;
}

static size_t heap_in_use(void)
{
#ifdef __GLIBC__
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
#else
    return 0;
#endif
}

/* How much more there is than before; `before` becomes `now`. */
static size_t growth(size_t *before, size_t now)
{
    size_t grown = now > *before ? now - *before : 0;
    *before = now;
    return grown;
}

static size_t look(struct memory_account *a)
{
    char text[4096];
#ifdef __GLIBC__
    if (!a->held) malloc_trim(0);
#endif
    if (!read_text("/proc/self/status", text, sizeof text)) text[0] = 0;
    size_t code = growth(&a->code, line_bytes(text, "RssFile:") + line_bytes(text, "RssShmem:"));
    size_t touched = growth(&a->anonymous, line_bytes(text, "RssAnon:"));
    size_t given = growth(&a->heap, heap_in_use());
    return code + size_max(touched, given);
}

void memory_begin(struct memory_account *a)
{
    *a = (struct memory_account){0};
    a->item[MEMORY_libraries] = look(a);
}

void memory_take(struct memory_account *a, enum memory_item i) { a->item[i] += look(a); }

void memory_add(struct memory_account *a, enum memory_item i, size_t bytes) { a->item[i] += bytes; }

void memory_note_peak(struct memory_account *a, size_t before)
{
    size_t now = memory_peak();
    if (now > before) a->transient = size_max(a->transient, now + ((size_t)1 << 20));
}

size_t memory_sum(const struct memory_account *a)
{
    size_t sum = 0;
    for (int i = 0; i < NUM_MEMORY_ITEMS; i++) sum += a->item[i];
    return sum;
}

/* --- what is left --- */

static void lower(size_t *most, size_t bytes, const char *why, const char **limit)
{
    if (bytes >= *most) return;
    *most = bytes;
    *limit = why;
}

/* A control group's limit less what it uses and cannot drop (its page cache is dropped first).
 * `dir` is the group's folder; the names differ between the versions. */
static void lower_by_group(size_t *most, const char *dir, int v2, const char **limit)
{
    char path[IO_PATH_MAX], text[8192];
    snprintf(path, sizeof path, "%s/%s", dir, v2 ? "memory.max" : "memory.limit_in_bytes");
    if (!read_text(path, text, sizeof text) || !strncmp(text, "max", 3)) return;
    size_t bound = (size_t)strtoull(text, NULL, 10), cache = 0;
    if (bound > SIZE_MAX / 4) return; /* v1 writes "unlimited" as a huge number */
    snprintf(path, sizeof path, "%s/%s", dir, v2 ? "memory.current" : "memory.usage_in_bytes");
    if (!read_text(path, text, sizeof text)) return;
    size_t used = (size_t)strtoull(text, NULL, 10);
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    if (read_text(path, text, sizeof text)) /* plain bytes there, no kB */
        cache = (line_bytes(text, v2 ? "inactive_file " : "total_inactive_file ") +
                 line_bytes(text, v2 ? "active_file " : "total_active_file ")) /
                1024;
    used = used > cache ? used - cache : 0;
    lower(most, bound > used ? bound - used : 0, "the control group's limit", limit);
}

/* The group and all above it: each may have a limit. */
static void lower_by_groups(size_t *most, const char *root, const char *group, int v2,
                            const char **limit)
{
    char dir[IO_PATH_MAX];
    if ((size_t)snprintf(dir, sizeof dir, "%s%s", root, group) >= sizeof dir) return;
    size_t shortest = strlen(root);
    for (;;) {
        lower_by_group(most, dir, v2, limit);
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < shortest) return;
        *slash = 0;
    }
}

/* /proc/self/cgroup: "4:memory:/path" (v1), "0::/path" (v2). */
static void lower_by_control_groups(size_t *most, const char **limit)
{
    char text[8192], *rest;
    if (!read_text("/proc/self/cgroup", text, sizeof text)) return;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        if (!strcmp(names + 1, "memory"))
            lower_by_groups(most, "/sys/fs/cgroup/memory", group, 0, limit);
        else if (!names[1])
            lower_by_groups(most, "/sys/fs/cgroup", group, 1, limit);
    }
}

static void lower_by_rlimit(size_t *most, int resource, const char *used, const char **limit)
{
    struct rlimit r;
    if (getrlimit(resource, &r) || r.rlim_cur == RLIM_INFINITY) return;
    size_t now = status_bytes(used), bound = (size_t)r.rlim_cur;
    lower(most, bound > now ? bound - now : 0, "a limit on this process (ulimit)", limit);
}

size_t memory_available(const char **limit)
{
    char text[4096];
    const char *why = "the machine's memory";
    size_t most = SIZE_MAX / 2;
    if (read_text("/proc/meminfo", text, sizeof text)) most = line_bytes(text, "MemAvailable:");
    lower_by_control_groups(&most, &why);
    lower_by_rlimit(&most, RLIMIT_AS, "VmSize:", &why);
    lower_by_rlimit(&most, RLIMIT_DATA, "VmData:", &why);
    if (limit) *limit = why;
    return most;
}
