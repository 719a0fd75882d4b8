"""Adapters on a model: merged into the weights where nothing needs them apart, one of several active, second moments."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn

from liit.engine.gradients import lora_modules

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


@contextmanager
def speaking_as(model: nn.Module, name: str | None) -> Iterator[None]:
    """The model with one of its adapters active, or with none.

    Set on the layers themselves: PEFT's own switch would also change which weights are trained.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
    try:
        for layer in layers:
            layer._active_adapter, layer._disable_adapters = [name] if name else [], name is None
        yield
    finally:
        for layer, (active, disabled) in zip(layers, before, strict=True):
            layer._active_adapter, layer._disable_adapters = active, disabled


def with_adapters(model: nn.Module, folders: Mapping[str, str]) -> nn.Module:
    """The model with all of these adapters loaded, frozen; `speaking_as` chooses among them."""
    for name, folder in folders.items():
        if isinstance(model, PeftModel):
            model.load_adapter(folder, name)
        else:
            model = PeftModel.from_pretrained(model, folder, name)
    return model.requires_grad_(False).eval()


def load_moments(adapter: str, model: nn.Module) -> dict[str, torch.Tensor]:
    """Adam's second moments of the LoRA weights that the model has in its decoder layers, by the names of `lora_gradients`.

    Raises ValueError where the adapter was saved without them.
    """
    file = Path(adapter) / MOMENTS
    if not file.is_file():
        raise ValueError(f"adapter {adapter} has no {MOMENTS}; Adam gradients need one that was trained here")
    moments, place = load_file(file), {module: name for name, module in model.named_modules()}
    saved = {name: f"{place[module].removesuffix('.default')}.weight" for name, module in lora_modules(model).items()}
    return {name: moments[of] for name, of in saved.items() if of in moments}
