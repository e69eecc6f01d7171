/* planted_flash.cu - the flash attention kernels themselves, with faults planted from outside.
 *
 * The sources are compiled here a second time, with what they call renamed to what is below, which
 * does the same but for the fault that `fault` names.
 */
#include "emu/planted.h"

#include "kernels/cuda/attention_line.cuh"
#include "kernels/cuda/attention_tiles.cu"
#include "kernels/emu/runtime.h"

namespace
{

enum planted fault;
unsigned calls[emu::MAX_THREADS]; /* of barriers, by thread */

/* Every other one is left out: forward has two in a step, backward one. */
void planted_barrier()
{
    unsigned call = calls[emu::self->linear]++ % 2;
    if (fault == PLANTED_flash_no_barrier && call == 0) return;
    if (fault == PLANTED_flash_reused && call == 1) return;
    if (fault == PLANTED_flash_back_reused && call == 1) return;
    __syncthreads();
}

template <int LEFT> void planted_wait()
{
    if (fault == PLANTED_flash_no_wait || fault == PLANTED_flash_back_no_wait)
        copy_async_wait<LEFT + 1>();
    else
        copy_async_wait<LEFT>();
}

template <class S, bool LINES, int TILE_ROWS>
void planted_fetch(uint32_t to, const struct flash_side &from, const struct line_group &group,
                   int32_t first, int32_t count)
{
    int more = LINES ? fault == PLANTED_flash_back_past_end : fault == PLANTED_flash_past_end;
    fetch_rows<S, LINES, TILE_ROWS>(to, from, group, first, count + more);
}

template <class S>
void planted_hide_keys(typename S::scores &scores, const struct key_walk &w,
                       const struct line_block &b, int32_t window, const struct line_group &group)
{
    struct line_block off = b;
    if (fault == PLANTED_flash_by_one) off.segment.position++, off.low++, off.high++;
    if (fault == PLANTED_flash_window) window++;
    hide_keys<S>(scores, w, off, window, group);
}

template <class S>
void planted_hide_columns(typename S::scores &scores, const int32_t (&low)[S::ROWS],
                          const int32_t (&high)[S::ROWS])
{
    int32_t off[S::ROWS];
    for (int r = 0; r < S::ROWS; r++) off[r] = low[r] - (fault == PLANTED_flash_back_by_one);
    hide_columns<S>(scores, off, high);
}

/* These inputs hide no NaN, so one in the sums comes of a fault, and is not to be mended. */
template <int N> int planted_is_broken(const float (&sums)[N][4], int half)
{
    if (is_broken(sums, half)) emu::fail("a NaN among the sums");
    return 0;
}

} // namespace

#define is_broken planted_is_broken
#define __syncthreads planted_barrier
#define copy_async_wait planted_wait
#define fetch_rows planted_fetch
#define hide_keys planted_hide_keys
#define hide_columns planted_hide_columns
#include "kernels/cuda/attention_flash.cu"
#include "kernels/cuda/attention_flash_backward.cu"

void cuda_zero(struct device *d, void *p, size_t bytes)
{
    cudaMemsetAsync(p, 0, bytes, cuda_state(d)->compute);
}

void cuda_trace_begin(struct device *, cudaStream_t, const char *) {}
void cuda_trace_launch(struct device *, const char *) {}
void cuda_trace_end(struct device *) {}

void cuda_note(struct device *, cudaError_t error, const char *what)
{
    if (error) emu::fail("%s: %s", what, cudaGetErrorString(error));
}

void cuda_plain_attention_backward(struct device *, const struct kern_attention *,
                                   const struct kern_attention_grad *, void *)
{
    emu::fail("flash attention refuses aligned rows");
}

/* --- what only these kernels use of ptx.cuh, against what the PTX manual says of it --- */

