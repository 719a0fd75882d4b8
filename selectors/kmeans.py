"""Lloyd's k-means over unit rows: mean centroids, one pass over the rows for one k or many, and no row order changes a bit.

Centroids stay plain means: on the sphere's surface the sum of squares would no longer split into the parts that Ward's
identity needs (`ward.py`). Everything runs in the order of `Directions`, which callers sort by key.

Shapes: N samples, P dimensions, K clusters, S sets of clusters, M rows of the seeding sample, B rows of a block, u clusters
that occur in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from liit.selectors.blocks import in_order, one_thread
from liit.selectors.directions import Directions
from liit.selectors.priority import Indices, Keys, smallest

SEEDING_ROWS = 1 << 14
SEEDING_ITERATIONS = 25
RESTART_ROWS, SEED_ROWS = 256, 64  # for each cluster
RESTART_ITERATIONS = 6
RESTARTS = 4
SAME_POINT = 1e-6  # squared distance of unit rows below which they are one point: the resolution of float16


@dataclass(frozen=True)
class Partition:
    """Labels with the sums that give centroids and the within-cluster sum of squares (WSS)."""

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

    def labelled(part: slice) -> "_Block":
        rows_BP, weight_B = rows.weighted(part)
        return _block(part, rows_BP, weight_B, labels_N[part, None], n_clusters)

    return _gathered(rows, labelled, [n_clusters])[0]


def means(rows: Directions, labels_N: NDArray[np.int32], n_clusters: int) -> NDArray[np.float64]:
    """Mean of the unit rows of each label, (K, P); zero vectors have no direction and are left out."""
    pointing = np.flatnonzero(rows.norm_N > 0)
    return tally(rows.subset(pointing), labels_N[pointing], n_clusters).centroids_KP


def assign(rows: Directions, centroids_KP: NDArray[np.floating]) -> Partition:
    """Every row to its nearest centroid (ties to the lower number), with the sums of the new clusters."""
    return assign_all(rows, [centroids_KP])[0]


def assign_all(rows: Directions, sets: Sequence[NDArray[np.floating]]) -> list[Partition]:
    """`assign` for several sets of centroids: the rows are read and cast once, and compared in one matrix product."""
    sizes = [len(centroids_KP) for centroids_KP in sets]
    ends = np.cumsum(sizes).tolist()
    joined_KP = np.concatenate(sets)
    joined_PK = np.ascontiguousarray(joined_KP.T, np.float32)
    half_K = (np.einsum("kp,kp->k", joined_KP, joined_KP) / 2).astype(np.float32)

    def nearest(part: slice) -> "_Block":
        rows_BP, weight_B = rows.weighted(part)
        near_BK = rows_BP @ joined_PK
        near_BK *= weight_B[:, None]
        near_BK -= half_K
        label_BS = np.stack(
            [start + np.argmax(near_BK[:, start:end], axis=1) for start, end in zip([0, *ends], ends, strict=False)], 1
        )
        return _block(part, rows_BP, weight_B, label_BS, ends[-1])

    return _gathered(rows, nearest, sizes)


def distances(rows: Directions, labels_N: NDArray[np.int32], centroids_KP: NDArray[np.floating]) -> NDArray[np.float32]:
    """Euclidean distance of each row to its own centroid, by differences: no cancellation near zero."""
    centroids_KP = centroids_KP.astype(np.float32)

    def apart(part: slice) -> NDArray[np.float32]:
        rows_BP = rows.take(part)
        rows_BP -= centroids_KP[labels_N[part]]
        distance_B: NDArray[np.float32] = np.sqrt(np.einsum("bp,bp->b", rows_BP, rows_BP))
        return distance_B

    return np.concatenate([np.empty(0, np.float32), *in_order(apart, rows.parts())])


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
    """Centroids to start from: fitted to the rows of smallest hash, from the best of a few short fits to fewer of those.

    Args:
        keys_N: the key of each position of `rows`.

    Returns:
        At most `n_clusters` centroids: fewer where there are fewer distinct points.
    """
    chosen = smallest(keys_N, SEEDING_ROWS, "k-means", seed)
    sample = rows.subset(chosen).loaded()
    few = sample.subset(smallest(keys_N[chosen], RESTART_ROWS * n_clusters, "restarts", seed)).loaded()
    fewest = sample.subset(smallest(keys_N[chosen], SEED_ROWS * n_clusters, "seeds", seed)).loaded()
    chance = np.random.default_rng(seed)
    fits = [lloyd(few, seeds(fewest, n_clusters, chance), RESTART_ITERATIONS, 1e-3)[0] for _ in range(RESTARTS)]
    best = min(fits, key=lambda fit: fit.wss)
    fit = lloyd(sample, best.centroids_KP[best.counts_K > 0], SEEDING_ITERATIONS, 2e-5)[0]
    return fit.centroids_KP[fit.counts_K > 0]


def seeds(rows: Directions, n_clusters: int, chance: np.random.Generator) -> NDArray[np.float32]:
    """Greedy k-means++ (Arthur & Vassilvitskii, SODA 2007): rows drawn by squared distance to those drawn before."""
    with one_thread():
        return _seeds(rows.take(slice(None)), n_clusters, chance)


def _seeds(rows_MP: NDArray[np.float32], n_clusters: int, chance: np.random.Generator) -> NDArray[np.float32]:
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
    means_KP, wss_K = partition.centroids_KP, partition.wss_K
    centroids_KP = means_KP.copy()
    splittable = [int(k) for k in np.argsort(-wss_K, kind="stable") if wss_K[k] > SAME_POINT * partition.counts_K[k]]
    pairs = list(zip(np.flatnonzero(partition.counts_K == 0), splittable, strict=False))
    for empty, largest in pairs:
        members = np.flatnonzero(partition.labels_N == largest)
        own = rows.subset(members)
        distance = distances(own, np.zeros(len(members), np.int32), means_KP[[largest]])
        centroids_KP[empty] = own.take(np.array([np.argmax(distance)]))[0]
    return centroids_KP, bool(pairs)


@dataclass(frozen=True)
class _Block:
    """What a block of rows adds to clusters numbered over all S sets: of the `used` ones, sums of unit rows and counts."""

    part: slice
    label_BS: NDArray[np.integer]
    used: NDArray[np.integer] | slice
    sums_uP: NDArray[np.float32]
    counts_u: NDArray[np.int64]
    squares_u: NDArray[np.float64]


def _block(
    part: slice,
    rows_BP: NDArray[np.float32],
    weight_B: NDArray[np.float32],
    label_BS: NDArray[np.integer],
    n_clusters: int,
) -> _Block:
    used: NDArray[np.integer] | slice = slice(None)
    place_BS = label_BS
    if n_clusters > label_BS.size:
        present, inverse = np.unique(label_BS, return_inverse=True)
        used, place_BS, n_clusters = present, inverse.reshape(label_BS.shape), len(present)
    (n_rows, n_sets), flat = label_BS.shape, place_BS.ravel()
    bounds = np.arange(0, flat.size + 1, n_sets)
    member_uB = csc_array((np.repeat(weight_B, n_sets), flat, bounds), shape=(n_clusters, n_rows))
    counts_u = np.bincount(flat, minlength=n_clusters)
    squares_u = np.bincount(flat, np.repeat(weight_B > 0, n_sets), n_clusters).astype(np.float64)
    return _Block(part, label_BS, used, member_uB @ rows_BP, counts_u, squares_u)


def _gathered(rows: Directions, look: Callable[[slice], _Block], sizes: Sequence[int]) -> list[Partition]:
    """The blocks' float32 sums added up in float64, in their order, and cut into the sets."""
    total, width = sum(sizes), rows.vectors_NP.shape[1]
    counts_K, squares_K, sums_KP = np.zeros(total, np.int64), np.zeros(total), np.zeros((total, width))
    labels_SN = np.empty((len(sizes), len(rows)), np.int32)
    starts_S = np.cumsum([0, *sizes[:-1]])
    for block in in_order(look, rows.parts()):
        labels_SN[:, block.part] = (block.label_BS - starts_S).T
        counts_K[block.used] += block.counts_u
        squares_K[block.used] += block.squares_u
        sums_KP[block.used] += block.sums_uP
    sets = [slice(start, start + size) for start, size in zip(starts_S, sizes, strict=True)]
    return [
        Partition(labels_N, counts_K[of], sums_KP[of], squares_K[of])
        for labels_N, of in zip(labels_SN, sets, strict=True)
    ]


def members_of(labels_N: NDArray[np.integer], n_clusters: int = 0) -> list[Indices]:
    """The rows of each cluster, ascending."""
    size_K = np.bincount(labels_N, minlength=n_clusters)
    return np.split(np.argsort(labels_N, kind="stable"), np.cumsum(size_K))[:-1]
