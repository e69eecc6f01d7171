"""Ids of fuzzed texts (tests/support/fuzz_texts.h) against the references.

    python tokenizer_fuzz.py [--megabytes 100] [--seed 1] [NAME...]   compares cria with them
    python tokenizer_fuzz.py --write                                 the hashes that the tests know

Comparing needs build/release/bench_tokenizer (cmake --build --preset release --target
bench_tokenizer). Names are those of tokenizer_hashes.py, and so is the hash. --write makes
tests/golden/tokenizers/fuzz.json: {"seed", "bytes", "texts", "tokenizers": {name: [hash, ids]}}.
"""

import argparse
import itertools
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import xxhash

import common
from tokenizer_hashes import BATCH, TOKENIZERS

SLICE_SEED, SLICE_BYTES = 1, 1_500_000
SOURCES = ["tests/golden/dump_fuzz_texts.c", "tests/support/fuzz_texts.c", "data/tokenizer/utf8.c",
           "trainer/base/buf.c", "trainer/base/mem.c"]


def write_texts(folder, seed, size):
    """The texts as JSON strings, one a line; the file."""
    program, path = folder / "dump", folder / "texts.jsonl"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-I.", "-Itests", "-Itrainer", "-o", program,
                    *SOURCES, "-ljansson"], cwd=common.REPO, check=True)
    with path.open("wb") as out:
        subprocess.run([program, str(seed), str(size)], stdout=out, check=True)
    return path


def read_texts(path):
    """One text after the other."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def reference(encode, path):
    """What tokenizer_hashes.hash_ids says of the texts of a file, without holding them all."""
    state, count, texts = xxhash.xxh3_128(), 0, read_texts(path)
    while batch := list(itertools.islice(texts, BATCH)):
        for ids in encode(batch):
            state.update(struct.pack(f"<{len(ids) + 1}i", *ids, -1))
            count += len(ids)
    return [state.hexdigest(), count]


def cria(source, path):
    """[hash, number of ids] of ours."""
    run = subprocess.run([common.REPO / "build/release/bench_tokenizer", source, "2", path,
                          "--hash"], capture_output=True, text=True, check=True)
    _, _, ids, _, digest = run.stdout.split()
    return [digest, int(ids)]


def write_slice(data, folder):
    """tests/golden/tokenizers/fuzz.json."""
    path = write_texts(folder, SLICE_SEED, SLICE_BYTES)
    result = {"seed": SLICE_SEED, "bytes": SLICE_BYTES, "texts": sum(1 for _ in read_texts(path)),
              "tokenizers": {name: reference(make(data / source), path)
                             for name, (make, source) in TOKENIZERS.items()}}
    common.write_json(common.GOLDEN / "tokenizers" / "fuzz.json", result)


def compare(data, folder, names, seed, size):
    """Prints one line a tokenizer; whether all agree."""
    path, wrong = write_texts(folder, seed, size), 0
    for name in names or TOKENIZERS:
        make, source = TOKENIZERS[name]
        ours, theirs = cria(data / source, path), reference(make(data / source), path)
        wrong += ours != theirs
        print(f"{name}: {theirs[1]} ids of {size / 1e6:g} MB, "
              f"{'the same' if ours == theirs else f'WRONG: {ours} not {theirs}'}", flush=True)
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", help="default: CRIA_SHARED or ../shared/data")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    data = common.shared_data(args.shared)
    with tempfile.TemporaryDirectory() as folder:
        if args.write:
            write_slice(data, Path(folder))
        elif not compare(data, Path(folder), args.names, args.seed, int(args.megabytes * 1e6)):
            sys.exit(1)


if __name__ == "__main__":
    main()
