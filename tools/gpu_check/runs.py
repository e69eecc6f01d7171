"""Runs of cria for tools/gpu-check: configs, data, steps and their time and memory."""

import contextlib
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from gpu_check.machine import ROOT, Failed, Nvml, environment, program

BASE = ROOT / "configs/quickstart/base"
SEED = 42
SPACES = "\N{LOWER ONE EIGHTH BLOCK}\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"  # in front of words
AROUND = 2  # tokens that a template adds to a prompt or reply, about
LLAMA3 = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "vocab_size": 128256, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "max_position_embeddings": 8192, "initializer_range": 0.02, "attention_bias": False,
    "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "bfloat16",
}
SHAPES = {
    "1b": {**LLAMA3, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
           "tie_word_embeddings": True},
    "3b": {**LLAMA3, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
           "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
           "tie_word_embeddings": True},
    "8b": {**LLAMA3, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
           "tie_word_embeddings": False},
    "toy": {**LLAMA3, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 1100,
            "tie_word_embeddings": False},
}


def tensor_shapes(c):
    """(name, shape) of each tensor of a Llama, as its file has them."""
    hidden, ffn, size = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    queries, keys = c["num_attention_heads"] * size, c["num_key_value_heads"] * size
    yield "model.embed_tokens.weight", [c["vocab_size"], hidden]
    for layer in range(c["num_hidden_layers"]):
        for name, shape in (
                ("input_layernorm", [hidden]), ("post_attention_layernorm", [hidden]),
                ("self_attn.q_proj", [queries, hidden]), ("self_attn.k_proj", [keys, hidden]),
                ("self_attn.v_proj", [keys, hidden]), ("self_attn.o_proj", [hidden, queries]),
                ("mlp.gate_proj", [ffn, hidden]), ("mlp.up_proj", [ffn, hidden]),
                ("mlp.down_proj", [hidden, ffn])):
            yield f"model.layers.{layer}.{name}.weight", shape
    yield "model.norm.weight", [hidden]
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", [c["vocab_size"], hidden]


