#include "kernels/cuda/gemm_shape.h"

#include <stdio.h>
#include <string.h>

enum { FIELDS = sizeof(struct gemm_shape) / sizeof(int32_t) };
_Static_assert(FIELDS == 17, "a field that the text lacks");

static int32_t alignment(const void *p, int32_t ld, size_t size)
{
    uintptr_t bits = (uintptr_t)p | ((uintptr_t)ld * size) | 16;
    return (int32_t)(bits & -bits);
}

struct gemm_shape gemm_shape_of(const struct gemm *g)
{
    size_t in = dtype_size(g->type), out = dtype_size(g->out);
    int add = g->beta != 0;
    struct gemm_shape s = {.M = g->M,
                           .N = g->N,
                           .K = g->K,
                           .lda = g->lda,
                           .ldb = g->ldb,
                           .ldc = g->ldc,
                           .ldc0 = add ? g->ldc0 : g->ldc,
                           .type = (int32_t)g->type,
                           .out = (int32_t)g->out,
                           .turn_a = g->turn_a != 0,
                           .turn_b = g->turn_b != 0,
                           .bias = g->bias != NULL,
                           .add = add};
    s.align[0] = alignment(g->a, g->lda, in);
    s.align[1] = alignment(g->b, g->ldb, in);
    s.align[2] = alignment(g->c, g->ldc, out);
    s.align[3] = add ? alignment(g->c0, g->ldc0, out) : s.align[2];
    return s;
}

struct gemm gemm_of_shape(const struct gemm_shape *s)
{
    return (struct gemm){.M = s->M,
                         .N = s->N,
                         .K = s->K,
                         .lda = s->lda,
                         .ldb = s->ldb,
                         .ldc = s->ldc,
                         .ldc0 = s->ldc0,
                         .type = (enum dtype)s->type,
                         .out = (enum dtype)s->out,
                         .turn_a = s->turn_a,
                         .turn_b = s->turn_b,
                         .beta = (float)s->add};
}

/* The numbers in the struct's order. */
#define TEXT                                                                                   \
    "%dx%dx%d, strides %d %d %d %d, types %d %d, turned %d %d, bias %d, added to %d, aligned " \
    "%d %d %d %d"

void gemm_shape_text(const struct gemm_shape *s, char *out, size_t size)
{
    snprintf(out, size, TEXT, s->M, s->N, s->K, s->lda, s->ldb, s->ldc, s->ldc0, s->type, s->out,
             s->turn_a, s->turn_b, s->bias, s->add, s->align[0], s->align[1], s->align[2],
             s->align[3]);
}

enum status gemm_shape_parse(struct gemm_shape *s, const char *text, struct err *e)
{
    char again[160];
    int n = sscanf(text, TEXT, &s->M, &s->N, &s->K, &s->lda, &s->ldb, &s->ldc, &s->ldc0, &s->type,
                   &s->out, &s->turn_a, &s->turn_b, &s->bias, &s->add, &s->align[0], &s->align[1],
                   &s->align[2], &s->align[3]);
    int good = n == FIELDS && s->M > 0 && s->N > 0 && s->K > 0 && s->type >= DTYPE_F32 &&
               s->type <= DTYPE_BF16 && s->out >= DTYPE_F32 && s->out <= DTYPE_BF16;
    if (good) gemm_shape_text(s, again, sizeof again);
    if (good && !strcmp(again, text)) return OK;
    return err_set(e, ERR_FORMAT, "\"%.100s\" is no product's shape", text);
}
