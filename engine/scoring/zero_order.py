"""Zero-order gradient features: forward passes only, along directions that all samples share.

φ_k = (ℓ(θ + ε z_k) - ℓ(θ - ε z_k)) / 2ε = ⟨z_k, ∇ℓ⟩ + O(ε²) for K Gaussian directions z_k: an unbiased projection of
the gradient, up to 1/√K. With directions drawn anew for each sample nothing but a sign would be left. Layers below the
moved ones run once. Legend: B samples, K directions.
"""

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from liit.engine.models import anatomy
from liit.engine.models.anatomy import linears
from liit.engine.scoring.passes import Batch, Seen, look
from liit.engine.scoring.projections import gaussian
from liit.engine.settings.specs import SketchSpec

KEPT_SHARE = 0.5
"""Of the memory that is free: what directions may take to be kept from batch to batch."""

CPU = torch.device("cpu")


class ZeroOrder:
    """Makes one feature: its directions, over the parameters of some layers."""

    gradient_layers: Mapping[float, Collection[int]] = MappingProxyType({})
    watched: Sequence[nn.Module] = ()

    def __init__(self, spec: SketchSpec, model: nn.Module, layers: Sequence[int], seed: int) -> None:
        self.spec, self.seed, self.model = spec, seed, model
        blocks = anatomy.decoder_layers(model)
        self.cut = Cut(list(blocks), min(layers))
        self._parameters = dict(_parameters({index: blocks[index] for index in layers}, spec.parameters))
        if not self._parameters:
            raise ValueError("no adapter in the layers that are moved; give training.lora.targets that are in them")
        self._directions: dict[int, dict[str, torch.Tensor]] = {}
        size = 4 * spec.directions * sum(parameter.numel() for parameter in self._parameters.values())
        device = next(iter(self._parameters.values())).device
        self._kept_on = next((place for place in (device, CPU) if size <= KEPT_SHARE * _free_memory(place)), None)

    @torch.no_grad()
    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        """(B, K) float32, not normalised."""
        with self.cut.recording():
            look(self.model, batch)
        columns = []
        with self.cut.skipping(), self._restored() as before:
            for k in range(self.spec.directions):
                direction = self._direction(k)
                losses = []
                for distance in (self.spec.epsilon, -self.spec.epsilon):
                    for name, parameter in self._parameters.items():
                        parameter.copy_(before[name].float() + distance * direction[name])
                    losses.append(look(self.model, batch).losses_B)
                columns.append((losses[0] - losses[1]) / (2 * self.spec.epsilon))
        return torch.stack(columns, 1) / math.sqrt(self.spec.directions)

    def _direction(self, k: int) -> dict[str, torch.Tensor]:
        """z_k by parameter, in float32, where the model is. All are made once and kept there, or in the host's memory where they
        would fill the device; only where they would fill that too, they are made anew for every batch."""
        found = self._directions.get(k)
        if found is None:
            found = {
                name: gaussian(parameter.shape, self.seed, f"{name}/direction {k}").to(self._kept_on or CPU)
                for name, parameter in self._parameters.items()
            }
            if self._kept_on is not None:
                self._directions[k] = found
        return {name: values.to(self._parameters[name].device) for name, values in found.items()}

    @contextmanager
    def _restored(self) -> Iterator[dict[str, torch.Tensor]]:
        """The weights as they are, by name; afterwards the model has the same bits again."""
        before = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        try:
            yield before
        finally:
            for name, parameter in self._parameters.items():
                parameter.copy_(before[name])


def _free_memory(device: torch.device) -> int:
    """Bytes that are free where the model is."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _parameters(layers: Mapping[int, nn.Module], kind: str) -> Iterator[tuple[str, nn.Parameter]]:
    for index, layer in layers.items():
        for name, module in linears(layer):
            if kind == "lora" and isinstance(module, LoraLinear):
                yield f"layers.{index}.{name}.lora_A", module.lora_A["default"].weight
                yield f"layers.{index}.{name}.lora_B", module.lora_B["default"].weight
            elif kind == "base":
                linear: Any = module.get_base_layer() if isinstance(module, LoraLinear) else module
                yield f"layers.{index}.{name}", linear.weight


class Cut:
    """Keeps what enters one layer in a forward; later forwards then skip the layers before it."""

    def __init__(self, layers: Sequence[nn.Module], at: int) -> None:
        self.below, self.layer = layers[:at], layers[at]
        self._entering: torch.Tensor | None = None
        self._tuple = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        with ExitStack() as hooks:
            hooks.callback(self.layer.register_forward_pre_hook(self._keep, with_kwargs=True).remove)
            hooks.callback(self.layer.register_forward_hook(self._look).remove)
            yield

    @contextmanager
    def skipping(self) -> Iterator[None]:
        with ExitStack() as undo:
            for layer in self.below:
                layer.forward = self._pass  # an attribute of the instance hides the method of its class
                undo.callback(delattr, layer, "forward")
            undo.callback(self.layer.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
            yield

    def _keep(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._entering = (args[0] if args else kwargs["hidden_states"]).detach()

    def _look(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._tuple = isinstance(output, tuple)

    def _pass(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states,) if self._tuple else hidden_states

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (self._entering, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._entering}
