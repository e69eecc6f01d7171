#include "compare.h"

#include <string.h>

#include "base/json.h"

struct measure {
    double loss, exact, prefix;
};

static enum status read_measure(const json_t *object, const char *path, struct measure *m,
                                struct err *e)
{
    *m = (struct measure){-1, -1, -1};
    TRY(json_get_double(object, "loss", &m->loss, path, e));
    TRY(json_get_double(object, "exact_match", &m->exact, path, e));
    TRY(json_get_double(object, "prefix_match", &m->prefix, path, e));
    if (m->loss < 0 || m->exact < 0 || m->prefix < 0)
        return err_set(e, ERR_FORMAT, "%s lacks loss, exact_match or prefix_match", path);
    return OK;
}

/* "data/heldout/copy.jsonl": "copy" */
static int stem(const char *path, const char **out)
{
    const char *slash = strrchr(path, '/');
    *out = slash ? slash + 1 : path;
    return (int)strcspn(*out, ".");
}

static enum status print_row(FILE *out, const char *name, int width, const json_t *before,
                             const json_t *after, const char *const paths[2], struct err *e)
{
    struct measure b, a;
    TRY(read_measure(before, paths[0], &b, e));
    TRY(read_measure(after, paths[1], &a, e));
    fprintf(out, "  %-6.*s  %8.3f  %8.3f     %6.1f %%  %6.1f %%  %6.1f %%\n", width, name, b.loss,
            a.loss, 100 * b.exact, 100 * b.prefix, 100 * a.exact);
    return OK;
}

static enum status print_sources(FILE *out, const json_t *before, const json_t *after,
                                 const char *const paths[2], struct err *e)
{
    const json_t *olds = json_object_get(before, "sources");
    const json_t *news = json_object_get(after, "sources");
    for (size_t i = 0; i < json_array_size(olds); i++) {
        const json_t *one = json_array_get(olds, i), *other = json_array_get(news, i);
        const char *path = NULL, *same = NULL, *name;
        TRY(json_get_string(one, "path", &path, paths[0], e));
        if (other) TRY(json_get_string(other, "path", &same, paths[1], e));
        if (!path || !same || strcmp(path, same))
            return err_set(e, ERR_FORMAT, "%s and %s tell of different data", paths[0], paths[1]);
        int width = stem(path, &name);
        TRY(print_row(out, name, width, one, other, paths, e));
    }
    return OK;
}

enum status compare_print(FILE *out, const char *before, const char *after, struct err *e)
{
    const char *const paths[2] = {before, after};
    json_t *old = NULL, *new = NULL;
    enum status s = json_parse_file(before, &old, e);
    if (!s) s = json_parse_file(after, &new, e);
    if (!s) {
        fprintf(out, "  %-6s  %8s  %8s     %s\n", "", "loss", "", "right answers");
        fprintf(out, "  %-6s  %8s  %8s     %8s  %8s  %8s\n", "kind", "before", "after", "before",
                "(prefix)", "after");
        s = print_sources(out, old, new, paths, e);
    }
    if (!s) s = print_row(out, "all", 3, old, new, paths, e);
    json_decref(old);
    json_decref(new);
    return s;
}
