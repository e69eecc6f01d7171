#include "autograd/tape.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "autograd/tape_internal.h"
#include "base/mem.h"
#include "base/size.h"
#include "kernels/profile.h"

#define ATTR_BYTES ((size_t)256) /* a node on average */

enum status tape_create(struct tape **out, struct device *device, int32_t max_nodes, struct err *e)
{
    struct tape *t = mem_calloc(1, sizeof *t);
    *out = t;
    if (!t) goto fail;
    size_t n = (size_t)max_nodes;
    t->device = device;
    t->max_nodes = max_nodes;
    t->max_tensors = 6 * max_nodes; /* outputs, views and the parameters they use */
    t->attrs_size = n * ATTR_BYTES;
    t->nodes = mem_calloc(n, sizeof *t->nodes);
    t->tensors = mem_calloc(6 * n, sizeof *t->tensors);
    t->regions = mem_calloc(n, sizeof *t->regions);
    t->attrs = mem_calloc(n, ATTR_BYTES);
    t->again_at = mem_calloc(n, sizeof *t->again_at);
    t->twice = mem_calloc(6 * n, 1);
    t->next_away = mem_calloc(6 * n, sizeof *t->next_away);
    if (!t->nodes || !t->tensors || !t->regions || !t->attrs || !t->again_at || !t->twice ||
        !t->next_away)
        goto fail;
    tape_reset(t, 0);
    return OK;
fail:
    tape_destroy(t);
    *out = NULL;
    return err_set(e, ERR_MEMORY, "no memory for a tape of %d nodes", (int)max_nodes);
}

void tape_destroy(struct tape *t)
{
    if (!t) return;
    mem_free(t->nodes);
    mem_free(t->tensors);
    mem_free(t->regions);
    mem_free(t->attrs);
    mem_free(t->again_at);
    mem_free(t->twice);
    mem_free(t->next_away);
    mem_free(t);
}

void tape_set_hooks(struct tape *t, struct tape_hooks hooks) { t->hooks = hooks; }
void tape_set_host(struct tape *t, void *host) { t->host = host; }

void tape_reset(struct tape *t, int with_backward)
{
    t->num_nodes = t->num_tensors = t->num_regions = 0;
    t->attrs_used = 0;
    t->open_region = -1;
    t->with_backward = with_backward;
    t->error = (struct err){0};
    t->plan = NULL;
}

enum status tape_status(const struct tape *t, struct err *e)
{
    if (t->error.code) *e = t->error;
    return t->error.code;
}

struct device *tape_device(const struct tape *t) { return t->device; }
int tape_has_backward(const struct tape *t) { return t->with_backward; }
void *tape_scratch(const struct tape *t) { return t->scratch; }

size_t tape_element_size(const struct tape *t, enum element element)
{
    return element == ELEMENT_DEVICE  ? dtype_size(t->device->type)
           : element == ELEMENT_FLOAT ? sizeof(float)
                                      : 1;
}

struct tensor *tape_fail(struct tape *t, const char *op, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    if (t->error.code) return NULL;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&t->error, ERR_SHAPE, "%s: %s", op, text);
    return NULL;
}

static struct tensor *new_tensor(struct tape *t, int32_t rows, int32_t cols, enum element element)
{
    if (t->error.code) return NULL;
    if (t->num_tensors == t->max_tensors) return tape_fail(t, "tape", "more tensors than planned");
    struct tensor *x = &t->tensors[t->num_tensors];
    *x = (struct tensor){.rows = rows, .cols = cols, .ld = cols, .element = element};
    x->id = t->num_tensors++;
    x->memory = x->grad_memory = x;
    x->producer = -1;
    return x;
}

struct tensor *tape_param(struct tape *t, const char *name, void *data, float *grad, int trainable,
                          int32_t rows, int32_t cols, enum element element)
{
    struct tensor *x = new_tensor(t, rows, cols, element);
    if (!x) return NULL;
    x->name = name;
    x->data = data;
    x->grad = grad;
    x->is_param = 1;
    x->needs_grad = trainable && t->with_backward;
    return x;
}

struct tensor *tape_view(struct tape *t, struct tensor *x, int32_t column, int32_t cols)
{
    if (!x) return NULL;
    if (column < 0 || cols <= 0 || column + cols > x->cols)
        return tape_fail(t, "view", "columns %d..%d of %d", (int)column, (int)(column + cols),
                         (int)x->cols);
    struct tensor *v = new_tensor(t, x->rows, cols, x->element);
    if (!v) return NULL;
    v->ld = x->ld;
    v->memory = x->memory;
    v->grad_memory = x->grad_memory;
    v->column = x->column + column;
    v->producer = x->producer;
    v->needs_grad = x->needs_grad;
    v->is_view = 1;
    return v;
}

struct tensor *tape_keep(struct tensor *x)
{
    if (x) x->keep = 1;
    return x;
}

