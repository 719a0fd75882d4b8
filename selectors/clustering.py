"""Pseudo-tasks: clusters of gradient directions (Adapt-∞, arXiv 2410.10636, section 4.1).

The paper picks k from a grid by the within-cluster sum of squares, which only falls with k; here k is the elbow of that
curve. One fit of the largest k, merged (`ward.py`), gives centroids and a bound of the curve for every other k; passes that
all of them share can then make it the curve of k-means itself.

Shapes: N samples, P dimensions, K clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.directions import Directions, directions
from liit.selectors.kmeans import Partition, assign, assign_all, distances, lloyd, start
from liit.selectors.priority import Keys
from liit.selectors.ward import elbow, groups, ward

FLAT = 0.05  # depth of an elbow that no longer says anything


@dataclass(frozen=True)
class Clustering:
    """Labels 0..k-1, none empty; every row belongs to the nearest of `centroids_KP`, the means of unit rows.

    `wss` is what these labels have. `wss_by_k` is the curve over the grid that k was chosen by, but for the largest k a bound,
    and `margin` how deep its elbow is (0: the curve says nothing about k).
    """

    labels_N: NDArray[np.int32]
    distance_N: NDArray[np.float32]
    centroids_KP: NDArray[np.float32]
    wss_by_k: dict[int, float]
    k: int
    margin: float
    wss: float


def cluster(
    vectors_NP: NDArray[Any],
    keys_N: Keys,
    *,
    k_grid: Sequence[int],
    seed: int,
    previous_k: int | None = None,
    max_iterations: int = 25,
    tolerance: float = 1e-4,
    refinements: int = 5,
    sweeps: int = 0,
    rows_per_block: int | None = None,
) -> Clustering:
    """k-means of the rows' directions, k chosen from `k_grid` by the elbow.

    The result depends on the set of (key, vector) pairs and the seed, not on row order. A zero vector has no direction:
    it shapes no centroid and joins the nearest one. Where there are fewer distinct points than k, k is their number.

    Args:
        vectors_NP: float16 or float32, any norm.
        k_grid: candidate numbers of clusters; a single one fixes k.
        previous_k: kept when the curve has no elbow.
        refinements: iterations for the chosen k.
        sweeps: iterations for every k of the grid; 0 takes the curve from the merges, an upper bound that costs nothing.
        rows_per_block: rows in memory as float32 at a time, for each thread; by default about 4 MiB.

    Raises:
        ValueError: the grid is empty or holds a k below 1, shapes disagree, or a vector is not finite.
    """
    if not k_grid or min(k_grid) < 1:
        raise ValueError(f"k_grid is {list(k_grid)}; pass at least one number of clusters, all 1 or more")
    order_N = np.argsort(keys_N, kind="stable")
    rows = directions(vectors_NP, keys_N, order_N, rows_per_block)
    if not len(rows):
        empty = np.empty((0, vectors_NP.shape[1]), np.float32)
        return Clustering(np.empty(0, np.int32), np.empty(0, np.float32), empty, {}, 0, 0.0, 0.0)
    pointing = np.flatnonzero(rows.norm_N > 0)
    fitted = rows.subset(pointing) if 0 < len(pointing) < len(rows) else rows
    start_KP = start(fitted, keys_N[fitted.order_N], max(k_grid), seed)
    partition = _without_unused(lloyd(fitted, start_KP, max_iterations, tolerance)[0])
    curve, centroids = _curve(fitted, partition, k_grid, sweeps)
    wss_by_k = {k: curve[min(k, max(curve))] for k in sorted(set(k_grid))}
    k, margin = elbow(wss_by_k)
    if margin < FLAT and previous_k in wss_by_k:
        k = previous_k
    if k < len(partition.counts_K):
        partition = lloyd(fitted, centroids[k], max(refinements, 1), tolerance)[0]
    return _settled(rows, partition.centroids_KP[partition.counts_K > 0], wss_by_k, margin)


def _curve(
    rows: Directions, partition: Partition, k_grid: Sequence[int], sweeps: int
) -> tuple[dict[int, float], dict[int, NDArray[np.float64]]]:
    """WSS and centroids for every k of the grid that the partition can be merged to, and for its own k."""
    largest = len(partition.counts_K)
    merges, increases = ward(partition.centroids_KP, partition.counts_K)
    risen = partition.wss + np.concatenate([[0.0], np.cumsum(increases)])
    wss = {k: float(risen[largest - k]) for k in sorted({*k_grid, largest}) if k <= largest}
    centroids = {k: partition.merged(groups(merges, largest, k)).centroids_KP for k in wss}
    merged = [k for k in wss if k < largest]
    for _ in range(sweeps if merged else 0):
        for k, found in zip(merged, assign_all(rows, [centroids[k] for k in merged]), strict=True):
            wss[k], used_K = found.wss, found.counts_K > 0
            centroids[k] = np.where(used_K[:, None], found.centroids_KP, centroids[k])
    return wss, centroids


def _settled(
    rows: Directions, centroids_KP: NDArray[np.float64], wss_by_k: dict[int, float], margin: float
) -> Clustering:
    partition = assign(rows, centroids_KP)
    nearest_KP = centroids_KP[partition.counts_K > 0].astype(np.float32)
    partition = _without_unused(partition)
    labels_N, distance_N = np.empty(len(rows), np.int32), np.empty(len(rows), np.float32)
    labels_N[rows.order_N] = partition.labels_N
    distance_N[rows.order_N] = distances(rows, partition.labels_N, nearest_KP)
    return Clustering(labels_N, distance_N, nearest_KP, wss_by_k, len(nearest_KP), margin, partition.wss)


def _without_unused(partition: Partition) -> Partition:
    used_K = partition.counts_K > 0
    number_K = (np.cumsum(used_K) - 1).astype(np.int32)
    sums = partition.counts_K[used_K], partition.sums_KP[used_K], partition.squares_K[used_K]
    return Partition(number_K[partition.labels_N], *sums)
