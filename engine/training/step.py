"""One optimizer step of one rank: the exact loss of the global batch, and what holds the model to what it knew.

The loss of a step is the sum of the response tokens' negative log-likelihoods over all ranks and micro-batches, divided
by the number of these tokens. DeepSpeed averages gradients over the ranks, so each rank multiplies its part by their
number. Nothing here needs Ray, pydantic or DeepSpeed: an engine is anything that is called and stepped like DeepSpeed's.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from liit.engine.holding.anchoring import Anchor
from liit.engine.holding.distilling import Teacher, divergence
from liit.engine.models import anatomy
from liit.engine.models.encoding import placed
from liit.engine.training.samples import Batch


@dataclass(frozen=True)
class Built:
    """What a training loop works with."""

    engine: Any
    peaks: list[float]
    """The peak learning rate of each parameter group."""
    finish: Callable[[Any], float]
    """Ends a step of the engine: weights are moved, and the norm of the gradient is told."""
    anchor: Anchor | None = None
    teacher: Teacher | None = None
    strength: float = 0.0
    """Of the teacher's divergence, over the loss of the samples."""


@dataclass(frozen=True)
class Taken:
    """What a step was, the same on all ranks but for `odd`."""

    loss: float
    """Nats per response token."""
    tokens: int
    penalty: float
    """What penalties and regulariser added to the loss."""
    norm: float
    """Of the gradient."""
    odd: tuple[int, ...]
    """This rank's micro-batches whose own loss is not finite."""


@dataclass
class Step:
    """One optimizer step: the loss of the global batch, and what holds the model to what it knew."""

    built: Built
    penalties: list[Callable[[Any], Any]]

    def __call__(self, batches: list[Batch], rates: list[float]) -> Taken:
        engine, workers = self.built.engine, torch.distributed.get_world_size()
        count = sum(int(_wanted(batch).sum()) for batch in batches)
        tokens = _total(torch.tensor(float(count), dtype=torch.float64), engine.device)
        total, added = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        odd = []
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            engine.set_gradient_accumulation_boundary(last)
            with self.built.anchor.watched() if last and self.built.anchor else nullcontext():
                nll, apart = self._nll_and_divergence(placed(batch, engine.module))
                mine = nll.detach().double().cpu()
                total += mine
                odd += [] if mine.isfinite() else [number - 1]
                added += apart.detach().double().cpu() / tokens
                held = self._penalty() if last else torch.zeros(())
                added += held.detach().double().cpu() / workers
                loss = (nll + apart) * (workers / tokens) + held.to(nll.device)
                engine.backward(loss if loss.requires_grad else _untouched(engine.module), scale_wrt_gas=False)
        for group, now in zip(engine.optimizer.param_groups, rates, strict=True):
            group["lr"] = now
        norm = self.built.finish(engine)
        mean = _total(total, engine.device) / tokens
        return Taken(mean, int(tokens), _total(added, engine.device), norm, tuple(odd))

    def _nll_and_divergence(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the response tokens, summed, in nats; the divergence from the teacher times its strength."""
        engine, teacher = self.built.engine, self.built.teacher
        if teacher is None:
            return nll_of(response_logits(engine, engine.module, batch), batch), torch.zeros((), device=engine.device)
        with teacher.speaking(engine.module):
            before_MV = response_logits(engine.module, engine.module, batch)
        logits_MV = response_logits(engine, engine.module, batch)
        return nll_of(logits_MV, batch), self.built.strength * divergence(before_MV, logits_MV)

    def _penalty(self) -> torch.Tensor:
        anchored = [self.built.anchor.penalty()] if self.built.anchor else []
        return sum((penalty(self.built.engine.module) for penalty in self.penalties), sum(anchored, torch.zeros(())))


def _untouched(model: Any) -> torch.Tensor:
    """Zero, with a graph: of a micro-batch that no trained weight has a part in, like text under projector experts."""
    return sum((0.0 * weight.sum() for weight in model.parameters() if weight.requires_grad), torch.zeros(()))


def response_logits(forward: Any, model: Any, batch: Batch) -> torch.Tensor:
    """(M, V) logits of the positions that predict response tokens, each given all tokens before it. The head sees no other, the
    last layer's MLP neither.

    forward: the model, or the engine around it.
    """
    inputs = {name: value for name, value in batch.items() if name != "response"}
    rows_BS = F.pad(_wanted(batch), (0, 1))
    with anatomy.head_at(model, rows_BS), anatomy.mlp_at(anatomy.decoder_layers(model)[-1], rows_BS):
        logits: torch.Tensor = forward(**inputs, use_cache=False).logits[0]
    return logits


def nll_of(logits_MV: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum of the response tokens' negative log-likelihoods in nats, a scalar."""
    return F.cross_entropy(logits_MV.float(), batch["input_ids"][:, 1:][_wanted(batch)], reduction="sum")


def _wanted(batch: Batch) -> torch.Tensor:
    """(B, S - 1) bool: which next tokens are response tokens. The first token of a text is nobody's next."""
    return batch["response"][:, 1:]


def _total(value: torch.Tensor, device: torch.device) -> float:
    """Sum of a scalar over the ranks."""
    value = value.to(device)
    torch.distributed.all_reduce(value)
    return value.item()
