"""test_attention_rules.py - the table for `attention: auto` from made-up results of a GPU: the fastest
engine by head size and length, whatever else is in the file; what is refused; and that the
committed table is the one that comes of what is committed."""

import copy
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/attention-rules"
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("attention_rules", str(TOOL))
tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("attention_rules", loader))
loader.exec_module(tool)

# D, length: milliseconds forward and backward by engine
MEASURED = {
    (64, 1024): {"plain": (9, 9), "flash": (1, 2), "hopper": (1.2, 2.5)},
    (64, 2048): {"plain": (9, 9), "flash": (2, 4), "hopper": (1, 3), "cudnn": (0.9, 3.2)},
    (128, 1024): {"flash": (1, 3), "hopper": (0.9, 2)},
    (128, 8192): {"flash": (9, 20), "hopper": (8, 15), "cudnn": (7, 14)},
    (128, 16384): {"hopper": (30, 60)},
}


def made_up():
    rows = [{"entry": "copy", "shape": "1073741824", "ms": 1, "engine": ""},
            {"entry": "attention forward", "shape": "packedx16384x32x8x128", "ms": 0.1,
             "engine": "plain"},
            {"entry": "attention forward", "shape": "2x8192x32x8x128", "ms": 0.1, "engine": "plain"},
            {"entry": "attention forward", "shape": "1x32768x32x8x64", "ms": 9, "engine": "flash"},
            {"entry": "decoding attention", "shape": "1x2048x32x8x128", "ms": 0.1}]
    for (size, length), engines in MEASURED.items():
        for engine, both in engines.items():
            rows += [{"entry": entry, "shape": f"{16384 // length}x{length}x32x8x{size}",
                      "engine": engine, "ms": ms} for entry, ms in zip(tool.PASSES, both)]
    return {"machine": {"gpu": "cuda, NVIDIA Made-up, sm_90, driver 13.0"},
            "parts": {"wrappers": {"status": "passed"}, "ops": {"status": "passed"},
                      "attention": {"status": "passed", "rows": rows}}}


class Rules(unittest.TestCase):
    def refused(self, results, text):
        with self.assertRaisesRegex(tool.Refused, text):
            tool.rules_of(results)

    def test_fastest(self):
        self.assertEqual(tool.rules_of(made_up()),
                         [(90, 64, 2048, "hopper"), (90, 64, 0, "flash"),
                          (90, 128, 16384, "hopper"), (90, 128, 8192, "cudnn"),
                          (90, 128, 0, "hopper")])

    def test_refused(self):
        good = made_up()
        for part in ("wrappers", "ops", "attention"):
            bad = copy.deepcopy(good)
            bad["parts"][part]["status"] = "failed"
            self.refused(bad, f"{part}: failed")
            del bad["parts"][part]
            self.refused(bad, f"{part}: not run")
        self.refused({**good, "machine": {"gpu": "cuda, emulator, sm_90"}}, "emulator")
        self.refused({**good, "machine": {"gpu": None}}, "which GPU")

    def test_table(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gpu.json"
            path.write_text(json.dumps(made_up()))
            lines = tool.table_of([path]).split("\n")
            self.assertEqual(lines[1], "{90, 64, 2048, ATTENTION_HOPPER},")
            self.assertEqual(len(lines), 7)
            done = subprocess.run([sys.executable, str(TOOL), "--check", str(path)],
                                  capture_output=True, text=True)
            self.assertIn("run tools/attention-rules", done.stderr)
            self.assertEqual(done.returncode, 1)
            with self.assertRaisesRegex(SystemExit, "both of sm_90"):
                tool.table_of([path, path])
            path.write_text("{}")
            with self.assertRaisesRegex(SystemExit, "gpu.json is refused: .*'parts'"):
                tool.table_of([path])

    def test_committed(self):
        self.assertEqual(subprocess.run([sys.executable, str(TOOL), "--check"]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
