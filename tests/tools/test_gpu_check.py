"""test_gpu_check.py - what tools/gpu-check does around a GPU, with programs that only pretend: the
list of parts, results that are merged, a part that crashes, hangs or lacks something beside others
that pass, and a machine without a GPU."""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/gpu-check"
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True

from gpu_check import fast, goals, parts, runs, steps, table  # noqa: E402

DOCTOR = 'echo \'{"checks": [{"name": "gpu", "found": "%s"}]}\''
WRAPPERS = 'echo \'wrapper "ldmatrix" 128 %d 0 0\''
OPS = "echo '[       OK ] test_table in fp32'"
# three wrappers, of which the second faults and takes the third along
FAULTS = """case "$1" in
0|2) echo "wrapper \\"w$1\\" 128 0 0 0" ;;
1) echo an illegal address; exit 1 ;;
'') echo 'wrapper "w0" 128 0 0 0'; echo '[  FAILED  ] test_wrappers'; exit 1 ;;
esac"""
# a kernel of one op in one setting
BROKEN_OP = """case "$1 $CRIA_OP_CASES" in
*hopper*attention | '* in hopper ') kill -SEGV $$ ;;
*) %s ;;
esac""" % OPS
GPU, NONE = "cuda, NVIDIA Pretended", "none: this machine has no NVIDIA GPU that CUDA sees"


