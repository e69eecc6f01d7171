"""attention.py [--bench build/release/bench_attention] [--seconds 3] [--threads 2] [--json F] [case ...]

Our CPU attention beside torch's scaled_dot_product_attention: forward, and backward by autograd,
fp32, causal, taking turns in one run; medians in milliseconds. A case is NxHxKVxD; without one,
6 heads of 64 and 8 over 2 of 128 at 1k to 16k. Then a prompt of 1000 tokens with two replies of
250, sharing the prompt against computing it twice, beside the ratio of the visible pairs.

tools/bench attention runs this. Needs a Python with torch (tools/golden/requirements.txt) and
`cmake --build --target bench_attention`. Exits 1 when torch was faster anywhere. With --json the
cases go into a file, milliseconds and ratios, and prefixes are left out.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


class Ours:
    def __init__(self, path, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY='passive')
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)

    def run(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        return [float(ms) for ms in self.process.stdout.readline().split()]

    def close(self):
        """Waits for its end, so that its time counts as ours."""
        self.process.stdin.close()
        self.process.wait()


class Torch:
    """Tensors lie [N, heads, D], as projections leave them; torch takes the transposed view."""

    def __init__(self, N, H, KV, D):
        import torch
        self.torch = torch
        make = lambda heads: torch.randn(1, N, heads, D).transpose(1, 2).requires_grad_()
        self.q, self.k, self.v = make(H), make(KV), make(KV)
        self.go = torch.randn(1, N, H, D).transpose(1, 2)

    def run(self):
        begin = time.perf_counter()
        o = self.torch.nn.functional.scaled_dot_product_attention(
            self.q, self.k, self.v, is_causal=True, enable_gqa=self.q.shape[1] != self.k.shape[1])
        middle = time.perf_counter()
        o.backward(self.go)
        self.q.grad = self.k.grad = self.v.grad = None
        return [(middle - begin) * 1e3, (time.perf_counter() - middle) * 1e3]


def alternate(calls, seconds):
    """Medians of (forward, backward) of each call; each has run once before."""
    times = [[] for _ in calls]
    for call in calls:
        call()
    begin = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - begin < seconds:
        for call, taken in zip(calls, times):
            taken.append(call())
    return [[statistics.median(t[i] for t in taken) for i in (0, 1)] for taken in times]


def beside_torch(ours, cases, seconds):
    rows = []
    print('     N   H  KV   D   forward ms: ours  torch    x   backward ms: ours   torch    x')
    for N, H, KV, D in cases:
        peer = Torch(N, H, KV, D)
        (f, b), (tf, tb) = alternate([lambda: ours.run(f'{N} {H} {KV} {D}'), peer.run], seconds)
        rows.append({'length': N, 'heads': H, 'key_heads': KV, 'size': D, 'cria_forward_ms': f,
                     'cria_backward_ms': b, 'peer_forward_ms': tf, 'peer_backward_ms': tb,
                     'forward_ratio': tf / f, 'backward_ratio': tb / b})
        print(f'{N:6} {H:3} {KV:3} {D:3} {f:17.1f} {tf:7.1f} {tf / f:4.2f} '
              f'{b:18.1f} {tb:7.1f} {tb / b:4.2f}', flush=True)
    return rows


def shared_prefix(ours, seconds, P=1000, R=250):
    pairs = lambda n: n * (n + 1) / 2
    ideal = 2 * pairs(P + R) / (pairs(P - 1) + 2 * (pairs(R + 1) + (R + 1) * (P - 1)))
    print(f'prompt {P}, two replies of {R}: twice / shared, visible pairs {ideal:.2f}')
    for H, KV, D in (6, 6, 64), (8, 2, 128):
        line = f'prefix {P} {R} {H} {KV} {D} '
        (f, b), (pf, pb) = alternate([lambda: ours.run(line + '1'), lambda: ours.run(line + '0')],
                                     seconds)
        print(f'  {H}/{KV} heads of {D}: forward {pf:.1f} / {f:.1f} = {pf / f:.2f}, '
              f'backward {pb:.1f} / {b:.1f} = {pb / b:.2f}', flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--bench', default='build/release/bench_attention')
    p.add_argument('--seconds', type=float, default=3)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--json')
    p.add_argument('cases', nargs='*')
    a = p.parse_args()
    os.environ['OMP_WAIT_POLICY'] = 'passive'  # before torch: a side that waits must not spin
    import torch
    torch.set_num_threads(a.threads)
    cases = [tuple(map(int, c.split('x'))) for c in a.cases]
    if not cases:
        cases = [(n, *heads) for heads in ((6, 6, 64), (8, 2, 128))
                 for n in (1024, 2048, 4096, 8192, 16384)]
    ours = Ours(a.bench, a.threads)
    rows = beside_torch(ours, cases, a.seconds)
    if a.json:
        with open(a.json, 'w') as f:
            json.dump(rows, f)
    else:
        shared_prefix(ours, a.seconds)
    ours.close()
    slower = any(min(r['forward_ratio'], r['backward_ratio']) < 1 for r in rows)
    sys.exit(slower and not a.json)


if __name__ == '__main__':
    main()
