"""test_gpu_check.py - what tools/gpu-check does around a GPU, with programs that only pretend: the
list of parts, results that are merged, a part that crashes, hangs or lacks something beside others
that pass, and a machine without a GPU."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/gpu-check"
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True

from gpu_check import parts, runs, table  # noqa: E402

DOCTOR = 'echo \'{"checks": [{"name": "gpu", "found": "%s"}]}\''
WRAPPERS = 'echo \'wrapper "ldmatrix" 128 %d 0 0\''
OPS = "echo '[       OK ] test_table in fp32'"
GPU, NONE = "cuda, NVIDIA Pretended", "none: this machine has no NVIDIA GPU that CUDA sees"


class Pretended(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.bin, self.out = Path(folder.name) / "bin", Path(folder.name) / "out"
        self.program("cria", DOCTOR % GPU)
        self.program("tests/test_wrappers_cuda", WRAPPERS % 0)
        self.program("tests/test_ops_cuda", OPS)

    def program(self, name, script):
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n[ -n \"$LD_TRACE_LOADED_OBJECTS\" ] && exit\n{script}\n")
        path.chmod(0o755)

    def run_tool(self, *arguments):
        done = subprocess.run(
            [sys.executable, str(TOOL), *arguments, "--out", str(self.out)], capture_output=True,
            text=True, env=dict(os.environ, CRIA_GPU_CHECK_BIN=str(self.bin)))
        path = self.out / "gpu-check.json"
        return done, json.loads(path.read_text()) if path.exists() else None

    def test_list(self):
        done, _ = self.run_tool("--list")
        named = [line.split()[0] for line in done.stdout.split("\n") if line[:1].strip()]
        self.assertEqual(named, [*parts.PARTS, *parts.MORE])
        self.assertIn("bench_gpu (not built", done.stdout)
        done, _ = self.run_tool("nonsense")
        self.assertIn("no part is called nonsense", done.stderr)

    def test_failures_stay_apart(self):
        self.program("tests/test_wrappers_cuda", "kill -SEGV $$")
        done, found = self.run_tool("wrappers", "ops", "kernels")
        self.assertEqual(done.returncode, 1)
        status = {name: part["status"] for name, part in found["parts"].items()}
        self.assertEqual(status, {"wrappers": "failed", "ops": "passed", "kernels": "missing"})
        self.assertIn("ended with -11", found["parts"]["wrappers"]["why"])

    def test_merge(self):
        self.program("tests/test_wrappers_cuda", WRAPPERS % 3)
        done, found = self.run_tool("wrappers")
        self.assertIn("ldmatrix", found["parts"]["wrappers"]["why"])
        self.assertEqual(done.returncode, 1)
        done, found = self.run_tool("ops")
        self.assertEqual((done.returncode, sorted(found["parts"])), (0, ["ops", "wrappers"]))
        self.program("tests/test_wrappers_cuda", WRAPPERS % 0)
        done, found = self.run_tool("wrappers")
        self.assertEqual({part["status"] for part in found["parts"].values()}, {"passed"})
        self.assertEqual(found["machine"]["gpu"], GPU)
        self.assertIn("| wrappers | passed |", table.tables(found))
        done, found = self.run_tool("ops", "--budget", "1")
        self.assertEqual(found["parts"]["ops"]["status"], "no time")

    def test_shares(self):
        self.assertLessEqual(sum(part[1] for part in parts.PARTS.values()), 520)  # below 9 minutes
        done, found = self.run_tool("wrappers", "ops", "--budget", "70")
        limits = [part["budget_s"] for part in found["parts"].values()]
        self.assertEqual(limits[0], 20)  # 10 of its own and the 10 that nobody has
        self.assertGreater(limits[1], 60)
        self.assertIn(" of 20 s", done.stdout)

    def test_hang(self):
        self.program("tests/test_ops_cuda", "sleep 60")
        done, _ = self.run_tool("--run", "ops", "--limit", "1")
        self.assertIn("did not end in time", json.loads(done.stdout)["why"])

    def test_no_gpu(self):
        self.program("cria", DOCTOR % NONE)
        done, found = self.run_tool("wrappers", "ops")
        self.assertEqual(done.returncode, 77)
        for part in found["parts"].values():
            self.assertEqual(part["status"], "no GPU")
            self.assertIn("no NVIDIA GPU that CUDA sees; nothing else is missing", part["why"])
        done, found = self.run_tool("kernels")
        self.assertEqual(done.returncode, 1)
        self.assertIn("missing besides: ", found["parts"]["kernels"]["why"])


class Numbers(unittest.TestCase):
    def test_relative_error(self):
        self.assertEqual(runs.relative_error([1, 2], [1, 2]), 0)
        self.assertAlmostEqual(runs.relative_error([3, 4.5], [3, 4]), 0.1)

    def test_half_a_line_of_metrics(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "metrics.jsonl"
            path.write_text('{"loss": 1}\n{"eval_loss": 2}\n{"loss": 3}\n{"lo')
            self.assertEqual([row["loss"] for row in runs.read_metrics(folder)], [1, 3])

    def test_weights(self):
        """A file of as many bytes as its header says, and the header of as many as its length."""
        with tempfile.TemporaryDirectory() as folder:
            path = runs.Bench(folder, 10, True).weights("toy")
            data = path.read_bytes()
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8:8 + length])
            self.assertEqual(len(data), 8 + length + max(t["data_offsets"][1]
                                                         for t in header.values()))

    def test_tables(self):
        row = {"entry": "copy", "shape": "2048 MB", "ms": 1.0, "gb_per_second": 4300.0, "share": 1}
        step = {"tokens": 4096, "tokens_per_second": 13000.0, "planned_bytes": 4 << 30}
        dpo = {"shape": "8b", "prompt": 700, "reply": 450, "shared": {"pairs_per_second": 6.5}}
        start = {"shape": "1b", "first_step_s": 1.5, "read_s": 0.8, "step_s": 0.1, "more_s": 0.6}
        results = {"machine": {"gpu": GPU, "driver": "580", "peers": {"torch": "2.11"},
                               "date": "today", "commit": "abc"},
                   "parts": {"kernels": {"status": "passed", "rows": [row]},
                             "steps": {"status": "failed", "why": "x", "steps": {"8b": step}},
                             "dpo": {"status": "passed", "dpo": dpo},
                             "start": {"status": "passed", "start": start}}}
        made = table.tables(results)
        self.assertIn("| copy | 2048 MB | 1.000 |  | 4300 | 1.00 |", made)
        self.assertIn("| 8b, 4096 | 13000 |", made)
        self.assertIn("| steps | failed: x |", made)
        self.assertIn("| prompts shared | 6.50 |", made)
        self.assertIn("all else 0.60 s.", made)


if __name__ == "__main__":
    unittest.main()
