"""Random projections of per-sample gradients to a constant size, unbiased for inner products.

`Factored`: both sides of every weight by random signs, L G Rᵀ, never forming G (LoGra, Choe et al. 2024). `Dense`: the whole
gradient by one sign matrix (TRAK, Park et al. 2023; the paper's), made tile by tile and never stored. `Sparse`: a few signed
copies of every entry (OSNAP, Nelson & Nguyen 2013). Modules are summed, so the size does not depend on how many there are. Seeds
come from names: every worker and machine has the same bits. Legend: B samples, S positions, O outputs, I inputs, P sketch.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from liit.engine.settings.specs import BLOCKS

TILE = 1 << 22
"""Entries of a gradient or of a sign matrix that are in memory at a time."""


class Gradient(Protocol):
    """One weight's gradient for each sample of a batch."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, O, I)"""
        ...

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """(B, stop - start, I) float32: some rows of the matrices."""
        ...

    def between(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(B, p, q): left G rightᵀ for left (p, O) and right (q, I), in float32."""
        ...

    def squared_norm(self) -> torch.Tensor:
        """(B,): the exact squared Frobenius norm."""
        ...


@dataclass(frozen=True)
class Factors:
    """Σ_s g_s a_sᵀ, kept as its factors g (B, S, O) and a (B, S, I)."""

    g: torch.Tensor
    a: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.g.shape[0], self.g.shape[2], self.a.shape[2]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return torch.bmm(self.g[:, :, start:stop].float().transpose(1, 2), self.a.float())

    def between(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        lg, ra = self.g.float() @ left.T, self.a.float() @ right.T  # (B,S,p), (B,S,q)
        return torch.bmm(lg.transpose(1, 2), ra)

    def squared_norm(self) -> torch.Tensor:
        """Without the matrix where a sample is short: Σ_{s,t} ⟨g_s, g_t⟩⟨a_s, a_t⟩."""
        g, a = self.g.float(), self.a.float()
        positions, (_, outputs, inputs) = g.shape[1], self.shape
        if positions * (outputs + inputs) > outputs * inputs:
            return torch.bmm(g.transpose(1, 2), a).square().sum((1, 2))
        return torch.linalg.vecdot(torch.bmm(g, g.mT).flatten(1), torch.bmm(a, a.mT).flatten(1)).clamp_min(0)


@dataclass(frozen=True)
class Matrix:
    """The gradient itself, (B, O, I): small enough for LoRA, and what elementwise transforms of it leave."""

    values: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        samples, outputs, inputs = self.values.shape
        return samples, outputs, inputs

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return self.values[:, start:stop]

    def between(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left @ self.values @ right.T

    def squared_norm(self) -> torch.Tensor:
        return self.values.square().sum((1, 2))


def stacked(gradients: Iterable[Gradient]) -> Iterator[Gradient]:
    """The same gradients, those of weights side by side that read one input (query, key, value) as one taller matrix."""
    beside: dict[int, list[Factors]] = {}
    for gradient in gradients:
        if isinstance(gradient, Factors):
            beside.setdefault(id(gradient.a), []).append(gradient)
        else:
            yield gradient
    for group in beside.values():
        yield Factors(torch.cat([one.g for one in group], 2), group[0].a)


class Projection(Protocol):
    """Maps the gradients of a weight to sketches; those of several weights are added up."""

    def project(self, name: str, gradient: Gradient) -> torch.Tensor:
        """(B, P) float32; `name` of the weight seeds the randomness."""
        ...


class Factored:
    """L G Rᵀ with random signs; keeps one pair of matrices per weight.

    The variance of an inner product of rank-one gradients is at most (1 + 2/√P)² - 1 of the squared norms.
    """

    def __init__(self, dimension: int, seed: int) -> None:
        self.p, self.q = sides(dimension)
        self.seed = seed
        self._pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def project(self, name: str, gradient: Gradient) -> torch.Tensor:
        return gradient.between(*self._pair(name, gradient)).flatten(1)

    def _pair(self, name: str, gradient: Gradient) -> tuple[torch.Tensor, torch.Tensor]:
        if name not in self._pairs:
            _, outputs, inputs = gradient.shape
            device = gradient.rows(0, 1).device
            left = signs(self.p, outputs, self.seed, f"{name}/left").to(device)
            right = signs(self.q, inputs, self.seed, f"{name}/right").to(device)
            self._pairs[name] = left, right
        return self._pairs[name]


class Dense:
    """The whole gradient times a Rademacher matrix: variance of an inner product at most 2/P of the squared norms.

    Every batch makes all the signs anew, which costs more than the product itself: for comparisons, not for a pool.
    """

    def __init__(self, dimension: int, seed: int) -> None:
        self.dimension, self.seed = dimension, seed

    def project(self, name: str, gradient: Gradient) -> torch.Tensor:
        samples, outputs, inputs = gradient.shape
        sketch = torch.zeros(samples, self.dimension, device=gradient.rows(0, 1).device)
        for row in range(outputs):
            values = gradient.rows(row, row + 1)[:, 0]
            for start, stop in _tiles(inputs, max(1, TILE // self.dimension)):
                tile = signs(self.dimension, stop - start, self.seed, f"{name}/{row}/{start}").to(sketch.device)
                sketch += values[:, start:stop] @ tile.T
        return sketch


class Sparse:
    """Every entry of the gradient added with random signs to a few entries of the sketch, one in each of its blocks."""

    def __init__(self, dimension: int, seed: int) -> None:
        self.dimension, self.seed = dimension, seed

    def project(self, name: str, gradient: Gradient) -> torch.Tensor:
        samples, outputs, inputs = gradient.shape
        sketch = torch.zeros(samples, self.dimension, device=gradient.rows(0, 1).device)
        for start, stop in _tiles(outputs, max(1, TILE // (samples * inputs))):
            values = gradient.rows(start, stop) / math.sqrt(BLOCKS)
            for row in range(start, stop):
                targets, sign = self._targets(inputs, f"{name}/{row}", sketch.device)
                sketch.index_add_(1, targets, values[:, row - start].repeat(1, BLOCKS) * sign)
        return sketch

    def _targets(self, inputs: int, name: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        block = self.dimension // BLOCKS
        drawn = _generator(f"{self.seed}/{name}").integers(2 * block, size=(BLOCKS, inputs))
        targets = drawn // 2 + block * np.arange(BLOCKS)[:, None]
        sign = (drawn % 2 * 2 - 1).astype(np.float32)
        return torch.from_numpy(targets.ravel()).to(device), torch.from_numpy(sign.ravel()).to(device)


PROJECTIONS: dict[str, type[Factored] | type[Dense] | type[Sparse]] = {
    "factored": Factored,
    "dense": Dense,
    "sparse": Sparse,
}


def sides(dimension: int) -> tuple[int, int]:
    """The two sides of the projection: the factors of `dimension` nearest to its square root, outputs' side first."""
    low = next(side for side in range(math.isqrt(dimension), 0, -1) if dimension % side == 0)
    return low, dimension // low


def signs(rows: int, columns: int, seed: int, name: str) -> torch.Tensor:
    """Rademacher matrix (rows, columns) scaled by 1/√rows; the same bits for the same seed and name on every machine."""
    bits = np.unpackbits(
        np.frombuffer(_generator(f"{seed}/{name}").bytes((rows * columns + 7) // 8), dtype=np.uint8),
        count=rows * columns,
    )
    return torch.from_numpy(bits.reshape(rows, columns).astype(np.float32) * 2 - 1) / math.sqrt(rows)


def gaussian(shape: torch.Size, seed: int, name: str) -> torch.Tensor:
    """Standard normal entries; the same for the same seed and name on every machine."""
    return torch.from_numpy(_generator(f"{seed}/{name}").standard_normal(tuple(shape), dtype=np.float32))


def _generator(name: str) -> np.random.Generator:
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def _tiles(length: int, width: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, width):
        yield start, min(start + width, length)
