"""A timestep's adapter as scoring wants it: merged into the weights where nothing needs it apart, with its second moments."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file
from torch import nn

MOMENTS = "moments.safetensors"


def merge(model: nn.Module, keep: Iterable[nn.Module]) -> None:
    """Replace every LoRA linear outside of the modules `keep` by its base linear with s B A added to it, in place.

    What is computed stays the same, once instead of for every token.
    """
    kept = {id(inside) for module in keep for inside in module.modules()}
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear) and id(module) not in kept:
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())


def load_moments(adapter: str) -> dict[str, torch.Tensor]:
    """Adam's second moments by the names of `gradients.lora_gradients`: `layers.3.mlp.up_proj.lora_A`.

    Raises ValueError where the adapter was saved without them.
    """
    file = Path(adapter) / MOMENTS
    if not file.is_file():
        raise ValueError(f"adapter {adapter} has no {MOMENTS}; Adam gradients need one that was trained here")
    moments = load_file(file)
    named = {name: re.search(r"\.(layers\.\d+\..*\.lora_[AB])\.weight$", name) for name in moments}
    return {found[1]: moments[name] for name, found in named.items() if found}
