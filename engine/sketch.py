"""Per-sample gradients without per-sample backward passes, projected to a constant size.

For a linear y = W x the gradient of one sample's loss is Σ_s δ_s x_sᵀ with δ = ∂loss/∂y. Summing the losses of a batch keeps
the samples apart, so one backward to the *outputs* of the chosen layer's linears gives every sample's gradient as factors;
the backward stops at that layer and no weight gradient is ever formed. The factors are projected from both sides,
Σ_s (L δ_s)(R x_s)ᵀ with random signs (LoGra, Choe et al. 2024), and the modules are summed: inner products stay unbiased for the
gradient of all modules together, whatever their number. Legend: B samples, S positions, O outputs, I inputs, P sketch.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn


def signs(rows: int, columns: int, seed: int, name: str) -> torch.Tensor:
    """Rademacher matrix (rows, columns) scaled by 1/√rows; the same bits for the same seed and name on every machine."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    bits = np.unpackbits(
        np.frombuffer(generator.bytes((rows * columns + 7) // 8), dtype=np.uint8), count=rows * columns
    )
    return torch.from_numpy(bits.reshape(rows, columns).astype(np.float32) * 2 - 1) / math.sqrt(rows)


def sides(dimension: int) -> tuple[int, int]:
    """The two sides of the projection: the factors of `dimension` nearest to its square root, outputs' side first."""
    low = next(side for side in range(math.isqrt(dimension), 0, -1) if dimension % side == 0)
    return low, dimension // low


@dataclass
class Recorder(AbstractContextManager["Recorder"]):
    """While entered, records input and output of every linear in the chosen layers of one forward.

    The graph begins at the first chosen layer, so the backward ends there.
    """

    layers: Sequence[tuple[str, nn.Module]]
    records: list[tuple[str, nn.Module, torch.Tensor, torch.Tensor]] = field(default_factory=list)
    _hooks: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Recorder":
        self.records.clear()
        first = self.layers[0][1]
        self._hooks.callback(first.register_forward_pre_hook(_start_graph, with_kwargs=True).remove)
        for prefix, layer in self.layers:
            for name, module in linears(layer):
                hook = module.register_forward_hook(self._record(f"{prefix}.{name}"))
                self._hooks.callback(hook.remove)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._hooks.close()

    def _record(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.records.append((name, module, inputs[0].detach(), output))

        return hook


def linears(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The linears of a decoder layer, a LoRA-wrapped one once, by names that do not depend on the wrapping."""
    for name, module in layer.named_modules():
        plain = isinstance(module, nn.Linear) and ".base_layer" not in name and "lora_" not in name
        if plain or isinstance(module, LoraLinear):
            yield name, module


def _start_graph(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if args:
        return (args[0].detach().requires_grad_(True), *args[1:]), kwargs
    return args, kwargs | {"hidden_states": kwargs["hidden_states"].detach().requires_grad_(True)}


def gradient_factors(
    losses_B: torch.Tensor, recorder: Recorder, parameters: str
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """(name, g (B,S,O), a (B,S,I)) for each weight of the recorded layers; a sample's gradient is Σ_s g_s a_sᵀ.

    parameters: "base" for the weights themselves, "lora" for the A and B matrices of their adapters.
    """
    deltas = torch.autograd.grad(losses_B.sum(), [output for *_, output in recorder.records])
    for (name, module, x, _), delta in zip(recorder.records, deltas, strict=True):
        if parameters == "base":
            yield name, delta, x
        elif isinstance(module, LoraLinear):
            yield from _lora_factors(name, module, x, delta)


def _lora_factors(
    name: str, module: Any, x: torch.Tensor, delta: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight  # (r, I), (O, r)
    scaled = delta * module.scaling["default"]
    yield f"{name}.lora_A", scaled @ b, x
    yield f"{name}.lora_B", scaled, x @ a.T


class Sketcher:
    """Projects gradient factors; keeps one pair of sign matrices per weight, made from the seed and the weight's name."""

    def __init__(self, dimension: int, seed: int) -> None:
        self.rows, self.columns = sides(dimension)
        self.seed = seed
        self._pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def project(self, name: str, g: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """(B, P): the sketch of Σ_s g_s a_sᵀ, in float32. Relative variance of an inner product ≤ (1+2/side)² - 1."""
        left, right = self._pair(name, g.shape[-1], a.shape[-1], g.device)
        lg, ra = g.float() @ left.T, a.float() @ right.T  # (B,S,rows), (B,S,columns)
        return torch.bmm(lg.transpose(1, 2), ra).flatten(1)

    def _pair(self, name: str, outputs: int, inputs: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if name not in self._pairs:
            left = signs(self.rows, outputs, self.seed, f"{name}/left").to(device)
            right = signs(self.columns, inputs, self.seed, f"{name}/right").to(device)
            self._pairs[name] = left, right
        return self._pairs[name]


def squared_norm(g: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """(B,): ||Σ_s g_s a_sᵀ||² exactly and without the matrix: Σ_{s,t} ⟨g_s, g_t⟩⟨a_s, a_t⟩."""
    g, a = g.float(), a.float()
    return (torch.bmm(g, g.transpose(1, 2)) * torch.bmm(a, a.transpose(1, 2))).sum((1, 2)).clamp_min(0)