def is_running(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


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

    def run_tool(self, *arguments, path=None):
        done = subprocess.run(
            [sys.executable, str(TOOL), *arguments, "--out", str(self.out)], capture_output=True,
            text=True, env=dict(os.environ, CRIA_GPU_CHECK_BIN=str(self.bin),
                                PATH=":".join(filter(None, (path, os.environ["PATH"])))))
        path = self.out / "gpu-check.json"
        return done, json.loads(path.read_text()) if path.exists() else None

    def test_list(self):
        done, _ = self.run_tool("--list")
        named = [line.split()[0] for line in done.stdout.split("\n") if re.match(r"  \S", line)]
        self.assertEqual(named, list(parts.PARTS))
        self.assertEqual(re.findall(r"^(\w+):", done.stdout, re.M), list(parts.CALLS))
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

    def test_faults_are_told_apart(self):
        self.program("tests/test_wrappers_cuda", FAULTS)
        self.program("tests/test_ops_cuda", BROKEN_OP)
        _, found = self.run_tool("wrappers", "ops")
        wrappers, ops = found["parts"]["wrappers"], found["parts"]["ops"]
        self.assertEqual([row["name"] for row in wrappers["wrappers"]], ["w0", "w2"])
        self.assertIn("number 1: ", wrappers["why"])
        self.assertIn("an illegal address", wrappers["why"])
        self.assertEqual(ops["why"], "hopper: attention")
        self.assertEqual(ops["ops"]["flash"]["tests"], {"test_table in fp32": True})

    def test_doctor_breaks(self):
        """What the driver says counts where our own program does not come to an answer."""
        self.program("cria", "kill -SEGV $$")
        smi = self.bin / "path"
        smi.mkdir()
        (smi / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA Pretended, 580\n")
        (smi / "nvidia-smi").chmod(0o755)
        _, found = self.run_tool("ops", path=str(smi))
        self.assertEqual(found["parts"]["ops"]["status"], "passed")
        self.assertIn("NVIDIA Pretended, 580; cria doctor ended with -11",
                      found["machine"]["gpu"])

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
        done, found = self.run_tool("wrappers", "ops", "--budget", "80")
        limits = [part["budget_s"] for part in found["parts"].values()]
        self.assertEqual(limits[0], 20)  # 10 of its own and the 10 that nobody has
        self.assertGreater(limits[1], 60)
        self.assertIn(" of 20 s", done.stdout)

    def test_crumbs_are_ended(self):
        """What a part's programs leave running does not outlive it."""
        self.program("tests/test_ops_cuda", f"sleep 77 >/dev/null 2>&1 & echo $! > {self.bin}/pid\n"
                     + OPS)
        _, found = self.run_tool("ops")
        self.assertEqual(found["parts"]["ops"]["status"], "passed")
        pid = (self.bin / "pid").read_text().strip()
        ends = time.monotonic() + 10  # what is killed takes its time to go
        while is_running(pid) and time.monotonic() < ends:
            time.sleep(0.05)
        self.assertFalse(is_running(pid))

    def test_no_scripts(self):
        """A carried folder that lacks a file of a part's."""
        self.program("cria", DOCTOR % GPU)
        done, found = self.run_tool("steps-eager", "wrappers")
        status = {name: part["status"] for name, part in found["parts"].items()}
        self.assertEqual(status["wrappers"], "passed")
        self.assertIn(status["steps-eager"], ("missing", "failed"))
        self.assertEqual(done.returncode, 1)

    def test_hang(self):
        self.program("tests/test_ops_cuda", "sleep 60")
        done, _ = self.run_tool("--run", "ops", "--limit", "1")
        self.assertIn("did not end in time", json.loads(done.stdout)["ops"]["fp32"]["errors"][0])

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


class Calls(unittest.TestCase):
    """Three commands of less than ten minutes, in half an hour with a machine's start."""

    def test_seconds(self):
        self.assertLessEqual(sum(seconds for _, seconds, _ in parts.CALLS.values()), 1560)
        for names, seconds, _ in parts.CALLS.values():
            self.assertLessEqual(seconds, 560)
            self.assertLessEqual(sum(parts.PARTS[name][1] for name in names), seconds)

    def test_all_parts(self):
        self.assertEqual([name for names, _, _ in parts.CALLS.values() for name in names],
                         list(parts.PARTS))
        self.assertEqual(parts.parts_of([])[0], list(parts.PARTS))
        self.assertEqual(parts.parts_of(["fast", "ops"])[0][:2], ["ops", "kernels"])
        with self.assertRaises(KeyError):
            parts.parts_of(["nonsense"])

    def test_files(self):
        """Every file that a part names is in the repository."""
        for _, _, needs, wants, _ in parts.PARTS.values():
            for name in (*needs.get("files", ()), *wants.get("files", ())):
                self.assertTrue((ROOT / name).exists(), name)

    def test_rows(self):
        """1B, 3B and 8B, full and LoRA, by what is computed again."""
        with tempfile.TemporaryDirectory() as folder:
            rows = list(steps.step_rows(runs.Bench(folder, 10, False)))
        self.assertEqual(len(rows), 18)
        self.assertEqual({(shape, own["finetuning"], mode) for _, _, shape, own, mode in rows},
                         {(shape, tuning, mode) for shape in ("1b", "3b", "8b")
                          for tuning in ("full", "lora") for mode in ("none", "auto", "full")})

    def test_same_documents(self):
        """The packed documents are the same ones on both sides."""
        ours = (ROOT / "kernels/bench/gpu/attention.c").read_text()
        theirs = (ROOT / "tools/bench_peer/gpu_kernels.py").read_text()
        for c_name, name in (("packed", "PACKED"), ("packed_small", "PACKED_SMALL")):
            c = re.search(rf"int32_t {c_name}\[\] = {{(.*?)}}", ours, re.S)[1]
            python = ast.literal_eval(re.search(rf"^{name} = (\(.*?\))", theirs, re.M)[1])
            self.assertEqual([int(n) for n in c.split(",")], list(python))
        self.assertEqual(sum(ast.literal_eval(re.search(r"^PACKED = (\(.*?\))", theirs, re.M)[1])),
                         16384)


class Peers(unittest.TestCase):
    """A peer's program that ends early, hangs or breaks keeps the rows it has said."""

    def lines(self, script, limit=20):
        with tempfile.TemporaryDirectory() as folder:
            bench = runs.Bench(folder, limit, True)
            program = Path(folder) / "peer.py"
            program.write_text(script)
            return bench.peer_rows(program)

    def test_all(self):
        self.assertEqual(self.lines("print('{\"name\": \"a\"}')"), ([{"name": "a"}], None))

    def test_breaks(self):
        rows, why = self.lines("print('a warning\\n{\"name\": \"a\"}', flush=True)\nraise OSError('no')")
        self.assertEqual(rows, [{"name": "a"}])
        self.assertIn("it ended with 1", why)
        self.assertIn("OSError: no", why)

    def test_hangs(self):
        rows, why = self.lines("import time\nprint('{\"name\": \"a\"}', flush=True)\n"
                               "print('{\"na', end='', flush=True)\ntime.sleep(60)", 5)
        self.assertEqual(rows, [{"name": "a"}])
        self.assertIn("the time was over", why)


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

    def test_flops(self):
        """Llama-3-8B: 7.5e9 weights in products, 8.03e9 with the embedding."""
        products = steps.flops_per_token("8b", "full", 0) / 6
        self.assertAlmostEqual(products / 7.505e9, 1, 2)
        self.assertGreater(steps.flops_per_token("1b", "full", 4096),
                           1.4 * steps.flops_per_token("1b", "lora", 4096))

    def test_both_ways(self):
        """An engine without a backward is no candidate."""
        rows = [{"entry": f"attention {way}", "shape": "2x8192x32x8x64", "ms": ms, "engine": engine}
                for engine, ms in (("flash", 4.0), ("hopper", 3.0)) for way in ("forward", "backward")]
        rows.append({**rows[0], "ms": 0.1, "engine": "cudnn"})
        self.assertEqual(fast.both_ways(rows), {("2x8192x32x8", 64): {"flash": 8.0, "hopper": 6.0}})


def results():
    """Of a device that never was, with a row of each kind."""
    ladder = [{"entry": f"attention {way}", "shape": "2x8192x32x8x128", "ms": 1.0, "flops": 5.6e11,
               "tflops": 560.0, "share": 0.7, "engine": "hopper", "peer_ms": 2.0}
              for way in ("forward", "backward")]
    steps_rows = {"8b-lora-none": {
        "tokens": 4096, "tokens_per_second": 13000.0, "planned_bytes": 4 << 30, "floor_share": 0.8,
        "checkpointing": "none", "flops_per_token": 3.0e10}, "1b-full-none": {
        "tokens": 4096, "tokens_per_second": 60000.0, "checkpointing": "none",
        "flops_per_token": 1.0e10}}
    found = {
        "kernels": {"rows": [{"entry": "copy", "shape": "2048 MB", "ms": 1.0,
                              "gb_per_second": 4300.0, "share": 1},
                             {"entry": "rope", "shape": "x", "ms": 1.0, "gb_per_second": 3000.0,
                              "share": 0.7}]},
        "attention": {"rows": ladder},
        "steps-cria": {"status": "failed", "why": "x|y", "rows": steps_rows},
        "steps-eager": {"rows": {"8b-lora-none": {"tokens_per_second": 8000.0}}},
        "steps-liger": {"rows": {"8b-lora-none": {"tokens_per_second": 10000.0}}},
        "steps-compiled": {"rows": {"8b-lora-none": {"failed": "out", "memory": True}}},
        "dpo": {"dpo": {"shape": "8b", "prompt": 700, "reply": 450, "gain": 1.5,
                        "shared": {"pairs_per_second": 6.5}}},
        "start": {"start": {"shape": "1b", "first_step_s": 1.5, "read_s": 0.8, "step_s": 0.1,
                            "more_s": 0.6}},
        "profile": {"profiles": {"8b-lora": {"steps": 3, "ops": [
            {"op": "linear_forward", "seconds": 0.3, "share": 0.5, "floor_share": 0.9}]}}},
    }
    for part in found.values():
        part.setdefault("status", "passed")
        part.update(commit="abc", gpu="cuda, NVIDIA H200, pretended")
    return {"machine": {"gpu": "cuda, NVIDIA H200, pretended", "driver": "580",
                        "peers": {"torch": "2.11"}, "date": "today", "commit": "abc"},
            "parts": found}


class Tables(unittest.TestCase):
    def test_goals(self):
        reached = {name: (value, met) for name, _, value, met in goals.reached(results())}
        self.assertEqual(reached["8B LoRA, over the best peer"], ("1.30", True))
        self.assertEqual(reached["8B LoRA, share of the floor"], ("0.80", False))
        self.assertEqual(reached["1B full, MFU"], ("0.61", True))
        self.assertEqual(reached["attention forward, D 128, 8k, TFLOP/s"], ("560", True))
        self.assertEqual(reached["slowest pass, share of the copy"], ("0.70", False))
        self.assertEqual(reached["first step, beside reading and the step, s"], ("0.60", False))
        nothing = {"machine": {"gpu": None}, "parts": {}}
        self.assertEqual({met for *_, met in goals.reached(nothing)}, {None})

    def test_tables(self):
        made = table.tables(results())
        for line in ("| copy | 2048 MB | 1.000 |  | 4300 | 1.00 |", "| steps-cria | failed: x\\|y |",
                     "| 2x8192x32x8x128 |  |  | 560 / 560 |  | 280 / 280 |",
                     "| 8b-lora | none | 13000 | 0.80 | 0.39 | 8000 | no memory | 10000 |  | 1.30 |",
                     "| prompts shared | 6.50 |", "all else 0.60 s.",
                     "| linear_forward | 100.00 | 0.50 | 0.90 |", "| 1B full, MFU | ≥ 0.55 | 0.61 | yes |"):
            self.assertIn(line, made)

    def test_nothing(self):
        made = table.tables({"machine": results()["machine"], "parts": {}})
        self.assertIn("not measured", made)

    def test_merge(self):
        """Later results win, what did not run is left out, devices are not mixed."""
        with tempfile.TemporaryDirectory() as folder:
            at, old = Path(folder), (table.COMMITTED, table.PAGE)
            table.COMMITTED, table.PAGE = at / "gpu.json", at / "README.md"
            table.PAGE.write_text(table.BEGIN + table.END)
            try:
                first, second = results(), results()
                first["parts"]["head"] = {"status": "no GPU"}
                second["parts"] = {"start": {**second["parts"]["start"], "commit": "def"}}
                for name, part in (("a", first), ("b", second)):
                    (at / name).write_text(json.dumps(part))
                self.assertEqual(table.merge([at / "a", at / "b"]), 0)
                merged = json.loads(table.COMMITTED.read_text())
                self.assertNotIn("head", merged["parts"])
                self.assertEqual(merged["parts"]["start"]["commit"], "def")
                self.assertIn("| start | passed (commit def) |", table.PAGE.read_text())
                second["parts"]["start"]["gpu"] = "another"
                (at / "b").write_text(json.dumps(second))
                with self.assertRaises(SystemExit):
                    table.merge([at / "a", at / "b"])
            finally:
                table.COMMITTED, table.PAGE = old


if __name__ == "__main__":
    unittest.main()
