"""The tokenizer of the quickstart's base: byte-level BPE of 1024 pieces, split as Llama-3 splits.

    python quickstart_tokenizer.py build/release/quickstart_world configs/quickstart/base

The merges are learned from texts of the little world (tools/quickstart_world). The same bytes on
every run.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB_SIZE = 1024
SPECIAL = ["<s>", "</s>"]
DOCUMENTS = 20000
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def texts(world):
    """The texts of both phases, the second more often."""
    with tempfile.TemporaryDirectory() as folder:
        for phase, count in (("repeats", DOCUMENTS // 4), ("mixture", DOCUMENTS)):
            path = Path(folder) / "text.jsonl"
            subprocess.run([world, "text", phase, str(count), path], check=True)
            with path.open() as lines:
                for line in lines:
                    yield json.loads(line)["text"]


def build(world):
    """The tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts(world), trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    return tokenizer


def main():
    world, folder = sys.argv[1], Path(sys.argv[2])
    build(world).save(str(folder / "tokenizer.json"))
    config = {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>",
              "eos_token": "</s>", "pad_token": None, "clean_up_tokenization_spaces": False,
              "model_max_length": 512, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    main()
