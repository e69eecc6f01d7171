"""bitsandbytes' AdamW with states of 8 bits, as transformers' Trainer sets it up, on the CPU.

Its update for the CPU is taken as it is (backends/cpu/ops.py). What rounds states to codes is not:
the library's quantize_blockwise for fp32 looks small numbers up in a coarse table (1.1e-6 of a
block's largest becomes 1.6e-5) and so is not what bitsandbytes does on a GPU, where most train.
Its own portable kernel, registered for all devices that have none, takes the nearest number of the
map, as the one for CUDA does; it is asked for by its dispatch key.
"""

import bitsandbytes
import torch
from bitsandbytes import functional
from bitsandbytes.backends.cpu import ops

PORTABLE = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)


def quantize_nearest(values, code, absmax_out, codes_out, block):
    """To the nearest numbers of the map, by bitsandbytes' portable kernel."""
    quantize = torch.ops.bitsandbytes.quantize_blockwise.default
    codes, absmax = quantize.redispatch(PORTABLE, values, code, block)
    codes_out.copy_(codes)
    absmax_out.copy_(absmax)


def adamw(model, parameters, learning_rate):
    """The optimiser, with embeddings in 32 bits: Trainer's create_optimizer does that."""
    ops._quant_blockwise_fp32_direct = quantize_nearest
    optimizer = bitsandbytes.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, optim_bits=8)
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
    return optimizer


def golden():
    """The version and both maps, for the committed file."""
    return {"bitsandbytes": bitsandbytes.__version__,
            "signed_map": functional.create_dynamic_map(signed=True).tolist(),
            "unsigned_map": functional.create_dynamic_map(signed=False).tolist()}
