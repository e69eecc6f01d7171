"""LoRA adapters as PEFT writes them, on the tiny models, with logits, loss and gradients.

Writes tests/golden/models/<family>/adapter_<name>/: adapter_config.json,
adapter_model.safetensors and golden.safetensors:
  input_ids, doc_lengths, weights (as in the family's own golden), logits, loss,
  grad.<tensor name as in adapter_model.safetensors>, and for adapters marked so
  merged.<parameter> for every weight that merge_and_unload changes.
A and B are both random: a fresh adapter (B = 0) would hide everything.

    python adapters.py
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import common

# "all-linear" is saved as full paths ("model.layers.0.mlp.down_proj") where they are few, as here,
# and as these last parts where they are many: a reader meets both.
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# (family, name, what is given to LoraConfig beside task_type, merged weights wanted)
ADAPTERS = [
    ("llama", "default", {}, False),
    ("llama_gqa_tied", "all_linear",
     {"target_modules": "all-linear", "r": 4, "lora_alpha": 16}, True),
    ("qwen3", "rslora",
     {"target_modules": LINEARS, "r": 4, "lora_alpha": 6, "use_rslora": True}, False),
    ("mistral", "mlp",
     {"target_modules": ["gate_proj", "down_proj"], "r": 5, "lora_alpha": 10}, False),
]


def load_base(family):
    """A tiny model as fp32."""
    return AutoModelForCausalLM.from_pretrained(
        common.MODELS / family, dtype=torch.float32, attn_implementation="eager").eval()


def randomise(model, seed):
    """Fills A and B in name order, at a size that moves the logits well away from the base's."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "lora_" in name:
                p.copy_(0.2 * torch.randn(p.shape, generator=generator))


def write_adapter(folder, family, options, seed):
    """Makes the adapter and saves the two files PEFT's loader needs."""
    model = get_peft_model(load_base(family), LoraConfig(task_type="CAUSAL_LM", **options))
    randomise(model, seed)
    config = model.peft_config["default"]
    config.base_model_name_or_path = family
    config.target_modules = sorted(config.target_modules)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch, save_embedding_layers=False)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(Path(scratch) / name, folder / name)
    common.make_readable(folder)


def file_names(model):
    """{name in the adapter file: parameter} of the trainable parameters."""
    return {name.replace(".default.", "."): p
            for name, p in model.named_parameters() if p.requires_grad}


def merged_weights(model, family):
    """The weights that merging changes, under their names in the base model."""
    base = dict(load_base(family).named_parameters())
    merged = dict(model.merge_and_unload().named_parameters())
    return {"merged." + name: p for name, p in merged.items() if not torch.equal(p, base[name])}


def write_golden(folder, family, want_merged):
    """Reads base and adapter back as a user would and records what PEFT computes."""
    base_golden = load_file(common.MODELS / family / "golden.safetensors")
    documents = tuple(base_golden[k] for k in ("input_ids", "doc_lengths", "weights"))
    model = PeftModel.from_pretrained(load_base(family), folder, is_trainable=True).eval()
    outputs = common.forward_backward(model, documents)
    parameters = file_names(model)
    assert parameters.keys() == load_file(folder / "adapter_model.safetensors").keys()
    tensors = common.golden_tensors(
        documents, outputs, {name: p.grad for name, p in parameters.items()})
    if want_merged:
        tensors.update(merged_weights(model, family))
    common.save_golden(folder / "golden.safetensors", tensors)
    return outputs, common.relative_error(outputs["logits"], base_golden["logits"])


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    common.quiet_and_deterministic()
    for seed, (family, name, options, want_merged) in enumerate(ADAPTERS, start=50):
        folder = common.MODELS / family / f"adapter_{name}"
        write_adapter(folder, family, options, seed)
        outputs, shift = write_golden(folder, family, want_merged)
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{family}/adapter_{name:12} {size / 1024:5.0f} KiB"
              f"  loss {outputs['loss'].item():.4f}  logits away from the base's by {shift:.2f}")


if __name__ == "__main__":
    main()
