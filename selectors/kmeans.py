"""Lloyd's k-means over unit rows: mean centroids, exact float64 sums, and a result that no row order can change.

Centroids stay plain means: on the sphere's surface the sum of squares would no longer split into the parts that Ward's
identity needs (`ward.py`). Everything runs in the order of `Directions`, which callers sort by key.

Shapes: N samples, P dimensions, K clusters, M rows of the seeding sample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from liit.selectors.directions import Directions
from liit.selectors.priority import Keys, smallest

SEEDING_ROWS = 1 << 15
SEEDING_ITERATIONS = 10
RESTARTS = 4
SAME_POINT = 1e-6  # squared distance of unit rows below which they are one point: the resolution of float16


@dataclass(frozen=True)
class Partition:
    """Labels with the sums that give centroids and the within-cluster sum of squares (WSS) exactly."""

    labels_N: NDArray[np.int32]
    counts_K: NDArray[np.int64]
    sums_KP: NDArray[np.float64]
    squares_K: NDArray[np.float64]  # sum of squared norms

    @property
    def centroids_KP(self) -> NDArray[np.float64]:
        return self.sums_KP / np.maximum(self.counts_K, 1)[:, None]

    @property
    def wss_K(self) -> NDArray[np.float64]:
        explained_K = np.einsum("kp,kp->k", self.sums_KP, self.centroids_KP)
        return np.maximum(self.squares_K - explained_K, 0.0)

    @property
    def wss(self) -> float:
        return float(self.wss_K.sum())

    def merged(self, group_K: NDArray[np.integer]) -> "Partition":
        """Clusters joined into groups 0..G-1; empty groups vanish because the caller numbers none."""
        join_GK = csr_array((np.ones(len(group_K)), (group_K, np.arange(len(group_K)))))
        counts_G = np.bincount(group_K, weights=self.counts_K).astype(np.int64)
        labels_N = group_K.astype(np.int32)[self.labels_N]
        return Partition(labels_N, counts_G, join_GK @ self.sums_KP, join_GK @ self.squares_K)


def tally(rows: Directions, labels_N: NDArray[np.int32], n_clusters: int) -> Partition:
    """Counts, sums and squares of given labels."""
    sums = _Sums(n_clusters, rows.vectors_NP.shape[1])
    for part, rows_BP in rows.blocks():
        sums.add(labels_N[part], rows_BP)
    return Partition(labels_N, sums.counts_K, sums.sums_KP, sums.squares_K)


def assign(rows: Directions, centroids_KP: NDArray[np.floating]) -> Partition:
    """Every row to its nearest centroid (ties to the lower number), with the sums of the new clusters."""
    sums = _Sums(*centroids_KP.shape)
    labels_N = np.empty(len(rows), np.int32)
    centroids_PK = centroids_KP.T.astype(np.float32)
    half_K = (np.einsum("kp,kp->k", centroids_KP, centroids_KP) / 2).astype(np.float32)
    for part, rows_BP in rows.blocks():
        labels_N[part] = np.argmax(rows_BP @ centroids_PK - half_K, axis=1)
        sums.add(labels_N[part], rows_BP)
    return Partition(labels_N, sums.counts_K, sums.sums_KP, sums.squares_K)


def distances(rows: Directions, labels_N: NDArray[np.int32], centroids_KP: NDArray[np.floating]) -> NDArray[np.float32]:
    """Euclidean distance of each row to its own centroid, by differences: no cancellation near zero."""
    distance_N = np.empty(len(rows), np.float32)
    centroids_KP = centroids_KP.astype(np.float32)
    for part, rows_BP in rows.blocks():
        rows_BP -= centroids_KP[labels_N[part]]
        distance_N[part] = np.sqrt(np.einsum("bp,bp->b", rows_BP, rows_BP))
    return distance_N


def lloyd(
    rows: Directions, centroids_KP: NDArray[np.floating], max_iterations: int, tolerance: float
) -> tuple[Partition, list[float]]:
    """Assign and average until the WSS falls by less than `tolerance` of itself; returns the WSS of every iteration."""
    partition = assign(rows, centroids_KP)
    wss = [partition.wss]
    while len(wss) < max_iterations:
        centroids_KP, split = _without_empty(rows, partition)
        partition = assign(rows, centroids_KP)
        wss.append(partition.wss)
        if not split and wss[-2] - wss[-1] <= tolerance * wss[-2]:
            break
    return partition, wss


def start(rows: Directions, keys_N: Keys, n_clusters: int, seed: int) -> NDArray[np.float64]:
    """Centroids to start from: the best of a few short fits to the rows of smallest hash.

    Args:
        keys_N: the key of each position of `rows`.

    Returns:
        At most `n_clusters` centroids: fewer where there are fewer distinct points.
    """
    sample = rows.subset(smallest(keys_N, SEEDING_ROWS, "k-means", seed))
    chance = np.random.default_rng(seed)
    fits = [lloyd(sample, seeds(sample, n_clusters, chance), SEEDING_ITERATIONS, 1e-3)[0] for _ in range(RESTARTS)]
    best = min(fits, key=lambda fit: fit.wss)
    return best.centroids_KP[best.counts_K > 0]


def seeds(rows: Directions, n_clusters: int, chance: np.random.Generator) -> NDArray[np.float32]:
    """Greedy k-means++ (Arthur & Vassilvitskii, SODA 2007): rows drawn by squared distance to those drawn before."""
    rows_MP = rows.take(np.arange(len(rows)))
    square_M = np.einsum("mp,mp->m", rows_MP, rows_MP)
    trials = 2 + int(np.log(n_clusters))
    chosen = [int(chance.integers(len(rows_MP)))]
    nearest_M = _squared_distances(rows_MP, square_M, np.array(chosen))[:, 0]
    while len(chosen) < n_clusters and nearest_M.any():
        cumulative_M = np.cumsum(nearest_M, dtype=np.float64)
        drawn = np.searchsorted(cumulative_M, chance.random(trials) * cumulative_M[-1], side="right")
        drawn = np.minimum(drawn, len(rows_MP) - 1)
        after = np.minimum(nearest_M[:, None], _squared_distances(rows_MP, square_M, drawn))
        best = int(np.argmin(after.sum(axis=0, dtype=np.float64)))
        chosen.append(int(drawn[best]))
        nearest_M = after[:, best]
    return rows_MP[chosen]


def _squared_distances(
    rows_MP: NDArray[np.float32], square_M: NDArray[np.float32], chosen: NDArray[np.integer]
) -> NDArray[np.float32]:
    distance = square_M[:, None] + square_M[chosen] - 2 * (rows_MP @ rows_MP[chosen].T)
    distance[distance < SAME_POINT] = 0
    return distance


def _without_empty(rows: Directions, partition: Partition) -> tuple[NDArray[np.float64], bool]:
    """Means; an empty cluster takes the farthest row of a cluster of largest WSS. And whether any was so split."""
    centroids_KP, wss_K = partition.centroids_KP, partition.wss_K
    splittable = [int(k) for k in np.argsort(-wss_K, kind="stable") if wss_K[k] > SAME_POINT * partition.counts_K[k]]
    pairs = list(zip(np.flatnonzero(partition.counts_K == 0), splittable, strict=False))
    for empty, largest in pairs:
        members = np.flatnonzero(partition.labels_N == largest)
        own = rows.subset(members)
        distance = distances(own, partition.labels_N[members], partition.centroids_KP)
        centroids_KP[empty] = own.take(np.array([np.argmax(distance)]))[0]
    return centroids_KP, bool(pairs)


class _Sums:
    """Running float64 sums of a pass."""

    def __init__(self, n_clusters: int, width: int) -> None:
        self.counts_K = np.zeros(n_clusters, np.int64)
        self.sums_KP = np.zeros((n_clusters, width))
        self.squares_K = np.zeros(n_clusters)

    def add(self, labels_B: NDArray[np.int32], rows_BP: NDArray[np.float32]) -> None:
        n_rows, n_clusters = len(labels_B), len(self.counts_K)
        member_KB = csr_array((np.ones(n_rows), (labels_B, np.arange(n_rows))), shape=(n_clusters, n_rows))
        self.counts_K += np.bincount(labels_B, minlength=n_clusters)
        self.sums_KP += member_KB @ rows_BP.astype(np.float64)
        self.squares_K += member_KB @ np.einsum("bp,bp->b", rows_BP, rows_BP, dtype=np.float64)
