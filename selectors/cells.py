"""Cells: k-means with one given, possibly very large k, for methods that compare the samples inside a cluster.

No curve over k and nothing of K x K, unlike `clustering.py`; and a cell can be kept small enough to be compared whole.

Shapes: N samples, P dimensions, K cells.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.directions import BLOCK_NUMBERS, BLOCK_ROWS, Directions, directions
from liit.selectors.kmeans import Partition, assign, distances, lloyd, means, members_of, start
from liit.selectors.priority import Indices, Keys, smallest

ROWS_PER_CELL = 20  # on average, at least: fewer say nothing about a cell
FEW = 64  # cells that are worth a careful start; more begin at rows drawn by hash
MAX_ITERATIONS = 25
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Cells:
    """Labels 0..K-1, none empty; `centroids_KP` are the means of the unit rows of each cell, zero vectors left out."""

    labels_N: NDArray[np.int32]
    distance_N: NDArray[np.float32]  # Euclidean, from the unit row to the centroid of its cell
    centroids_KP: NDArray[np.float64]

    @property
    def sizes_K(self) -> NDArray[np.int64]:
        return np.bincount(self.labels_N, minlength=len(self.centroids_KP))


def cells(
    vectors_NP: NDArray[Any],
    keys_N: Keys,
    k: int,
    *,
    seed: int,
    largest: int | None = None,
    iterations: int = MAX_ITERATIONS,
) -> Cells:
    """At most `k` cells before any is split, and no more than leave 20 rows to each on average.

    The result depends on the set of (key, vector) pairs and the seed, not on row order.

    Args:
        vectors_NP: float16 or float32, any norm.
        largest: a cell of more rows is split by k-means of its own, rows that are all alike in the order of their keys.
        iterations: at most so many.

    Raises:
        ValueError: `k` or `largest` is below 1, shapes disagree, or a vector is not finite.
    """
    if k < 1 or (largest is not None and largest < 1):
        raise ValueError(f"cannot make {k} cells of at most {largest} rows; pass at least 1 of each")
    n_rows, width = vectors_NP.shape if vectors_NP.ndim == 2 else (0, 0)
    k = max(1, min(k, n_rows // ROWS_PER_CELL))
    rows_per_block = min(max(64, BLOCK_NUMBERS // max(1, width, k)), BLOCK_ROWS)
    rows = directions(vectors_NP, keys_N, np.argsort(keys_N), rows_per_block)
    if not n_rows:
        return Cells(np.empty(0, np.int32), np.empty(0, np.float32), np.empty((0, width)))
    groups = _grouped(_fit(rows, keys_N, k, seed, iterations).labels_N)
    labels_N = np.empty(n_rows, np.int32)
    for label, members in enumerate(_split(rows, keys_N, groups, largest or n_rows, seed, iterations)):
        labels_N[members] = label
    centroids_KP = means(rows, labels_N, int(labels_N.max()) + 1)
    found_N, distance_N = np.empty_like(labels_N), np.empty(n_rows, np.float32)
    found_N[rows.order_N] = labels_N
    distance_N[rows.order_N] = distances(rows, labels_N, centroids_KP)
    return Cells(found_N, distance_N, centroids_KP)


def _fit(rows: Directions, keys_N: Keys, k: int, seed: int, iterations: int) -> Partition:
    """Lloyd over the rows that have a direction; the others join the nearest cell."""
    pointing = np.flatnonzero(rows.norm_N > 0)
    fitted = rows.subset(pointing) if len(pointing) else rows
    own_keys = keys_N[fitted.order_N]
    begin_KP = start(fitted, own_keys, k, seed) if k <= FEW else fitted.take(smallest(own_keys, k, "cells", seed))
    partition, _ = lloyd(fitted, begin_KP, iterations, TOLERANCE)
    return assign(rows, partition.centroids_KP[partition.counts_K > 0])


def _split(
    rows: Directions, keys_N: Keys, waiting: list[Indices], largest: int, seed: int, iterations: int
) -> list[Indices]:
    """Groups of at most `largest` positions, ordered by their first."""
    small = []
    while waiting:
        members = waiting.pop()
        if len(members) <= largest:
            small.append(members)
            continue
        n_parts = -(-len(members) // largest)
        labels = _fit(rows.subset(members), keys_N, n_parts, seed, iterations).labels_N
        parts = [members[part] for part in _grouped(labels)]
        if max(len(part) for part in parts) > 0.9 * len(members):  # hardly anything tells these rows apart
            parts = np.array_split(members, n_parts)
        waiting += parts
    return sorted(small, key=lambda members: int(members[0]))


def _grouped(labels_N: NDArray[np.int32]) -> list[Indices]:
    """Positions of each label that occurs, ascending."""
    return [members for members in members_of(labels_N) if len(members)]
