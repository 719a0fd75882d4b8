"""Per-sample gradients without per-sample backward passes.

For a linear y = W x the gradient of one sample's loss is Σ_s δ_s x_sᵀ with δ = ∂loss/∂y. Summing the losses of a batch keeps
the samples apart, so one backward to the *outputs* of the chosen layers' linears gives every sample's gradient as factors;
the backward stops at the first of these layers and no weight gradient is ever formed. Legend: B samples, S positions, O
outputs, I inputs, r LoRA rank.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from liit.engine.models.anatomy import linears
from liit.engine.scoring.profile_spec import PROJECTOR
from liit.engine.scoring.projections import Factors, Gradient, Matrix

ADAM_EPSILON = 1e-8


class Linear(NamedTuple):
    """A recorded linear: its layer, its name, and x and δ with padding set to zero."""

    layer: int
    name: str
    module: nn.Module
    x: torch.Tensor  # (B, S, I)
    delta: torch.Tensor  # (B, S, O)


@dataclass
class Recorder(AbstractContextManager["Recorder"]):
    """While entered, records input and output of every linear in the chosen layers of one forward.

    The graph begins at the first chosen layer, so the backward ends there.
    """

    layers: Mapping[int, nn.Module]
    records: list[tuple[int, str, nn.Module, torch.Tensor, torch.Tensor]] = field(default_factory=list)
    start: torch.Tensor | None = None
    """Where the graph of the last forward begins."""
    _hooks: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Recorder":
        self.records.clear()
        if self.layers:
            first = self.layers[min(self.layers)]
            self._hooks.callback(first.register_forward_pre_hook(self._start_graph, with_kwargs=True).remove)
        for index, layer in self.layers.items():
            place = "projector" if index == PROJECTOR else f"layers.{index}"
            for name, module in linears(layer):
                hook = module.register_forward_hook(self._record(index, f"{place}.{name}"))
                self._hooks.callback(hook.remove)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._hooks.close()

    def _record(self, layer: int, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.records.append((layer, name, module, self._detached(inputs[0]), output))

        return hook

    def _detached(self, x: torch.Tensor) -> torch.Tensor:
        """The same object for the same input, so that what is made of it is made once."""
        last = self.records[-1][3] if self.records else None
        same = last is not None and last.data_ptr() == x.data_ptr() and last.shape == x.shape
        return last if last is not None and same else x.detach()

    def backward(
        self,
        losses_B: torch.Tensor,
        attention_BS: torch.Tensor,
        image_BS: torch.Tensor,
        layers: Collection[int],
        retain: bool,
    ) -> list[Linear]:
        """Every recorded linear of these layers with the gradient of each sample's loss at its output.

        image_BS: where the rows of the projector go. retain: whether there will be another backward of the same forward.
        """
        mine = [record for record in self.records if record[0] in layers]
        if not mine:  # the projector alone, of samples without images
            return []
        deltas = torch.autograd.grad(losses_B.sum(), [output for *_, output in mine], retain_graph=retain)

        def placed(layer: int, values: torch.Tensor) -> torch.Tensor:
            return at_image_tokens(values, image_BS) if layer == PROJECTOR else _at_tokens(values, attention_BS)

        shown = {id(x): (layer, x) for layer, _, _, x, _ in mine}  # linears side by side read the same tensor
        inputs = {name: placed(*record) for name, record in shown.items()}
        return [
            Linear(layer, name, module, inputs[id(x)], placed(layer, delta))
            for (layer, name, module, x, _), delta in zip(mine, deltas, strict=True)
        ]

    def backward_one_by_one(
        self, losses_B: torch.Tensor, attention_BS: torch.Tensor, take: Callable[[Linear], None]
    ) -> None:
        """The same of all recorded decoder layers, each linear given to `take` as the backward comes to it, none of them kept.

        For gradients of all layers at once, whose δ together take as much memory as the forward's own.
        """

        def of(record: tuple[int, str, nn.Module, torch.Tensor, torch.Tensor]) -> Callable[[torch.Tensor], None]:
            layer, name, module, x, _ = record

            def hook(delta: torch.Tensor) -> None:
                take(Linear(layer, name, module, _at_tokens(x, attention_BS), _at_tokens(delta, attention_BS)))

            return hook

        assert self.start is not None
        with ExitStack() as during:
            for record in self.records:
                during.callback(record[-1].register_hook(of(record)).remove)
            torch.autograd.grad(losses_B.sum(), self.start)

    def _start_graph(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        self.start = (args[0] if args else kwargs["hidden_states"]).detach().requires_grad_(True)
        return ((self.start, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": self.start})


def _at_tokens(values: torch.Tensor, attention_BS: torch.Tensor) -> torch.Tensor:
    """(B, S, D), padding zero."""
    values = values.reshape(*attention_BS.shape, -1)  # some blocks flatten (B, S)
    return values.masked_fill((attention_BS == 0)[..., None], 0)


def at_image_tokens(rows: torch.Tensor, image_BS: torch.Tensor) -> torch.Tensor:
    """(B, S, D): the projector's rows, one per image token in the order of samples, where these tokens are; zero elsewhere.

    Raises ValueError for a projector that makes another number of rows.
    """
    rows = rows.reshape(-1, rows.shape[-1])
    if len(rows) != int(image_BS.sum()):
        raise ValueError(
            f"the projector works on {len(rows)} rows for {int(image_BS.sum())} image tokens, so it cannot be said "
            "whose each is; take gradients of decoder layers"
        )
    return rows.new_zeros(*image_BS.shape, rows.shape[-1]).masked_scatter(image_BS[..., None], rows)


def base_gradients(recorded: Sequence[Linear]) -> Iterator[tuple[str, Gradient]]:
    """The gradient of every weight itself: δ and x as they are."""
    for linear in recorded:
        yield linear.name, Factors(linear.delta, linear.x)


def lora_gradients(recorded: Sequence[Linear]) -> Iterator[tuple[str, Gradient]]:
    """The gradients of the A (r, I) and B (O, r) matrices of every adapter: ∇A = s (Bᵀδ) xᵀ, ∇B = s δ (A x)ᵀ."""
    for _, name, module, x, delta in recorded:
        if isinstance(module, LoraLinear):
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            x, scaled = x.to(a.dtype), delta.to(a.dtype) * module.scaling["default"]
            yield f"{name}.lora_A", Factors(scaled @ b, x)
            yield f"{name}.lora_B", Factors(scaled, x @ a.T)


def sign_gradients(gradients: Iterator[tuple[str, Gradient]]) -> Iterator[tuple[str, Gradient]]:
    """Elementwise signs. They do not factor, so every gradient is formed: meant for LoRA."""
    for name, gradient in gradients:
        yield name, Matrix(_whole(gradient).sign())


def adam_gradients(
    gradients: Iterator[tuple[str, Gradient]], moments: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, Gradient]]:
    """g / (√v + ε) with the trainer's second moments v, by weight name; no first moment, which all samples share.

    Without moments (nothing was trained yet) v counts as constant, and the gradient's direction stays as it is.

    Raises:
        ValueError: the moments lack a weight.
    """
    for name, gradient in gradients:
        if not moments:
            yield name, gradient
            continue
        if name not in moments:
            raise ValueError(f"the second moments lack {name}; they have {sorted(moments)[:3]} ...")
        whole = _whole(gradient)
        yield name, Matrix(whole / (moments[name].to(whole.device).float().sqrt() + ADAM_EPSILON))


def _whole(gradient: Gradient) -> torch.Tensor:
    return gradient.rows(0, gradient.shape[1])