struct node *tape_node(struct tape *t, const struct op *op, size_t attr_bytes)
{
    if (t->error.code) return NULL;
    size_t bytes = size_align(attr_bytes, 16);
    if (t->num_nodes == t->max_nodes || t->attrs_used + bytes > t->attrs_size) {
        tape_fail(t, op->name, "the tape is full at %d nodes", (int)t->num_nodes);
        return NULL;
    }
    struct node *n = &t->nodes[t->num_nodes++];
    *n = (struct node){.op = op, .region = t->open_region, .attr = t->attrs + t->attrs_used};
    memset(n->attr, 0, attr_bytes);
    t->attrs_used += bytes;
    return n;
}

static int inputs_need_grad(const struct node *n)
{
    for (int i = 0; i < TAPE_INS; i++)
        if (n->in[i] && n->in[i]->needs_grad) return 1;
    return 0;
}

struct tensor *tape_output(struct tape *t, struct node *n, int j, int32_t rows, int32_t cols,
                           enum element element)
{
    struct tensor *y = new_tensor(t, rows, cols, element);
    if (!y) return NULL;
    y->producer = (int32_t)(n - t->nodes);
    y->needs_grad = inputs_need_grad(n);
    int a = n->op->addend;
    if (j == 0 && a >= 0 && n->in[a] && n->in[a]->needs_grad)
        y->grad_memory = n->in[a]->grad_memory;
    n->out[j] = y;
    return y;
}

struct tensor *tape_output_in_place(struct tape *t, struct node *n, int j)
{
    struct tensor *x = n->in[n->op->in_place];
    struct tensor *y = new_tensor(t, x->rows, x->cols, x->element);
    if (!y) return NULL;
    y->ld = x->ld;
    y->column = x->column;
    y->memory = x->memory;
    y->grad_memory = x->grad_memory;
    y->producer = (int32_t)(n - t->nodes);
    y->needs_grad = inputs_need_grad(n);
    if (y->needs_grad) { /* a frozen product that an adapter adds to now carries a gradient */
        x->needs_grad = 1;
        x->memory->needs_grad = 1;
    }
    n->out[j] = y;
    return y;
}

int32_t tape_region_begin(struct tape *t, enum recompute how)
{
    assert(t->open_region < 0);
    if (t->num_regions == t->max_nodes) {
        tape_fail(t, "region", "more regions than nodes");
        return -1;
    }
    t->open_region = t->num_regions++;
    t->regions[t->open_region] = (struct region){t->num_nodes, t->num_nodes, how, -1};
    return t->open_region;
}

void tape_region_end(struct tape *t)
{
    if (t->open_region >= 0) t->regions[t->open_region].last = t->num_nodes;
    t->open_region = -1;
}

/* --- running --- */

static void *address(const struct tape *t, const struct tensor *x, const struct tensor *memory,
                     int which)
{
    const struct tape_buffer *b = &t->plan->buffers[tape_buffer_index(memory, which)];
    if (b->first < 0) return NULL;
    return t->step + b->offset + (size_t)x->column * tape_element_size(t, x->element);
}

/* Points the data of every value a node touches at its first or its second life. */
static void point_data(struct tape *t, struct node *n, int again)
{
    struct tensor **groups[2] = {n->in, n->out};
    int sizes[2] = {TAPE_INS, TAPE_OUTS};
    for (int g = 0; g < 2; g++)
        for (int i = 0; i < sizes[g]; i++) {
            struct tensor *x = groups[g][i];
            if (!x || x->is_param) continue;
            int which = again && t->twice[x->memory->id] ? BUFFER_AGAIN : BUFFER_DATA;
            x->data = address(t, x, x->memory, which);
        }
}

enum status tape_bind(struct tape *t, const struct tape_plan *plan, void *step, void *scratch,
                      struct err *e)
{
    TRY(tape_status(t, e));
    if (plan->num_buffers != t->num_tensors * BUFFERS_PER_TENSOR)
        return err_set(e, ERR_SHAPE, "tape: %d tensors recorded, the plan has %d",
                       (int)t->num_tensors, (int)plan->num_buffers / BUFFERS_PER_TENSOR);
    tape_analyse(t);
    t->plan = plan;
    t->step = step;
    t->scratch = scratch;
    for (int32_t i = 0; i < t->num_tensors; i++) {
        struct tensor *x = &t->tensors[i];
        size_t bytes = tape_bytes(t, x);
        const struct tape_buffer *b = &plan->buffers[tape_buffer_index(x, BUFFER_DATA)];
        if (!x->is_param && x->memory == x && b->first >= 0 && bytes > b->bytes)
            return err_set(e, ERR_SHAPE, "tape: tensor %d has %zu bytes, planned were %zu", (int)i,
                           bytes, b->bytes);
        if (!x->is_param)
            x->grad = x->needs_grad ? address(t, x, x->grad_memory, BUFFER_GRAD) : NULL;
    }
    for (int32_t i = 0; i < t->num_nodes; i++) {
        struct node *n = &t->nodes[i];
        point_data(t, n, 0);
        size_t need = n->op->scratch ? n->op->scratch(t, n) : 0;
        if (need > plan->scratch_bytes)
            return err_set(e, ERR_SHAPE, "tape: %s needs %zu bytes of scratch, planned were %zu",
                           n->op->name, need, plan->scratch_bytes);
    }
    return OK;
}