namespace
{

enum { VALUES = 64 };

void values(uint32_t *pairs, float *powers, uint32_t *copies, const float *x)
{
    SHARED(uint2, slot, [VALUES]);
    int t = (int)threadIdx.x;
    pairs[t] = bf16_pair(x[t], x[(t + 1) % VALUES]);
    powers[t] = power_of_2(x[t]);
    copy_async_8(shared_address(&slot[t]), x + t / 2 * 2, t % 3 ? 8 : 0);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    copies[t] = slot[(t + 5) % VALUES].y;
}

int run_values()
{
    struct device d = {};
    struct cuda_state state = {};
    int wrong = 0;
    void *on_device[4];
    cudaStreamCreateWithFlags(&state.compute, cudaStreamNonBlocking);
    d.state = &state;
    for (void *&p : on_device)
        if (cudaMalloc(&p, VALUES * sizeof(float))) emu::fail("no memory");
    float *x = (float *)on_device[3];
    for (int i = 0; i < VALUES; i++) x[i] = (float)(i - 40) * 4; /* bf16 holds them */
    x[7] = -INFINITY, x[8] = 1.00390625f, x[9] = 1.01171875f;    /* ties: down and up to even */
    x[10] = 0.3f, x[11] = -0.7f;
    launch(&d, "values", values, 1, VALUES, 0, (uint32_t *)on_device[0], (float *)on_device[1],
           (uint32_t *)on_device[2], (const float *)x);
    cudaStreamSynchronize(state.compute);
    for (int i = 0; i < VALUES; i++) {
        double power = exp2((double)x[i]), got = (double)((float *)on_device[1])[i];
        if (power < 0x1p-126) power = 0;
        wrong |= !(power > 3e38 ? got == INFINITY : fabs(got - power) <= 0x1p-22 * power);
        int from = (i + 5) % VALUES;
        float y = float_of_bits(((uint32_t *)on_device[2])[i]);
        wrong |= y != (from % 3 ? x[from / 2 * 2 + 1] : 0);
        uint32_t pair = ((uint32_t *)on_device[0])[i];
        float low = float_of_bits(pair << 16), high = float_of_bits(pair & 0xffff0000u);
        float next = x[(i + 1) % VALUES], first = i == 8 ? 1 : i == 9 ? 1.015625f : x[i];
        float second = i == 7 ? 1 : i == 8 ? 1.015625f : next;
        wrong |= i != 10 && i != 11 && low != first; /* those are no bf16 */
        wrong |= i != 9 && i != 10 && high != second;
    }
    for (void *p : on_device) cudaFree(p);
    cudaStreamDestroy(state.compute);
    return wrong;
}

} // namespace

/* --- running --- */

namespace
{

enum { HEADS = 2, SIZE = 64, QUERY = HEADS * SIZE, MOST = 330 }; /* one key head */
const float scale = 0.125f;

/* A prompt, a reply that has it as prefix; a document, and a window; or so many keys that stages
 * of 128 are used again. */
const struct scene {
    int32_t N, window, count;
    struct segment cut[3];
} scenes[] = {{130, 60, 3, {{0, 40, 0, 0, 0, 0}, {40, 30, 39, 0, 39, 0}, {70, 60, 0, 0, 0, 1}}},
              {330, 0, 2, {{0, 270, 0, 0, 0, 0}, {270, 60, 269, 0, 269, 0}}}};
const struct scene *scene;

uint16_t *halves(int columns, int seed)
{
    void *p;
    size_t n = (size_t)scene->N * columns;
    if (cudaMalloc(&p, n * sizeof(uint16_t))) emu::fail("no memory");
    for (size_t i = 0; seed && i < n; i++)
        ((uint16_t *)p)[i] = (uint16_t)bf16_bits((float)((i * 37 + i / 7 * seed) % 23) / 8 - 1.3f);
    return (uint16_t *)p;
}

EMU_UNSEEN float value(const uint16_t *p, int row, int columns, int column)
{
    return float_of_bits((uint32_t)p[row * columns + column] << 16);
}

EMU_UNSEEN float inner(const uint16_t *x, int i, int x_columns, int head, const uint16_t *y, int j,
                       int y_columns)
{
    float sum = 0;
    for (int c = 0; c < SIZE; c++)
        sum += value(x, i, x_columns, head * SIZE + c) * value(y, j, y_columns, c);
    return sum;
}

/* Whether row i sees row j. */
EMU_UNSEEN int sees_row(int i, int j)
{
    for (int n = 0; n < scene->count; n++) {
        const struct segment &s = scene->cut[n];
        if (i < s.start || i >= s.start + s.length) continue;
        int own = j >= s.start && j < s.start + s.length;
        int shared = j >= s.prefix_start && j < s.prefix_start + s.prefix_length;
        int position = s.position + i - s.start;
        int key = own ? s.position + j - s.start : j - s.prefix_start;
        return (own || shared) && sees(position, key, own, scene->window);
    }
    return 0;
}

struct answers {
    float o[MOST * QUERY], dq[MOST * QUERY], dk[MOST * SIZE], dv[MOST * SIZE];
};

EMU_UNSEEN void answer(struct answers *to, const uint16_t *q, const uint16_t *k, const uint16_t *v,
                       const uint16_t *d_o)
{
    static float p[MOST];
    const int N = scene->N;
    memset(to, 0, sizeof *to);
    for (int i = 0; i < N; i++)
        for (int h = 0; h < HEADS; h++) {
            float sum = 0, delta = 0, *o = to->o + i * QUERY + h * SIZE;
            for (int j = 0; j < N; j++) {
                p[j] = sees_row(i, j) ? expf(scale * inner(q, i, QUERY, h, k, j, SIZE)) : 0;
                sum += p[j];
            }
            for (int j = 0; j < N; j++)
                for (int c = 0; c < SIZE; c++) o[c] += p[j] / sum * value(v, j, SIZE, c);
            for (int c = 0; c < SIZE; c++) delta += o[c] * value(d_o, i, QUERY, h * SIZE + c);
            for (int j = 0; j < N; j++) {
                float w = p[j] / sum;
                float ds = w * scale * (inner(d_o, i, QUERY, h, v, j, SIZE) - delta);
                for (int c = 0; c < SIZE && w > 0; c++) {
                    to->dv[j * SIZE + c] += w * value(d_o, i, QUERY, h * SIZE + c);
                    to->dk[j * SIZE + c] += ds * value(q, i, QUERY, h * SIZE + c);
                    to->dq[i * QUERY + h * SIZE + c] += ds * value(k, j, SIZE, c);
                }
            }
        }
}

EMU_UNSEEN int differ(const uint16_t *got, const float *want, int n)
{
    double error = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        float off = float_of_bits((uint32_t)got[i] << 16) - want[i];
        error += (double)off * off, norm += (double)want[i] * want[i];
    }
    return !(error <= 1e-4 * norm);
}

} // namespace

