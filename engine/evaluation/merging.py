"""An adapter merged into its base: added in float32, cast once to what the base is stored in, and what that cast lost.

In bfloat16 a sum keeps 8 bits: an update smaller than a 256th of its weight is rounded away, whatever was computed before.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from liit.engine.run.files import read_json

MOST_LOST = 0.5
"""Of the norm of an update that the cast may change, where a merged model is to answer for its adapter."""


class CannotMerge(ValueError):
    """The adapter has to stay apart; the message says why, as the end of a sentence."""


@dataclass
class Cast:
    """What the cast of merged weights to the type of the base did to their updates."""

    dtype: str = "float32"
    updated: int = 0
    """Weights that the adapter changes, in float32."""
    lost: int = 0
    """Those of them that the cast brings back to what they were."""
    error: float = 0.0
    """The largest of any tensor: the norm of what the cast adds, over the norm of the update."""
    where: str = ""
    """The tensor that it is the largest of."""

    @property
    def lost_share(self) -> float:
        return self.lost / self.updated if self.updated else 0.0

    def add(self, name: str, before: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        """`exact`, float32, in the type of `before`, which is counted."""
        after = exact.to(before.dtype)
        update = exact - before.float()
        self.updated += int((update != 0).sum())
        self.lost += int(((update != 0) & (after == before)).sum())
        size = float(update.norm())
        error = float((after.float() - exact).norm()) / size if size else 0.0
        if error > self.error:
            self.error, self.where = error, name
        self.dtype = str(before.dtype).removeprefix("torch.")
        return after


def merge_into(base: nn.Module, adapter: Path) -> tuple[Any, Cast]:
    """The base with the adapter's LoRA and its trained projector in its weights, and what the cast did.

    base: in the types that it is stored in; it is changed. One weight at a time is float32, never the whole model. Raises
    CannotMerge for a quantised base, for an adapter that is more than LoRA of linears and trained copies of modules, and for one
    of a weight that another module has too: merged, it would change what that computes.
    """
    if getattr(base, "is_quantized", False):
        raise CannotMerge("the base is quantised")
    stored = {name: parameter.dtype for name, parameter in base.named_parameters()}
    whole = tuple(read_json(adapter / "adapter_config.json").get("modules_to_save") or ())
    for name, module in base.named_modules():
        if name.rpartition(".")[2] in whole:
            module.float()  # so that PEFT loads the trained copy as it was trained
    model, cast = PeftModel.from_pretrained(base, str(adapter)), Cast()
    _refuse(model)
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLinear):
            layer = module.get_base_layer()
            exact = layer.weight.data.float() + module.get_delta_weight("default").float()
            layer.weight.data = cast.add(f"{name}.weight", layer.weight.data, exact)
        elif isinstance(module, ModulesToSaveWrapper):
            before = dict(module.original_module.named_parameters())
            for inner, parameter in module.modules_to_save["default"].named_parameters():
                of = f"{name}.{inner}"
                parameter.data = cast.add(of, before[inner].data.to(stored[of]), parameter.data.float())
    return model.unload().requires_grad_(False).eval(), cast


def merged_to_answer(base: nn.Module, adapter: Path) -> Any:
    """The base with the adapter in its weights, to answer in its place; the same bits each time.

    Raises CannotMerge as `merge_into`, and where the cast would leave too little of the adapter.
    """
    model, cast = merge_into(base, adapter)
    if cast.error > MOST_LOST:
        raise CannotMerge(f"the cast to {cast.dtype} would lose {cast.error:.0%} of what it does to {cast.where}")
    return model


def _refuse(model: PeftModel) -> None:
    """What is not W + s B A, whose bias was trained too, or whose W is tied."""
    if not isinstance(model.peft_config["default"], LoraConfig):
        raise CannotMerge("it is no LoRA")
    times = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    for name, module in model.get_base_model().named_modules():
        inside = module.original_module if isinstance(module, ModulesToSaveWrapper) else module
        if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper) and any(
            times[id(parameter)] > 1 for parameter in inside.parameters()
        ):
            raise CannotMerge(f"the weight of {name} is tied to that of another module")
        if not isinstance(module, BaseTunerLayer):
            continue
        plain = isinstance(module, LoraLinear) and type(module.get_base_layer()) is nn.Linear
        if not plain or module.lora_variant or any(module.lora_bias.values()):
            raise CannotMerge(f"what it has at {name} is no plain LoRA of a linear")
    if model.peft_config["default"].bias != "none":
        raise CannotMerge("it trained biases too")
