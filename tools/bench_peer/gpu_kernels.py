"""The peer's side of tools/gpu-check for kernels: PyTorch on the GPU, as a user would write it.

    python gpu_kernels.py PART ...         copy, gemm, passes, attention, decode, head; `small`: toy shapes

Prints one line of JSON: {"ENTRY SHAPE": milliseconds}, by the names and shapes that bench_gpu
prints (kernels/bench/gpu), bf16, medians of calls between CUDA events behind a warm-up. A case
that does not run (memory, an old PyTorch) is left out.
"""

import inspect
import json
import statistics
import sys

import torch
import torch.nn.functional as F

WARM_UP, CALLS, ENOUGH_MS = 2, 20, 150
SMALL = "small" in sys.argv
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # the CPU: to see that it runs


def values(*shape, dtype=torch.bfloat16, std=1.0, grad=False):
    t = torch.randn(*shape, device=DEVICE, dtype=dtype) * std
    return t.requires_grad_() if grad else t


def one_call(call):
    if DEVICE == "cpu":
        call()
        return 1.0
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def median_ms(call, before=lambda: None):
    """`before` runs in front of every call and is not timed."""
    taken = []
    for i in range(WARM_UP + CALLS):
        before()
        ms = one_call(call)
        if i >= WARM_UP:
            taken.append(ms)
        if len(taken) >= 3 and sum(taken) > ENOUGH_MS:
            break
    return statistics.median(taken)


# --- a part each: yields (entry, shape, milliseconds) ---


def copy():
    n = (4 << 16 if SMALL else 1 << 31) // 2
    to, source = values(n), values(n)
    yield "copy", f"{2 * n >> 20} MB", median_ms(lambda: to.copy_(source))


def gemm():
    shapes = [(33, 40, 24)] if SMALL else [
        (8192, 8192, 8192), (4096, 4096, 6144), (4096, 4096, 4096), (4096, 4096, 28672),
        (4096, 14336, 4096)]
    for N, I, O in shapes:
        x, w, dy = values(N, I), values(O, I), values(N, O)
        y, dx, dw = torch.empty_like(dy), torch.empty_like(x), torch.empty_like(w)
        shape = f"{N}x{I}x{O}"
        yield "linear forward", shape, median_ms(lambda: torch.mm(x, w.t(), out=y))
        yield "linear by input", shape, median_ms(lambda: torch.mm(dy, w, out=dx))
        yield "linear by weight", shape, median_ms(lambda: torch.mm(dy.t(), x, out=dw))


def backward(make, *inputs):
    """Milliseconds of the backward of make(*inputs), whose forward is not timed."""
    state = {}

    def before():
        for t in inputs:
            t.grad = None
        state["y"] = make(*inputs)
        if "dy" not in state:
            state["dy"] = torch.randn_like(state["y"])

    return median_ms(lambda: state["y"].backward(state["dy"]), before)