int planted_flash_run(enum planted p)
{
    if (p == PLANTED_values) return run_values();
    static struct answers answers[2]; /* the same for all of a process, and of those it starts */
    static int known[2];
    const int forward = p >= PLANTED_hopper && p < PLANTED_hopper_back;
    const int backward = p >= PLANTED_flash_back && !forward;
    struct answers *want = &answers[forward];
    scene = &scenes[forward];
    const int32_t N = scene->N;
    struct device d = {};
    struct cuda_state state = {};
    cudaStreamCreateWithFlags(&state.compute, cudaStreamNonBlocking);
    d.state = &state, d.type = DTYPE_BF16, state.shared_most = 227 << 10;
    void *lse, *scratch, *segments;
    uint16_t *q = halves(QUERY, 3), *k = halves(SIZE, 5), *v = halves(SIZE, 7),
             *d_o = halves(QUERY, 11), *o = halves(QUERY, 0), *dq = halves(QUERY, 0),
             *dk = halves(SIZE, 0), *dv = halves(SIZE, 0);
    struct kern_attention a = {};
    struct kern_attention_grad g = {d_o, dq, dk, dv, QUERY, SIZE, SIZE};
    a.N = N, a.H = HEADS, a.KV = 1, a.D = SIZE, a.scale = scale;
    a.window = scene->window, a.num_segments = scene->count, a.q = q, a.k = k, a.v = v, a.o = o;
    a.ldq = a.ldo = QUERY, a.ldk = a.ldv = SIZE;
    size_t by_flash = cuda_flash_attention_scratch(&d, &a);
    size_t by_hopper = cuda_hopper_attention_scratch(&d, &a);
    if (cudaMalloc(&segments, sizeof scene->cut) ||
        cudaMalloc(&lse, (size_t)N * HEADS * sizeof(float)) ||
        cudaMalloc(&scratch, by_flash > by_hopper ? by_flash : by_hopper))
        emu::fail("no memory");
    memcpy(segments, scene->cut, sizeof scene->cut);
    a.segments = (const struct segment *)segments, a.lse = (float *)lse;
    if (!known[forward]) answer(want, q, k, v, d_o);
    known[forward] = 1;
    fault = p < PLANTED_flash_back ? p : PLANTED_flash;
    planted_hopper_forward(p);
    if (forward)
        cuda_hopper_attention_forward(&d, &a, scratch);
    else
        cuda_flash_attention_forward(&d, &a, scratch);
    cudaStreamSynchronize(state.compute);
    int wrong = differ(o, want->o, N * QUERY);
    memset(calls, 0, sizeof calls);
    fault = p;
    if (backward) {
        planted_hopper_backward(p);
        if (p >= PLANTED_hopper_back)
            cuda_hopper_attention_backward(&d, &a, &g, scratch);
        else
            cuda_flash_attention_backward(&d, &a, &g, scratch);
        cudaStreamSynchronize(state.compute);
        wrong |= differ(dq, want->dq, N * QUERY) | differ(dk, want->dk, N * SIZE) |
                 differ(dv, want->dv, N * SIZE);
    }
    void *all[] = {q, k, v, d_o, o, dq, dk, dv, lse, scratch, segments};
    for (void *each : all) cudaFree(each);
    cudaStreamDestroy(state.compute);
    return wrong;
}