static void tell(const struct tape *t, int entering, int32_t region, enum tape_pass pass)
{
    void (*hook)(void *, int32_t, enum tape_pass) = entering ? t->hooks.enter : t->hooks.leave;
    if (region < 0) return;
    if (entering) profile_enter(t->device, SCOPE_block, region);
    if (hook) hook(t->hooks.context, region, pass);
    if (!entering) profile_leave(t->device);
}

/* The inputs of region r that go to the host, down or up, beside what is queued from here on. */
static void move_away(const struct tape *t, int32_t r, int up)
{
    const struct kernels *k = t->device->k;
    for (int32_t id = t->regions[r].away; id >= 0; id = t->next_away[id]) {
        const struct tensor *m = &t->tensors[id];
        char *host = t->host + t->plan->buffers[tape_buffer_index(m, BUFFER_HOST)].offset;
        if (up)
            k->copy_in(t->device, address(t, m, m, BUFFER_AGAIN), host, tape_bytes(t, m));
        else
            k->copy_out(t->device, host, address(t, m, m, BUFFER_DATA), tape_bytes(t, m));
    }
}

static int is_offloaded(const struct tape *t, int32_t r) { return t->regions[r].away >= 0; }

void tape_forward(struct tape *t)
{
    profile_enter(t->device, SCOPE_forward, -1);
    for (int32_t i = 0; i < t->num_nodes; i++) {
        struct node *n = &t->nodes[i];
        int32_t r = n->region;
        if (i == 0 || t->nodes[i - 1].region != r) {
            tell(t, 1, r, PASS_FORWARD);
            if (r >= 0) move_away(t, r, 0);
        }
        point_data(t, n, 0);
        n->op->forward(t, n);
        if (i + 1 == t->num_nodes || t->nodes[i + 1].region != r) {
            if (r >= 0 && is_offloaded(t, r)) t->device->k->copy_wait(t->device);
            tell(t, 0, r, PASS_FORWARD);
        }
    }
    profile_leave(t->device);
}

/* What the backward of node `at` wants made again. */
static void run_again(struct tape *t, int32_t at)
{
    int32_t r = t->nodes[at].region;
    int any = 0;
    if (r < 0) return;
    for (int32_t i = t->regions[r].first; i < t->regions[r].last; i++) {
        struct node *n = &t->nodes[i];
        if (t->again_at[i] != at) continue;
        if (!any++) profile_enter(t->device, SCOPE_recompute, -1);
        point_data(t, n, 1);
        n->op->forward(t, n);
    }
    if (any) profile_leave(t->device);
}

/* Its inputs are there, those of the region before it on their way, and of a full one all that is
 * made again is made. */
static void enter_backward(struct tape *t, int32_t r)
{
    if (r < 0) return;
    if (is_offloaded(t, r)) t->device->k->copy_wait(t->device);
    if (r > 0) move_away(t, r - 1, 1);
    if (t->regions[r].how >= RECOMPUTE_FULL) {
        tell(t, 1, r, PASS_RECOMPUTE);
        run_again(t, t->regions[r].last - 1);
        tell(t, 0, r, PASS_RECOMPUTE);
    }
    tell(t, 1, r, PASS_BACKWARD);
}

/* A gradient that views write in parts is set once a part is; an in-place op's input and an
 * addend take over the buffer of the output. */
static void hand_over(struct node *n)
{
    const struct op *op = n->op;
    if (op->in_place >= 0) n->in[op->in_place]->grad_set = 1;
    if (op->addend >= 0 && n->in[op->addend]) n->in[op->addend]->grad_set = 1;
}

static int output_has_grad(const struct node *n)
{
    for (int j = 0; j < TAPE_OUTS; j++)
        if (n->out[j] && n->out[j]->needs_grad) return 1;
    return 0;
}

void tape_backward(struct tape *t, struct tensor *root, float *seed)
{
    assert(root && root->element == ELEMENT_FLOAT && t->with_backward && t->plan);
    for (int32_t i = 0; i < t->num_tensors; i++) t->tensors[i].grad_set = 0;
    root->grad = seed;
    profile_enter(t->device, SCOPE_backward, -1);
    for (int32_t i = t->num_nodes - 1; i >= 0; i--) {
        struct node *n = &t->nodes[i];
        int32_t r = n->region;
        if (i + 1 == t->num_nodes || t->nodes[i + 1].region != r) enter_backward(t, r);
        if (r >= 0 && t->regions[r].how == RECOMPUTE_SELECTIVE) run_again(t, i);
        point_data(t, n, 1);
        if (output_has_grad(n)) {
            n->op->backward(t, n);
            hand_over(n);
        }
        if (i == 0 || t->nodes[i - 1].region != r) tell(t, 0, r, PASS_BACKWARD);
    }
    profile_leave(t->device);
}