class Bench:
    """Where a part runs: its folder of scratch, the programs, how long it may take."""

    def __init__(self, work, limit, emulated, out=None, device="cuda"):
        self.work, self.emulated, self.device = Path(work), emulated, device
        self.out = Path(out or work)  # what is to stay, beside the results
        self.ends = time.monotonic() + limit
        self.work.mkdir(parents=True, exist_ok=True)

    def left(self):
        return max(1.0, self.ends - time.monotonic())

    def over(self):
        return time.monotonic() > self.ends

    @contextlib.contextmanager
    def within(self, seconds):
        """No more than that for what is in the block."""
        ends, self.ends = self.ends, min(self.ends, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.ends = ends

    def run(self, name, *arguments, codes=(0,), **more):
        """Stdout of one of our programs; Failed where it ends otherwise."""
        return self.command(program(name, self.emulated), *arguments, codes=codes, **more)

    def command(self, *words, codes=(0,), env=None, cwd=ROOT, merged=False):
        words = list(map(str, words))
        try:
            done = subprocess.run(words, env=dict(environment(), **(env or {})), cwd=cwd, text=True,
                                  stdout=subprocess.PIPE, timeout=self.left(), errors="replace",
                                  stderr=subprocess.STDOUT if merged else subprocess.PIPE)
        except subprocess.TimeoutExpired as e:
            said = (e.stdout or b"")[-400:]
            said = said.decode(errors="replace") if isinstance(said, bytes) else said
            raise Failed(f"{Path(words[0]).name} did not end in time; it said {said!r}") from e
        if done.returncode not in codes:
            said = (done.stdout + ("" if merged else done.stderr)).strip()[-1500:]
            raise Failed(f"{' '.join([Path(words[0]).name, *words[1:4]])} ended with "
                         f"{done.returncode}: {said}")
        return done.stdout

    # --- models and data ---

    def model(self, shape):
        """A folder with the config and a tokenizer, without weights (random_weights)."""
        folder = self.work / f"model-{shape}"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(SHAPES[shape]))
        for file in BASE.glob("tokenizer*"):
            shutil.copy(file, folder)
        return folder

    def words(self):
        """Words that are one token each behind a space."""
        vocabulary = json.loads((BASE / "tokenizer.json").read_text())["model"]["vocab"]
        return sorted(word[1:] for word in vocabulary if word[0] in SPACES and len(word) > 3
                      and word[1:].isascii() and word[1:].isalpha())

    def text(self, documents, tokens):
        """Plain text in documents of `tokens` tokens, the one in front and the one behind among
        them: a longer one would be cut, and steps differ in length."""
        path, rng, words = self.work / "text.jsonl", random.Random(1), self.words()
        with path.open("w") as f:
            for _ in range(documents):
                text = "".join(" " + word for word in rng.choices(words, k=tokens - 2))
                f.write(json.dumps({"text": text}) + "\n")
        return path

    def tasks(self, count=400):
        """Instructions of the quickstart's kinds: train.jsonl, heldout/."""
        self.run("quickstart_world", "tasks", count, self.work / "data")
        return self.work / "data/train.jsonl"

    def pairs(self, count=120):
        self.run("quickstart_world", "pairs", 2 * count, count, self.work / "data")
        return self.work / "data/pairs.jsonl"

    def long_pairs(self, count, prompt, reply):
        """Preferences of about so many tokens a prompt and a reply: words of one token each."""
        path, rng, words = self.work / "long-pairs.jsonl", random.Random(1), self.words()
        with path.open("w") as f:
            for _ in range(count):
                texts = (" ".join(rng.choices(words, k=n))
                         for n in (prompt - AROUND, reply - AROUND, reply - AROUND))
                f.write(json.dumps(dict(zip(("prompt", "chosen", "rejected"), texts))) + "\n")
        return path

    def weights(self, shape):
        """A file of weights for model(shape): small numbers, the same ones again and again."""
        c, path = SHAPES[shape], self.model(shape) / "model.safetensors"
        header, at = {}, 0
        for name, sizes in tensor_shapes(c):
            n = 2
            for size in sizes:
                n *= size
            header[name] = {"dtype": "BF16", "shape": sizes, "data_offsets": [at, at + n]}
            at += n
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        rng = random.Random(1)
        block = b"".join(struct.pack("<H", rng.choice((0x3c00, 0xbc00)) + rng.randrange(128))
                         for _ in range(1 << 16)) * 64
        with path.open("wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for begin in range(0, at, len(block)):
                f.write(block[:at - begin])
        return path

    def config(self, name, **own):
        values = {
            "model_name_or_path": str(BASE), "output_dir": str(self.work / name),
            "overwrite_output_dir": True, "device": self.device, "learning_rate": 1e-4,
            "lr_scheduler_type": "constant", "gradient_checkpointing": "none", "logging_steps": 1,
            "save_steps": "none", "report_to": "none", "sample_prompts": "none", "seed": SEED, **own}
        path = self.work / f"{name}.yaml"
        path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
        return path

    # --- runs ---

    def train(self, config, *overrides):
        """Runs to its end; the logged steps."""
        self.run("cria", "train", config, *overrides)
        return read_metrics(config.with_suffix(""))

    def steps(self, config, count, limit):
        """The first `count` steps, or as many as come in `limit` seconds; then the run is killed,
        since what a run saves is no part of a step. Returns seconds a step, the first two left
        out, tokens a second, and the most bytes the GPU held more than before."""
        folder = config.with_suffix("")
        shutil.rmtree(folder, ignore_errors=True)
        nvml, began = Nvml(), time.monotonic()
        held = peak = nvml.used()
        log = (self.work / "train.log").open("wb")
        process = subprocess.Popen([str(program("cria", self.emulated)), "train", str(config)],
                                   cwd=ROOT, env=environment(), stdout=log, stderr=log)
        rows, first = [], None
        try:
            while process.poll() is None and len(rows) < count and time.monotonic() < began + limit:
                time.sleep(0.02)
                rows = read_metrics(folder)
                first = first or (rows and time.monotonic() - began) or None
                if held is not None:
                    peak = max(peak, nvml.used())
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            log.close()
        rows = read_metrics(folder)
        if len(rows) < 3:
            said = (self.work / "train.log").read_text(errors="replace").strip()[-800:]
            raise Failed(f"{config.stem}: {len(rows)} steps in {time.monotonic() - began:.0f} s: "
                         f"{said}")
        rates = [row["tokens_per_second"] for row in rows[2:]]
        shares = [row["floor_share"] for row in rows[2:] if row.get("floor_share")]
        seconds = [(row["num_tokens"] - before["num_tokens"]) / row["tokens_per_second"]
                   for before, row in zip(rows[1:], rows[2:])]
        return {"steps": len(rows), "tokens_per_second": median(rates), "rates": rates,
                "seconds": seconds, "first_step_s": first, "loss": [row["loss"] for row in rows],
                "floor_share": median(shares) if shares else None,
                "peak_bytes": None if held is None else peak - held}

    def plan(self, config):
        return json.loads(self.run("cria", "plan", config, "--json"))

    def profile(self, config, steps, limit):
        """Where the time of `steps` steps goes: profile.json. Its trace, which is written behind it
        and kept, packed, in `out`, ends the run."""
        folder, ends = config.with_suffix(""), time.monotonic() + limit
        shutil.rmtree(folder, ignore_errors=True)
        with (self.work / "train.log").open("wb") as log:
            process = subprocess.Popen(
                [str(program("cria", self.emulated)), "train", str(config), "--profile",
                 str(steps)], cwd=ROOT, env=environment(), stdout=log, stderr=log)
            try:
                while (process.poll() is None and time.monotonic() < ends
                       and not whole_json(folder / "profile-trace.json")):
                    time.sleep(0.1)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                process.wait()
        if not whole_json(folder / "profile-trace.json"):
            said = (self.work / "train.log").read_text(errors="replace").strip()[-800:]
            raise Failed(f"{config.stem}: no profile in {limit:.0f} s: {said}")
        trace = self.out / f"{config.stem}-trace.json.gz"
        with (folder / "profile-trace.json").open("rb") as f, gzip.open(trace, "wb") as to:
            shutil.copyfileobj(f, to)
        found = json.loads((folder / "profile.json").read_text())
        found.pop("products", None)  # operands by address
        return {**found, "trace": trace.name}

    # --- peers ---

    def peer_environment(self):
        return dict(environment(), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
                    PYTHONPATH=f"{ROOT / 'site'}:{os.environ.get('PYTHONPATH', '')}",
                    LD_LIBRARY_PATH=os.environ.get("LD_LIBRARY_PATH", ""))

    def peer(self, script, *arguments):
        """The JSON that a peer's program ends with."""
        out = self.command(sys.executable, ROOT / "tools/bench_peer" / script, *arguments,
                           env=self.peer_environment())
        return json.loads(out.strip().split("\n")[-1])

    def peer_rows(self, script, *arguments):
        """The lines of JSON that a peer's program says before it ends or the time is over, and
        why there are no more, if it did not end well."""
        said, why = self.work / "peer.out", None
        words = [sys.executable, ROOT / "tools/bench_peer" / script, *arguments]
        with said.open("w") as out, (self.work / "peer.err").open("w") as error:
            process = subprocess.Popen(list(map(str, words)), cwd=ROOT, stdout=out, stderr=error,
                                       env=self.peer_environment())
            try:
                if process.wait(timeout=self.left()):
                    why = f"it ended with {process.returncode}"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                why = "the time was over"
        if why:
            why += ": " + (self.work / "peer.err").read_text(errors="replace").strip()[-600:]
        return [json.loads(line) for line in said.read_text().split("\n")[:-1]
                if line.startswith("{")], why


def judged(good, why, **found):
    """A part's result."""
    return {"good": bool(good), **({} if good else {"why": why}), **found}


def try_each(names, check):
    """({name: what was found}, [what is bad]): check(name) gives both; where it cannot go on, the
    others do."""
    found, bad = {}, []
    for name in names:
        try:
            found[name], wrong = check(name)
            bad += wrong
        except Failed as e:
            found[name] = {"failed": str(e)}
            bad.append(f"{name}: {e}")
    return found, bad


def step_config(bench, name, shape, own, tokens, **more):
    """A run over one document of `tokens` a step."""
    values = {"model_name_or_path": str(bench.model(shape)), "random_weights": True, **own, **more}
    return bench.config(name, stage="pt", datasets=str(bench.text(4, tokens)), max_length=tokens,
                        per_device_train_batch_size=1, max_steps=1000, **values)


def read_metrics(folder):
    """Logged steps that have a training loss; a line that is being written is left out."""
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return [row for row in rows if "loss" in row]


def whole_json(path):
    """Whether a file is there and was written to its end."""
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


def config_of(bench, shape):
    """The file with a shape's config.json, for peers."""
    path = bench.work / f"{shape}.json"
    path.write_text(json.dumps(SHAPES[shape]))
    return path


def file_hash(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def relative_error(values, wanted):
    """|values - wanted| / |wanted|, over the vector."""
    above = sum((a - b) ** 2 for a, b in zip(values, wanted, strict=True))
    return (above / sum(b * b for b in wanted)) ** 0.5