def passes():
    N, C = (8, 256) if SMALL else (32768, 4096)
    shape = f"{N}x{C}"
    x, w = values(N, C), values(C)

    def norm(x):
        return F.rms_norm(x, (C,), w, 1e-5)

    def swiglu(gate, up):
        return F.silu(gate) * up

    up = values(N, C)
    yield "norm forward", shape, median_ms(lambda: norm(x))
    yield "swiglu forward", shape, median_ms(lambda: swiglu(x, up))
    a, b = values(N, C, grad=True), values(N, C, grad=True)
    yield "norm backward", shape, backward(norm, a)
    yield "swiglu backward", shape, backward(swiglu, a, b)
    heads = x.view(N, C // 128, 128)
    cos, sin = values(N, 1, 128), values(N, 1, 128)

    def rope():
        return heads * cos + torch.cat((-heads[..., 64:], heads[..., :64]), -1) * sin

    yield "rope", shape, median_ms(rope)
    ids = torch.arange(N, device=DEVICE) * 7 % N
    yield "embedding forward", shape, median_ms(lambda: F.embedding(ids, x))
    del a, b, up
    p = values(N * C, dtype=torch.float32, grad=True)
    p.grad = values(N * C, dtype=torch.float32)
    optimizer = torch.optim.AdamW([p], lr=1e-4, fused=DEVICE == "cuda")
    yield "adamw", shape, median_ms(optimizer.step)
    yield "grad_norm", shape, median_ms(lambda: torch.linalg.vector_norm(p.grad))


PACKED = (5000, 3177, 2100, 1500, 1111, 900, 700, 613, 500, 333, 250, 200)  # kernels/bench/gpu
PACKED_SMALL = (33, 20, 7, 1)


def attention():
    cases = [(2, 33, 2, 1, D) for D in (64, 128)] if SMALL else [
        (16384 // n, n, 32, heads, D) for D in (64, 128)
        for n, heads in ((1024, 8), (2048, 8), (4096, 8), (8192, 8), (16384, 8), (8192, 32))]
    for B, N, H, KV, D in cases:
        q, k, v = (values(B, N, heads, D).transpose(1, 2).requires_grad_() for heads in (H, KV, KV))

        def forward(q, k, v):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

        shape = f"{B}x{N}x{H}x{KV}x{D}"
        with torch.no_grad():
            yield "attention forward", shape, median_ms(lambda: forward(q, k, v))
        yield "attention backward", shape, backward(forward, q, k, v)
        del q, k, v
    for D in (64, 128):
        yield from packed(*((PACKED_SMALL, 2, 1) if SMALL else (PACKED, 32, 8)), D)


def each_document(lengths):
    """One call a document, which all PyTorch can do."""
    def forward(q, k, v):
        parts = zip(*(t.split(lengths) for t in (q, k, v)))
        return torch.cat([F.scaled_dot_product_attention(
            *(t.transpose(0, 1)[None] for t in part), is_causal=True, enable_gqa=True)[0]
            .transpose(0, 1) for part in parts])
    return forward


def all_at_once(lengths):
    """PyTorch's own call for sequences of differing lengths, where there is one."""
    from torch.nn.attention.varlen import varlen_attn
    ends = torch.tensor([0, *lengths], device=DEVICE).cumsum(0).int()
    known = inspect.signature(varlen_attn).parameters
    causal = {"is_causal": True} if "is_causal" in known else {"window_size": (-1, 0)}

    def forward(q, k, v):
        if "enable_gqa" in known:
            grouped = {"enable_gqa": True}
        else:
            grouped, repeats = {}, q.shape[1] // k.shape[1]
            k, v = (t.repeat_interleave(repeats, 1) for t in (k, v))
        return varlen_attn(q, k, v, ends, ends, max(lengths), max(lengths), **causal, **grouped)
    return forward


def packed(lengths, H, KV, D):
    """Documents end to end: the faster of the two ways."""
    q, k, v = (values(sum(lengths), heads, D, grad=True) for heads in (H, KV, KV))
    times = []
    for make in (each_document, all_at_once):
        try:
            forward = make(lengths)
            with torch.no_grad():
                ahead = median_ms(lambda: forward(q, k, v))
            times.append((ahead, backward(forward, q, k, v)))
        except Exception as e:
            print(f"gpu_kernels: {make.__name__}: {str(e)[:300]}", file=sys.stderr)
    shape = f"packedx{sum(lengths)}x{H}x{KV}x{D}"
    if times:
        for entry, taken in zip(("attention forward", "attention backward"), min(times, key=sum)):
            yield entry, shape, taken


def decode():
    cases = [(200, 2, 1, 64), (200, 2, 1, 128)] if SMALL else [
        (n, 32, 8, D) for D in (64, 128) for n in (2048, 8192, 32768, 131072)]
    for N, H, KV, D in cases:
        q = values(1, H, 1, D)
        k, v = (values(1, N, KV, D).transpose(1, 2) for _ in range(2))
        yield "decoding attention", f"1x{N}x{H}x{KV}x{D}", median_ms(
            lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))


def head():
    S, C, V = (16, 32, 301) if SMALL else (8192, 4096, 128256)
    x, w = values(S, C, grad=True), values(V, C, std=0.02)
    target = torch.arange(S, device=DEVICE) * 7 % V

    def step():
        x.grad = w.grad = None
        F.cross_entropy((x @ w.t()).float(), target, reduction="sum").backward()

    yield "head frozen", f"{S}x{C}x{V}", median_ms(step)
    w.requires_grad_()
    yield "head trained", f"{S}x{C}x{V}", median_ms(step)


def main():
    found = {}
    for name in sys.argv[1:]:
        if name == "small":
            continue
        try:
            for entry, shape, ms in globals()[name]():
                found[f"{entry} {shape}"] = ms
        except RuntimeError as e:  # out of memory among them: what follows in the part is left out
            print(f"gpu_kernels: {name}: {e}", file=sys.stderr)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
