"""Adapters on a model: merged into the weights where nothing needs them apart, one of several active, second moments."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn

from liit.engine.models.anatomy import (
    decoder_layers,
    decoder_name,
    linears,
    projector_linears,
    projector_name,
    unwrapped,
)

MOMENTS = "moments.safetensors"


def add_lora(
    model: nn.Module,
    *,
    r: int,
    alpha: float,
    dropout: float,
    targets: tuple[str, ...],
    projector: bool,
    seed: int,
    of: str = "language",
) -> PeftModel:
    """A fresh LoRA adapter (A random from the seed, B zero); with `projector`, the projector is trained and saved too.

    of: whose linears it is of, the language model's or the projector's. Raises ValueError that lists the linears when a
    target names none of them.
    """
    if of == "projector":
        linears = projector_linears(model)
        config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=linears)
        torch.manual_seed(seed)
        return get_peft_model(model, config)
    decoder = decoder_name(model)
    linears = sorted({name.rpartition(".")[2] for name in _linears(model, decoder)})
    unknown = sorted(set(targets) - set(linears))
    if unknown:
        raise ValueError(f"training.lora.targets: no linear is named {unknown}; the language model has {linears}")
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"{re.escape(decoder)}\..*\.({'|'.join(targets or linears)})",
        modules_to_save=[projector_name(model)] if projector else None,
    )
    torch.manual_seed(seed)
    return get_peft_model(model, config)


def lean(model: nn.Module) -> None:
    """Let every plain LoRA linear do with fewer passes over its output: W x + B (s A x) is one product that adds onto another.

    In place; the same to rounding. What such a layer does else, PEFT's own forward does.
    """
    for module in model.modules():
        if isinstance(module, LoraLinear) and type(module.get_base_layer()) is nn.Linear:
            module.forward = MethodType(_lean_forward, module)


def _lean_forward(self: LoraLinear, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    active = "" if self.disable_adapters or self.merged or len(self.active_adapters) != 1 else self.active_adapters[0]
    if args or options or active not in self.lora_A or active in self.lora_variant or self.lora_bias[active]:
        return type(self).forward(self, x, *args, **options)
    into, out = self.lora_A[active], self.lora_B[active]
    if out._forward_hooks or x.dtype != into.weight.dtype:  # who waits for B to be called (`Anchor`) would wait in vain
        return type(self).forward(self, x)
    rows = self.base_layer(x)
    dropped, kept = _dropped(x, self.lora_dropout[active])
    low = into(dropped) * (self.scaling[active] / kept)
    return rows.flatten(0, -2).addmm_(low.flatten(0, -2), out.weight.T).view_as(rows)


def _dropped(x: torch.Tensor, dropout: nn.Module) -> tuple[torch.Tensor, float]:
    """x with some numbers zero, and the share that is kept, which the others are still to be divided by.

    On a CPU of 16 random bits a number: torch draws 64, four times as slow. Shares are rounded to 1/65536.
    """
    rate = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    if x.device.type != "cpu" or not rate:
        return dropout(x), 1.0
    zeros = round(rate * 2**16)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    dropped = (bits[: x.numel()] < zeros - 2**15).view(x.shape)
    return x.masked_fill(dropped, 0.0), 1 - zeros / 2**16


def lora_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of the A and B matrices of all decoder layers, by the names of `lora_gradients`."""
    return {
        f"layers.{index}.{name}.{part}": getattr(module, part)["default"]
        for index, layer in enumerate(decoder_layers(model))
        for name, module in linears(layer)
        if isinstance(module, LoraLayer)
        for part in ("lora_A", "lora_B")
    }


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


def _linears(model: nn.Module, decoder: str) -> list[str]:
    named = unwrapped(model).named_modules()
    return [name for name, module in named if isinstance(module, nn.Linear) and name.startswith(f"{decoder}.")]
