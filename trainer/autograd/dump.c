#include "autograd/tape_internal.h"

static enum status put_tensor(const struct tape *t, const struct tensor *x, struct buf *out)
{
    (void)t;
    if (x->name) return buf_printf(out, "%s[%d,%d]", x->name, (int)x->rows, (int)x->cols);
    const char *kind = x->element == ELEMENT_FLOAT  ? ":f32"
                       : x->element == ELEMENT_BYTE ? ":u8"
                                                    : "";
    if (x->is_view || x->cols != x->ld) {
        return buf_printf(out, "%%%d.%d[%d,%d]%s", (int)x->memory->id, (int)x->column, (int)x->rows,
                          (int)x->cols, kind);
    }
    return buf_printf(out, "%%%d[%d,%d]%s", (int)x->memory->id, (int)x->rows, (int)x->cols, kind);
}

static enum status put_list(const struct tape *t, struct tensor *const *list, int n,
                            struct buf *out)
{
    int written = 0;
    for (int i = 0; i < n; i++) {
        if (!list[i]) continue;
        if (written++) TRY(buf_puts(out, ", "));
        TRY(put_tensor(t, list[i], out));
    }
    return OK;
}

static enum status put_saves(const struct tape *t, const struct node *n, struct buf *out)
{
    unsigned saved = t->with_backward ? n->op->saves(n) : 0;
    int written = 0;
    for (int k = 0; k < TAPE_INS + TAPE_OUTS; k++) {
        int is_out = k >= TAPE_INS, i = is_out ? k - TAPE_INS : k;
        const struct tensor *x = is_out ? n->out[i] : n->in[i];
        if (!x || x->is_param || !(saved & (is_out ? SAVE_OUT(i) : SAVE_IN(i)))) continue;
        TRY(buf_puts(out, written++ ? ", " : "   keeps "));
        TRY(put_tensor(t, x, out));
    }
    return OK;
}

enum status tape_print(const struct tape *t, int32_t first, int32_t last, struct buf *out)
{
    if (last < 0 || last > t->num_nodes) last = t->num_nodes;
    for (int32_t i = first; i < last; i++) {
        const struct node *n = &t->nodes[i];
        TRY(buf_printf(out, "%3d ", (int)i));
        if (n->region >= 0) TRY(buf_printf(out, "block %d  ", (int)n->region));
        TRY(put_list(t, n->out, TAPE_OUTS, out));
        TRY(buf_printf(out, " = %s(", n->op->name));
        TRY(put_list(t, n->in, TAPE_INS, out));
        TRY(buf_puts(out, n->op->in_place >= 0 ? ") in place" : ")"));
        TRY(put_saves(t, n, out));
        TRY(buf_putc(out, '\n'));
    }
    return OK;
}
