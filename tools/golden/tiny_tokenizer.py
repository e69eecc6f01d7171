"""A tokenizer.json of Llama-2's kind with a few hundred pieces, for the tiny models.

Prepend "▁", byte fallback, BOS by the post-processor, as in the real file, so that the binary
can train, merge and generate from tests/golden/models alone. The merges are learned from
the sentences below.
"""

import json

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

VOCAB_SIZE = 311
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]

SENTENCES = [
    "The small herd of alpacas walked along the river in the early morning.",
    "A llama carried the salt up to the village, and the children followed it.",
    "When the rain came, the shepherd counted the animals and closed the gate.",
    "Name three things that a vicuna needs: grass, water and a quiet hill.",
    "The wool is warm, the winter is long, and the road to the market is steep.",
    "What does the llama eat? It eats grass, hay and, when nobody looks, the hat.",
    "### Instruction: write a short answer. ### Response: this is the answer.",
]


def learn_merges(count):
    """Merges in order of rank, and the characters they start from, learned from SENTENCES."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = llama_normalizer()
    learner.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=count, show_progress=False)
    learner.train_from_iterator(SENTENCES, trainer)
    model = json.loads(learner.to_str())["model"]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(pair) for pair in model["merges"]]
    return [piece for piece in vocab if len(piece) == 1], merges


def llama_normalizer():
    """Prepend "▁", spaces to "▁"."""
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def build():
    """The tokenizer."""
    letters, merges = learn_merges(VOCAB_SIZE - len(SPECIAL) - len(BYTES))
    pieces = SPECIAL + BYTES + letters + ["".join(pair) for pair in merges]
    assert len(set(pieces)) == len(pieces) == VOCAB_SIZE, len(pieces)
    tokenizer = Tokenizer(models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges,
        unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = llama_normalizer()
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(content=" ", left=1, right=0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def write(folder):
    """Writes tokenizer.json and tokenizer_config.json."""
    build().save(str(folder / "tokenizer.json"))
    config = {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>",
              "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None, "legacy": True,
              "clean_up_tokenization_spaces": False, "model_max_length": 512,
              "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
