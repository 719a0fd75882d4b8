"""Averaging in time: the adapter that a timestep hands on lies between the one that it found and the one that it trained.

    ΔW = (1 - α) s B₀A₀ + α s B₁A₁ = s [(1 - α) B₀, α B₁] [A₀; A₁]

so the mean of two adapters of rank r has rank 2r at most. It is taken of what they add to the weights: means of A and of B would
be something else. It is cut to rank r by QR of both factors and an SVD of the core, the nearest adapter of that rank in the
Frobenius norm (Eckart & Young, 1936). A's rows are orthogonal afterwards, as long as the trained ones are on average, and B has
the singular values: a direction out of use is B = 0 beside an A that is not 0, as in a fresh LoRA, and can still be learned.

Shapes: O outputs and I inputs of a linear, r rank.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file

from liit.engine.models.adapters import MOMENTS

WEIGHTS = "adapter_model.safetensors"
A, B = ".lora_A.weight", ".lora_B.weight"
Tensors = Mapping[str, torch.Tensor]


class Mean(NamedTuple):
    """A (r, I) and B (O, r); the squared Frobenius norms of BA, and of what the cut to rank r took from the exact mean."""

    a: torch.Tensor
    b: torch.Tensor
    kept: float
    cut: float


def average(trained: Path, previous: Path | None, alpha: float, partial: Path) -> dict[str, float]:
    """Write α of a trained adapter and 1 - α of the one it went on from (None: the bare model); Adam's moments stay out unless
    α is 1, as they are of other weights.

    Returns α; the share of the mean's norm that the cut to rank r took; and the largest such share of a linear.
    Raises ValueError where the two are of different shapes, or hold what is no LoRA.
    """
    others = () if alpha == 1 else (MOMENTS, WEIGHTS)
    shutil.copytree(trained, partial, ignore=shutil.ignore_patterns(*others), dirs_exist_ok=True)
    if alpha == 1:
        return {"alpha": 1.0, "cut": 0.0, "largest_cut": 0.0}
    new, old = load_file(trained / WEIGHTS), None if previous is None else load_file(previous / WEIGHTS)
    found: dict[str, torch.Tensor] = {}
    kept = cut = largest = 0.0
    for name in _linears(new, old, trained):
        before = None if old is None else (old[name + A], old[name + B])
        one = mean(before, (new[name + A], new[name + B]), alpha)
        found[name + A], found[name + B] = (each.to(new[name + A].dtype).contiguous() for each in (one.a, one.b))
        kept, cut = kept + one.kept, cut + one.cut
        largest = max(largest, _share(one.kept, one.cut))
    save_file(found, partial / WEIGHTS, {"format": "pt"})
    return {"alpha": alpha, "cut": _share(kept, cut), "largest_cut": largest}


def mean(old: tuple[torch.Tensor, torch.Tensor] | None, new: tuple[torch.Tensor, torch.Tensor], alpha: float) -> Mean:
    """(1 - α) B₀A₀ + α B₁A₁ in rank r, in float64; old None: B₀A₀ is zero, and the mean is exact."""
    a1, b1 = (each.double() for each in new)
    if old is None:
        return Mean(a1, alpha * b1, _squared(a1, alpha * b1), 0.0)
    a0, b0 = (each.double() for each in old)
    if alpha == 0:
        return Mean(a0, b0, _squared(a0, b0), 0.0)
    left_OR, upper = torch.linalg.qr(torch.cat([(1 - alpha) * b0, alpha * b1], 1))
    right_IR, lower = torch.linalg.qr(torch.cat([a0, a1]).T)
    u, s, vt = torch.linalg.svd(upper @ lower.T)
    rank = len(a1)
    length = float(a1.square().sum() / rank) ** 0.5 or 1.0
    rows, columns = min(rank, len(vt)), min(rank, len(s))
    a, b = torch.zeros_like(a1), torch.zeros_like(b1)
    a[:rows] = length * (vt[:rows] @ right_IR.T)
    b[:, :columns] = (left_OR @ u[:, :columns]) * (s[:columns] / length)
    return Mean(a, b, float(s[:rank].square().sum()), float(s[rank:].square().sum()))


def balanced(trained: Path, previous: Path | None, old: Sequence[Path], new: Sequence[Path]) -> float:
    """α = τᵀF₁τ / τᵀ(F₀ + F₁)τ, where both losses, taken as quadratic, are least along τ = θ₁ - θ₀; 1 where neither loss changes.

    old, new: files of importance (`importance.py`, of kind ewc), one for each task, of the adapter before on what it had learned,
    and of the trained one on what it was taught. Without an adapter before, τ is B₁: A alone adds nothing.
    Raises ValueError where a file is of another adapter.
    """
    weights = load_file(trained / WEIGHTS)
    before = {} if previous is None else load_file(previous / WEIGHTS)
    move = {name: one.double() - before[name].double() if before else one.double() for name, one in weights.items()}
    if not before:
        move = {name: one for name, one in move.items() if name.endswith(B)}
    costs = [sum(_cost(file, move, weights) for file in files) / len(files) for files in (old, new)]
    return costs[1] / sum(costs) if sum(costs) else 1.0


def _cost(file: Path, move: Tensors, weights: Tensors) -> float:
    """τᵀFτ by one file; its names are those of decoder layers, the adapter's those of modules."""
    total = 0.0
    for name, fisher in load_file(file).items():
        ending = "." + name.removeprefix("layers.") + ".weight"
        found = [each for each in weights if each.endswith(ending)]
        if len(found) != 1 or weights[found[0]].shape != fisher.shape:
            raise ValueError(
                f"{file} is the importance of another adapter: {name} is not in it; was training.lora changed?"
            )
        if found[0] in move:
            total += float((fisher.double() * move[found[0]].square()).sum())
    return total


def _linears(new: Tensors, old: Tensors | None, folder: Path) -> Iterator[str]:
    """The names of the linears that both adapters are of."""
    shapes = {name: one.shape for name, one in new.items()}
    if old is not None and {name: one.shape for name, one in old.items()} != shapes:
        raise ValueError(f"{folder}: the adapter before it has another shape; training.averaging needs two alike")
    other = [name for name in new if not name.endswith((A, B))]
    if other:
        raise ValueError(f"{folder}: training.averaging is of LoRA alone, and this adapter has {other[0]}")
    return (name.removesuffix(A) for name in new if name.endswith(A))


def _squared(a: torch.Tensor, b: torch.Tensor) -> float:
    """The squared Frobenius norm of BA, from two r x r matrices."""
    return float(((b.T @ b) * (a @ a.T)).sum())


def _share(kept: float, cut: float) -> float:
    return float((cut / (kept + cut)) ** 0.5) if cut else 0.0
