/* gemm.cc - kernels/cuda/gemm.h on the CBLAS: operands widened to fp32, the result rounded once. */
#include "kernels/cuda/gemm.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/gemm_shape.h"
#include "kernels/emu/block.h"

extern "C" {
#include "kernels/cpu/blas.h"
}

static float widen(const void *p, size_t i, enum dtype t)
{
    if (t == DTYPE_F32) return ((const float *)p)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void put(void *p, size_t i, enum dtype t, float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (t == DTYPE_F32)
        ((float *)p)[i] = f;
    else if (f != f)
        ((uint16_t *)p)[i] = 0x7fff;
    else
        ((uint16_t *)p)[i] = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* A dense fp32 copy; every row is looked at, none behind it. */
static std::vector<float> dense(const void *p, enum dtype t, int32_t rows, int32_t cols, int32_t ld)
{
    std::vector<float> out;
    out.reserve((size_t)rows * (size_t)cols);
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < cols; c++)
            out.push_back(widen(p, (size_t)r * (size_t)ld + (size_t)c, t));
    return out;
}

static void multiply(const struct gemm &g)
{
    int32_t M = g.M, N = g.N, K = g.K, a_rows = g.turn_a ? K : M, a_cols = g.turn_a ? M : K;
    int32_t b_rows = g.turn_b ? N : K, b_cols = g.turn_b ? K : N;
    std::vector<float> a = dense(g.a, g.type, a_rows, a_cols, g.lda);
    std::vector<float> b = dense(g.b, g.type, b_rows, b_cols, g.ldb);
    std::vector<float> c((size_t)M * (size_t)N);
    cpu_gemm(g.turn_a ? BLAS_TURNED : BLAS_PLAIN, g.turn_b ? BLAS_TURNED : BLAS_PLAIN, M, N, K,
             a.data(), a_cols, b.data(), b_cols, 0, c.data(), N);
    for (int32_t m = 0; m < M; m++)
        for (int32_t n = 0; n < N; n++) {
            float sum = g.alpha * c[(size_t)m * (size_t)N + (size_t)n];
            if (g.beta != 0)
                sum += g.beta * widen(g.c0, (size_t)m * (size_t)g.ldc0 + (size_t)n, g.out);
            if (g.bias) sum += widen(g.bias, (size_t)n, g.type);
            put(g.c, (size_t)m * (size_t)g.ldc + (size_t)n, g.out, sum);
        }
}

/* --- what stands for cuBLASLt's choices: one algorithm, of whatever name it was given --- */

static std::mutex lock; /* a checkpoint is written beside the thread that computes */
static std::set<std::string> seen;
static std::string algorithm = "the CBLAS";

void emu_set_algorithm(const char *name) { algorithm = name; }

static void note(const struct gemm *g)
{
    char text[sizeof(kern_product::shape)];
    struct gemm_shape s = gemm_shape_of(g);
    gemm_shape_text(&s, text, sizeof text);
    std::lock_guard<std::mutex> held(lock);
    seen.insert(text);
}

int32_t gemm_products(const struct device *, struct kern_product *out, int32_t room)
{
    int32_t n = 0;
    std::lock_guard<std::mutex> held(lock);
    for (const std::string &shape : seen) {
        if (n++ >= room) continue;
        snprintf(out[n - 1].shape, sizeof out->shape, "%s", shape.c_str());
        snprintf(out[n - 1].algorithm, sizeof out->algorithm, "%s", algorithm.c_str());
    }
    return n;
}

enum status gemm_algorithm(struct device *, struct kern_product *p, struct err *e)
{
    struct gemm_shape s;
    TRY(gemm_shape_parse(&s, p->shape, e));
    snprintf(p->algorithm, sizeof p->algorithm, "%s", algorithm.c_str());
    return OK;
}

int gemm_version(const struct device *) { return 0; }

enum status gemm_open(struct device *, struct err *)
{
    std::lock_guard<std::mutex> held(lock);
    seen.clear();
    return OK;
}

void gemm_close(struct device *) {}

void gemm_run(struct device *d, const struct gemm *g)
{
    if (g->M <= 0 || g->N <= 0) return;
    assert(g->K > 0 || (g->beta == 1 && g->c == g->c0 && !g->bias));
    if (g->K <= 0) return;
    struct gemm copy = *g;
    gemm_trace(d, g);
    note(g);
    emu_enqueue(cuda_state(d)->compute, [copy] { multiply(copy); });
    cuda_trace_end(d);
}
