"""Rows of a large matrix as unit vectors in a fixed order, a block at a time: never a second copy of the matrix.

The matrix may be a file that does not fit in memory (`numpy.load(..., mmap_mode="r")`): its pages are let go behind a pass.

Shapes: N samples, P dimensions, B rows of a block.
"""

import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.blocks import in_order
from liit.selectors.priority import Indices, Keys
from liit.selectors.widening import widened

BLOCK_NUMBERS = 1 << 20  # numbers in a block, about: 4 MiB of float32
BLOCK_ROWS = 2048  # at most: sums over a block are float32


@dataclass(frozen=True)
class Directions:
    """A view of `vectors_NP` (float16 or float32) as float32 rows of norm one; a zero vector stays zero.

    `order_N` says which row of the matrix stands at each position and `norm_N` how long it is.
    """

    vectors_NP: NDArray[Any]
    order_N: Indices
    norm_N: NDArray[np.float64]
    rows_per_block: int

    def __len__(self) -> int:
        return len(self.order_N)

    def take(self, positions: Indices | slice) -> NDArray[np.float32]:
        """Unit rows at `positions`, float32."""
        rows_BP, weight_B = self.weighted(positions)
        return rows_BP * weight_B[:, None]

    def weighted(self, positions: Indices | slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows as they are, float32, and what makes each a unit row: one over its norm, 0 for a zero vector."""
        rows_BP = widened(_gathered(self.vectors_NP, self.order_N[positions]))
        let_go(self.vectors_NP)
        norm_B = self.norm_N[positions]
        weight_B = np.divide(1.0, norm_B, out=np.zeros(len(norm_B)), where=norm_B > 0)
        return rows_BP, weight_B.astype(np.float32)

    def loaded(self) -> "Directions":
        """The same unit rows, in memory as float32: for few that are read many times."""
        rows_NP = np.empty((len(self), self.vectors_NP.shape[1]), np.float32)

        def load(part: slice) -> None:
            rows_NP[part] = self.take(part)

        for _ in in_order(load, self.parts()):
            pass
        pointing_N = (self.norm_N > 0).astype(np.float64)
        return Directions(rows_NP, np.arange(len(self)), pointing_N, self.rows_per_block)

    def parts(self) -> list[slice]:
        """All positions in order, in slices of a block."""
        starts = range(0, len(self), self.rows_per_block)
        return [slice(start, min(start + self.rows_per_block, len(self))) for start in starts]

    def subset(self, positions: Indices) -> "Directions":
        return Directions(self.vectors_NP, self.order_N[positions], self.norm_N[positions], self.rows_per_block)


def directions(
    vectors_NP: NDArray[Any], keys_N: Keys, order_N: Indices, rows_per_block: int | None = None
) -> Directions:
    """Measure every row once and view the matrix in the given order.

    Raises:
        ValueError: the shapes disagree, or a row holds NaN or infinity (named by its key).
    """
    if vectors_NP.ndim != 2 or len(vectors_NP) != len(keys_N):
        raise ValueError(f"vectors of shape {vectors_NP.shape} for {len(keys_N)} keys; pass one row for each key")
    rows_per_block = rows_per_block or min(max(64, BLOCK_NUMBERS // max(1, vectors_NP.shape[1])), BLOCK_ROWS)
    rows = Directions(vectors_NP, order_N, np.empty(len(order_N)), rows_per_block)

    def norms(part: slice) -> NDArray[np.float64]:
        rows_BP = widened(_gathered(vectors_NP, order_N[part]))
        let_go(vectors_NP)
        if vectors_NP.dtype != np.float16:
            rows_BP = rows_BP.astype(np.float64)  # squares of these can leave the range of float32
        return np.sqrt(np.einsum("bp,bp->b", rows_BP, rows_BP).astype(np.float64))

    for part, norm_B in zip(rows.parts(), in_order(norms, rows.parts()), strict=True):
        rows.norm_N[part] = norm_B
    norm_N = rows.norm_N
    if not np.isfinite(norm_N).all():
        bad = order_N[np.flatnonzero(~np.isfinite(norm_N))[0]]
        raise ValueError(f"the vector of key {keys_N[bad]} is not finite; quarantine the sample or score it again")
    return rows


def _gathered(vectors_NP: NDArray[Any], order_B: Indices) -> NDArray[Any]:
    """Rows in the given order; a view where they stand so already."""
    first = int(order_B[0]) if len(order_B) else 0
    if np.array_equal(order_B, np.arange(first, first + len(order_B))):
        return vectors_NP[first : first + len(order_B)]
    return vectors_NP[order_B]


def let_go(vectors_NP: NDArray[Any]) -> None:
    """Give the pages of a matrix that is mapped from a file back: they stay in the system's cache, not in this process."""
    whole: Any = vectors_NP
    shared = False
    while isinstance(whole, np.ndarray):
        shared = isinstance(whole, np.memmap) and whole.mode != "c"  # of a private mapping, changes would be lost
        whole = whole.base
    if shared and isinstance(whole, mmap.mmap):
        whole.madvise(mmap.MADV_DONTNEED)
