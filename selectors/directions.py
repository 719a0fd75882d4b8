"""Rows of a large matrix as unit vectors in a fixed order, a block at a time: never a second copy of the matrix.

Shapes: N samples, P dimensions, B rows of a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Indices, Keys

BLOCK_NUMBERS = 1 << 22  # numbers in a block: 16 MiB of float32, whatever P is


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

    def take(self, positions: Indices) -> NDArray[np.float32]:
        """Unit rows at `positions`, float32."""
        rows_BP = self.vectors_NP[self.order_N[positions]].astype(np.float32, copy=False)
        norm_B = self.norm_N[positions]
        rows_BP /= np.where(norm_B > 0, norm_B, 1.0).astype(np.float32)[:, None]
        return rows_BP

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """All positions in order, as (slice, unit rows)."""
        for start in range(0, len(self), self.rows_per_block):
            part = slice(start, min(start + self.rows_per_block, len(self)))
            yield part, self.take(np.arange(part.start, part.stop))

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
    rows_per_block = rows_per_block or max(64, BLOCK_NUMBERS // max(1, vectors_NP.shape[1]))
    norm_N = np.empty(len(order_N))
    for start in range(0, len(order_N), rows_per_block):
        part = slice(start, start + rows_per_block)
        rows_BP = vectors_NP[order_N[part]].astype(np.float64)
        norm_N[part] = np.sqrt(np.einsum("bp,bp->b", rows_BP, rows_BP))
    if not np.isfinite(norm_N).all():
        bad = order_N[np.flatnonzero(~np.isfinite(norm_N))[0]]
        raise ValueError(f"the vector of key {keys_N[bad]} is not finite; quarantine the sample or score it again")
    return Directions(vectors_NP, order_N, norm_N, rows_per_block)
