"""How many samples each group of a pool gives, by what is known of the group: its size, a score, its vectors.

Shapes: N samples, K groups, P dimensions.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.budgets import Counts, proportional, uniform
from liit.selectors.density import density_budgets
from liit.selectors.directions import directions
from liit.selectors.kmeans import means, members_of
from liit.selectors.priority import smallest
from liit.selectors.protocol import Pool

SHARES = {"budgets": "uniform", "weight": None, "floor": 0.5}
"""Options of whatever strategy shares its budget among groups, with their defaults."""
KINDS = ("uniform", "density", "spread", "mean", "forgotten", "volume")
NEEDS = {"forgotten": ("nll", "forgetting")}
"""Scores that a kind goes by, for `Strategy.budgets`."""
MEASURED = (
    128  # samples of a group that its volume is measured on, at most: of more it would grow with the group's mass
)


def group_budgets(
    pool: Pool,
    labels_N: NDArray[np.int32],
    budget: int,
    vector: Callable[[], NDArray[Any]],
    timestep: int,
    *,
    budgets: str,
    weight: str | None,
    floor: float,
) -> Counts:
    """(K,) what each group gives; min(budget, N) in all, and no group more than it has.

    budgets: one of `KINDS`. "uniform": evenly. "density": as density-based pruning has it. "spread": in proportion to the
    standard deviation of the score `weight`. The others share `floor` of the budget evenly, and the rest in proportion: "mean" to
    √n_k times the mean of `weight`, "forgotten" to √n_k times the mean of `lost`, "volume" to `volume`.

    vector: gives the vectors (N, P) of density and volume.

    Raises:
        ValueError: an unknown kind, a floor that is no share, or a kind that lacks its score.
    """
    sizes_K = np.bincount(labels_N)
    if budgets not in KINDS:
        raise ValueError(f"budgets are {budgets!r}; choose one of: {', '.join(KINDS)}")
    if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor <= 1:
        raise ValueError(f"floor is {floor!r}; pass the share of the budget that is shared evenly, 0 to 1")
    if budgets == "uniform":
        return uniform(sizes_K, budget)
    order_N = np.argsort(pool.keys_N)  # sums of floats depend on their order
    sorted_N = labels_N[order_N]
    if budgets == "density":
        centroids_KP = means(directions(vector(), pool.keys_N, order_N), sorted_N, len(sizes_K))
        return density_budgets(centroids_KP, sizes_K, budget, minimum=0)
    if budgets == "volume":
        weight_K = volume(vector(), pool, labels_N)
    elif budgets == "forgotten":
        weight_K = _moments(lost(pool, timestep)[order_N], sorted_N, len(sizes_K))[0] * np.sqrt(sizes_K)
    else:
        if weight is None:
            raise ValueError(f"budgets {budgets!r} need a score to go by: weight=el2n")
        mean_K, deviation_K = _moments(pool.score(weight)[order_N], sorted_N, len(sizes_K))
        if budgets == "spread":
            return proportional(deviation_K, sizes_K, budget)
        weight_K = np.maximum(mean_K, 0) * np.sqrt(sizes_K)
    even = int(floor * budget)
    even_K = uniform(sizes_K, even)
    return even_K + proportional(weight_K, sizes_K - even_K, budget - even)


def shares(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a strategy's options that `group_budgets` goes by."""
    return {name: parts[name] for name in SHARES}


def lost(pool: Pool, timestep: int) -> NDArray[np.float64]:
    """(N,) in nats, 0 or more: what the model has forgotten of a sample, and of a new one what is to be learned of it.

    Forgotten is the loss above the lowest that a sample ever had, which a new sample has none of; in its place stands the loss
    above the median of what came before, all of which was there to be trained on. Where nothing did, above 0. NaN where the score
    is missing.
    """
    nll_N, forgetting_N = (pool.score(name).astype(np.float64) for name in NEEDS["forgotten"])
    before = nll_N[(pool.arrival_N < timestep) & np.isfinite(nll_N)]
    known = float(np.median(before)) if len(before) else 0.0
    return np.maximum(np.where(pool.arrival_N < timestep, forgetting_N, nll_N - known), 0)


def volume(vectors_NP: NDArray[Any], pool: Pool, labels_N: NDArray[np.int32]) -> NDArray[np.float64]:
    """(K,) how many directions a group's vectors go in, effectively: exp of the entropy of the eigenvalues of their cosines.

    The Vendi score (Friedman & Dieng, arXiv 2210.02410), of up to `MEASURED` samples of each group by hash: 1 where all are
    alike, the number of samples where all are orthogonal; a group of no direction, 0.
    """
    found = []
    for members in members_of(labels_N):
        few = members[smallest(pool.keys_N[members], MEASURED, "volume")]
        few = few[np.argsort(pool.keys_N[few])]
        rows_nP = directions(vectors_NP, pool.keys_N, few).take(slice(None)).astype(np.float64)
        spectrum_n = np.maximum(np.linalg.eigvalsh(rows_nP @ rows_nP.T), 0)
        share_n = spectrum_n[spectrum_n > 0] / max(spectrum_n.sum(), np.finfo(float).tiny)
        found.append(float(np.exp(-(share_n * np.log(share_n)).sum())) if len(share_n) else 0.0)
    return np.array(found)


def _moments(
    values_N: NDArray[np.floating], labels_N: NDArray[np.int32], n_clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of a score in each cluster, over its finite values; 0 where there are none."""
    known = np.isfinite(values_N)
    labels, values = labels_N[known], values_N[known].astype(np.float64)
    count_K = np.maximum(np.bincount(labels, minlength=n_clusters), 1)
    mean_K = np.bincount(labels, values, n_clusters) / count_K
    return mean_K, np.sqrt(np.bincount(labels, (values - mean_K[labels]) ** 2, n_clusters) / count_K)
