"""Tiny random models, one per family, with logits, loss and gradients from transformers.

Writes tests/golden/models/<family>/ in the Hugging Face layout, and golden.safetensors in it:
  input_ids int32 [N], doc_lengths int32 [3], weights float32 [N] (1: this token is a target),
  logits float32 [N,V], loss float32 [1], grad.<parameter> float32 (tied head: only the embedding).
The weights are large for their size, so that attention and logits are far from uniform and a
wrong rotation, window or head mapping cannot hide.

    python models.py [family ...]
"""

import argparse
import shutil

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import common
import tiny_tokenizer

WEIGHT_STD = 0.28
NORM_STD = 0.25

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 97, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32", "rope_theta": 10000.0,
}
LLAMA3_ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64, "rope_type": "llama3"}


class Family:
    """A config and how its weights are stored.

    config: config.json as written, unless rewritten: then what transformers itself makes of it,
    which is the new spelling (dtype, rope_parameters).
    """

    def __init__(self, seed, changes, without=(), rewritten=False, storage=torch.float32,
                 shard_size="1GB", tokenizer=False):
        self.seed = seed
        self.config = {k: v for k, v in {**LLAMA, **changes}.items() if k not in without}
        self.rewritten = rewritten
        self.storage = storage
        self.shard_size = shard_size
        self.tokenizer = tokenizer


FAMILIES = {
    # No num_key_value_heads: as many as query heads.
    "llama": Family(1, {"hidden_size": 40, "intermediate_size": 26, "vocab_size": 61}),
    # The one with a tokenizer, so that whole runs of the binary can start from it.
    "llama_gqa_tied": Family(2, {
        "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 38,
        "vocab_size": tiny_tokenizer.VOCAB_SIZE, "max_position_embeddings": 512,
        "tie_word_embeddings": True}, tokenizer=True),
    # Wavelengths 6.3 | 35.3 | 199, 1117 against the bounds 16 and 64: kept, blended, divided.
    "llama3_rope": Family(3, {
        "num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 3,
        "num_key_value_heads": 1, "rope_theta": 1000.0, "rope_scaling": LLAMA3_ROPE},
        rewritten=True),
    # The same weights and results under the old keys.
    "llama31_oldrope": Family(3, {
        "num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 3,
        "num_key_value_heads": 1, "rope_theta": 1000.0, "rope_scaling": LLAMA3_ROPE}),
    # The oldest key of all: "type" in place of "rope_type".
    "llama_linear_rope": Family(4, {
        "num_hidden_layers": 1, "hidden_size": 24, "num_key_value_heads": 1,
        "rope_scaling": {"type": "linear", "factor": 4.0}}),
    "llama_bias": Family(5, {
        "num_hidden_layers": 1, "num_key_value_heads": 2, "attention_bias": True,
        "mlp_bias": True, "intermediate_size": 31, "vocab_size": 73}),
    "llama_bf16": Family(6, {
        "num_hidden_layers": 1, "hidden_size": 24, "num_key_value_heads": 2,
        "torch_dtype": "bfloat16"}, storage=torch.bfloat16),
    "llama_f16_sharded": Family(7, {
        "num_hidden_layers": 1, "hidden_size": 24, "num_key_value_heads": 2,
        "torch_dtype": "float16"}, storage=torch.float16, shard_size="8KB"),
    # The window is shorter than every document; heads * head_dim is not hidden_size.
    "mistral": Family(8, {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 5,
        "hidden_size": 28, "num_key_value_heads": 2, "head_dim": 12,
        "intermediate_size": 33, "vocab_size": 71}),
    "qwen2": Family(9, {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rms_norm_eps": 1e-6,
        "num_key_value_heads": 2, "rope_theta": 1000000.0, "vocab_size": 83,
        "intermediate_size": 35, "use_sliding_window": False, "sliding_window": 7,
        "max_window_layers": 1}),
    "qwen3": Family(10, {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "rms_norm_eps": 1e-6,
        "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 35, "vocab_size": 67,
        "rope_theta": 1000000.0}, rewritten=True),
}


def randomise(model, seed):
    """Fills every parameter in name order from one generator."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + NORM_STD * noise if "norm" in name else WEIGHT_STD * noise)


def write_model(folder, family):
    """Writes config.json and the weights of one family into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config_file = folder / "config.json"
    common.write_json(config_file, family.config)
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomise(model, family.seed)
    model.to(family.storage).save_pretrained(folder, max_shard_size=family.shard_size)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if not family.rewritten:
        common.write_json(config_file, family.config)
    if family.tokenizer:
        tiny_tokenizer.write(folder)
    common.make_readable(folder)


def write_golden(folder, family):
    """Reads the folder back as a user would and records what transformers computes, in fp32."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    documents = common.make_documents(family.config["vocab_size"], 100 + family.seed)
    outputs = common.forward_backward(model, documents)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    tensors = common.golden_tensors(documents, outputs, gradients)
    common.save_golden(folder / "golden.safetensors", tensors)
    return model, documents, outputs


def report(name, folder, model, documents, outputs):
    """One line a family: the loss, and how far sdpa is from eager."""
    sdpa = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    with torch.no_grad():
        other = common.document_logits(sdpa, documents[0], documents[1])
    size = sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
    print(f"{name:18} {sum(p.numel() for p in model.parameters()):6} parameters"
          f"  {size / 1024:6.0f} KiB  loss {outputs['loss'].item():.4f}"
          f"  logits' std {outputs['logits'].std().item():.2f}"
          f"  sdpa-eager {common.relative_error(other, outputs['logits']):.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="family")
    names = parser.parse_args().families or list(FAMILIES)
    common.quiet_and_deterministic()
    for name in names:
        folder = common.MODELS / name
        write_model(folder, FAMILIES[name])
        model, documents, outputs = write_golden(folder, FAMILIES[name])
        report(name, folder, model, documents, outputs)


if __name__ == "__main__":
    main()
