#include "record_file.h"

#include "base/io.h"

enum status record_file_open(FILE **out, const char *dir, const char *name, struct err *e)
{
    char joined[IO_PATH_MAX];
    const char *path = dir ? joined : name;
    if (dir) TRY(io_join(joined, sizeof joined, dir, name, e));
    *out = fopen(path, "w");
    return *out ? OK : err_errno(e, "%s", path);
}

enum status record_file_write(FILE *f, json_t *record, struct err *e)
{
    if (!record) return err_set(e, ERR_MEMORY, "no memory for a record");
    int bad = json_dumpf(record, f, JSON_COMPACT) || putc('\n', f) == EOF;
    json_decref(record);
    return bad ? err_errno(e, "cannot write") : OK;
}

enum status record_file_close(FILE *f, enum status s, struct err *e)
{
    if (fclose(f) && !s) return err_errno(e, "cannot write");
    return s;
}
