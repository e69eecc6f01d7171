"""Runs the cria binary, and reads what it writes: configs, prepared data, metrics, weights."""

import json
import subprocess
from pathlib import Path

import h5py
import xxhash


class Cria:
    """A binary; a verb that fails stops the script with its message."""

    def __init__(self, path):
        self.path = str(Path(path).resolve())

    def __call__(self, *arguments, text=None):
        """Runs one verb; returns its stdout."""
        command = [self.path, *map(str, arguments)]
        done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8")
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\nexit {done.returncode}\n{done.stderr[-4000:]}")
        return done.stdout


def write_config(path, values):
    """A flat YAML file; JSON values are YAML values."""
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in values.items()]
    Path(path).write_text("".join(lines))
    return path


def read_prepared(path):
    """The documents of a prepared file (data/store/FORMAT.md): [(ids, weights)], whole."""
    with h5py.File(path) as f:
        offset, tokens, weights = f["documents/offset"][:], f["tokens"][:], f["weights"][:]
    return [(tokens[a:b].tolist(), weights[a:b].tolist()) for a, b in zip(offset, offset[1:])]


def read_metrics(folder):
    """The logged steps of metrics.jsonl that have a training loss, in order."""
    rows = map(json.loads, (Path(folder) / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if "loss" in row]


def file_hash(path):
    """XXH3-128 in hex of a file's content."""
    return xxhash.xxh3_128(Path(path).read_bytes()).hexdigest()
