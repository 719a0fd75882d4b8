"""EWC and MAS: adapter weights are held near where a timestep found them, each as much as it matters for what was learned.

    λ/2 Σ_i I_i (θ_i - θ*_i)²,   I_i = max_j w_j Ī_ji / mean(max_j Ī_j),   Ī_j = I_j / mean(I_j)

over old tasks j (Kirkpatrick et al., arXiv 1612.00796; Aljundi et al., arXiv 1711.09601). Unweighted, I has a mean of 1, so that
λ means the same for models of all sizes and after any number of tasks; w_j = 1 - S_j with task similarity (TIR, He et al., arXiv
2311.16206), else 1, always times the importance as it was measured, so that nothing compounds over tasks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from liit.engine.models.adapters import lora_modules

Importance = Mapping[str, torch.Tensor]
"""By the names of `gradients.lora_gradients`: `layers.3.mlp.up_proj.lora_A`."""


def combined(old: Sequence[tuple[str, float]]) -> dict[str, torch.Tensor]:
    """The importance that counts now, from the files of all old tasks and the weight of each.

    Raises ValueError where the files are of different adapters.
    """
    weighed: dict[str, torch.Tensor] = {}
    plain: dict[str, torch.Tensor] = {}
    for file, weight in old:
        measured = load_file(file)
        if plain and plain.keys() != measured.keys():
            raise ValueError(f"{file} is the importance of another adapter than {old[0][0]}")
        mean = _mean(measured)
        for name, one in measured.items():
            scaled = one / mean if mean > 0 else torch.zeros_like(one)
            plain[name] = torch.maximum(plain[name], scaled) if name in plain else scaled
            weighed[name] = torch.maximum(weighed[name], weight * scaled) if name in weighed else weight * scaled
    whole = _mean(plain) or 1.0
    return {name: one / whole for name, one in weighed.items()}


def _mean(importance: Importance) -> float:
    """Over all weights; 0 for none."""
    return sum(float(one.double().sum()) for one in importance.values()) / max(
        1, sum(map(torch.numel, importance.values()))
    )


def adapter_weights(model: nn.Module) -> dict[str, tuple[nn.Module, nn.Parameter]]:
    """The LoRA weights of the decoder layers that are trained, and the module that each is the `weight` of."""
    found = {}
    for name, module in lora_modules(model).items():
        weight: nn.Parameter = module.weight  # type: ignore[assignment]
        if weight.requires_grad:
            found[name] = module, weight
    return found


class Anchor:
    """Adds the penalty to the loss of a step, its terms made inside the forward: there ZeRO-3 has the weights together.

    Made before DeepSpeed takes the model. Raises ValueError where the importance does not fit the adapter.
    """

    def __init__(self, model: nn.Module, importance: Importance, strength: float) -> None:
        weights = adapter_weights(model)
        if weights.keys() != importance.keys():
            apart = sorted(weights.keys() ^ importance.keys())
            raise ValueError(f"importance and adapter differ in {apart[:3]}; was training.lora changed?")
        self._terms: dict[str, torch.Tensor] = {}
        self._watching = self._collecting = False
        for name, (module, weight) in weights.items():
            module.register_forward_hook(self._term(name, strength * importance[name], weight.detach().float().clone()))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around the forward and the backward of the step that the penalty belongs to.

        The backward too: gradient checkpointing runs the forward again there, and must find it the same.
        """
        self._terms.clear()
        self._watching = self._collecting = True
        try:
            yield
        finally:
            self._watching = self._collecting = False
            self._terms.clear()

    def penalty(self) -> torch.Tensor:
        """The scalar, from the forward that has just been watched."""
        self._collecting = False
        return torch.stack(list(self._terms.values())).sum()

    def _term(self, name: str, pull: torch.Tensor, anchor: torch.Tensor) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal pull, anchor
            if self._watching and torch.is_grad_enabled():
                weight: torch.Tensor = module.weight  # type: ignore[assignment]
                pull, anchor = pull.to(weight.device), anchor.to(weight.device)
                term = (pull * (weight.float() - anchor).square()).sum() / 2
                if self._collecting:
                    self._terms[name] = term

        return hook
