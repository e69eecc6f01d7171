#include "fuzz/fuzz.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

static char folder[FUZZ_PATH_MAX];

static void remove_folder(void)
{
    struct err e = {0};
    if (io_remove_tree(folder, &e)) fprintf(stderr, "%s\n", e.message);
}

const char *fuzz_dir(void)
{
    if (folder[0]) return folder;
    snprintf(folder, sizeof folder, "%s/cria-fuzz-XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    FUZZ_MUST(mkdtemp(folder));
    atexit(remove_folder);
    return folder;
}

void fuzz_path(const char *name, char out[FUZZ_PATH_MAX])
{
    snprintf(out, FUZZ_PATH_MAX, "%s/%s", fuzz_dir(), name);
}

void fuzz_write(const char *name, const void *data, size_t size, char out[FUZZ_PATH_MAX])
{
    fuzz_path(name, out);
    int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    FUZZ_MUST(fd >= 0);
    FUZZ_MUST(!size || write(fd, data, size) == (ssize_t)size);
    close(fd);
}

void fuzz_copy(const char *from, const char *name, char out[FUZZ_PATH_MAX])
{
    struct buf content;
    struct err e = {0};
    buf_init(&content, 1 << 26);
    FUZZ_MUST(!io_read_file(from, &content, &e));
    fuzz_write(name, content.data, content.len, out);
    buf_free(&content);
}

void fuzz_look_at(enum status s, const struct err *e)
{
    if (!s) return;
    FUZZ_MUST(e->code == s);
    FUZZ_MUST(e->message[0]);
    FUZZ_MUST(strlen(e->message) < sizeof e->message);
}
