#include "run/products.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { MOST = 4096 }; /* a step has some tens */

enum status products_to_json(const struct device *d, json_t *state, struct err *e)
{
    if (!d->k->products) return OK;
    struct kern_product *list = mem_calloc(MOST, sizeof *list);
    json_t *products = json_object();
    int32_t n = list ? d->k->products(d, list, MOST) : 0;
    int failed = !list || !products;
    for (int32_t i = 0; i < n && i < MOST; i++)
        failed |= json_object_set_new(products, list[i].shape, json_string(list[i].algorithm)) != 0;
    mem_free(list);
    failed |= json_object_set_new(state, "products", products) != 0;
    return failed ? err_set(e, ERR_MEMORY, "no memory for the run's state") : OK;
}

static enum status check_one(struct device *d, const char *shape, const char *was, struct err *e)
{
    struct kern_product now = {0};
    snprintf(now.shape, sizeof now.shape, "%s", shape);
    TRY(d->k->product_algorithm(d, &now, e));
    if (!strcmp(now.algorithm, was)) return OK;
    err_set(e, ERR_CONFIG,
            "cannot resume: the product %s was computed by \"%.80s\", now it would be by \"%.80s\"",
            shape, was, now.algorithm);
    return err_hint(e, "resume with the cuBLASLt that the run began with, or start anew");
}

enum status products_check(struct device *d, const json_t *state, const char *path, struct err *e)
{
    json_t *products = json_object_get(state, "products"), *was;
    const char *shape;
    if (!d->k->products || !products) return OK;
    if (!json_is_object(products))
        return err_at(e, ERR_FORMAT, path, 0, 0, "\"products\" should be an object");
    json_object_foreach(products, shape, was)
    {
        enum status s = ERR_FORMAT;
        if (json_is_string(was))
            s = check_one(d, shape, json_string_value(was), e);
        else
            err_set(e, s, "the algorithm of %.100s should be a text", shape);
        if (s == ERR_FORMAT) return err_wrap(e, "%s", path);
        TRY(s);
    }
    return OK;
}
