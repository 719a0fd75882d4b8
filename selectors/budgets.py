"""How many samples each cluster gives: whole numbers that sum to the budget exactly and never exceed a cluster's size.

Shapes: K clusters, P dimensions.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

NEGLIGIBLE = 1e-12  # of the largest weight: treated as no weight


def uniform(sizes_K: NDArray[np.integer], total: int) -> Counts:
    """The most even budgets (Adapt-∞, section 4.3): b_k = min(n_k, level), the remainder to the largest clusters.

    Sums to min(total, sum of sizes); never falls for any cluster when the total grows; equal sizes by position.

    Raises:
        ValueError: a size or the total is negative.
    """
    sizes_K, total = _checked(sizes_K, total)
    ascending = np.sort(sizes_K)
    before = np.cumsum(ascending) - ascending
    filled = before + ascending * np.arange(len(sizes_K), 0, -1)  # given out when the level reaches each size
    drained = int(np.searchsorted(filled, total, side="right"))
    if drained == len(sizes_K):
        return sizes_K
    level, remainder = divmod(total - int(before[drained]), len(sizes_K) - drained)
    budget_K = np.minimum(sizes_K, level)
    open_K = np.flatnonzero(sizes_K > level)
    largest_first = open_K[np.argsort(-sizes_K[open_K], kind="stable")]
    budget_K[largest_first[:remainder]] += 1
    return budget_K


def proportional(weights_K: NDArray[np.floating], sizes_K: NDArray[np.integer], total: int) -> Counts:
    """Budgets in proportion to weights by highest averages w / (2b + 1) (Sainte-Laguë), capped by the sizes.

    Sums to min(total, sum of sizes) and is monotone in the total. Clusters without weight are filled, evenly, only
    after all the others are exhausted.

    Raises:
        ValueError: a weight is negative or not finite, a size or the total is negative.
    """
    sizes_K, total = _checked(sizes_K, total)
    weights_K = np.asarray(weights_K, np.float64)
    if weights_K.shape != sizes_K.shape or not np.isfinite(weights_K).all() or (weights_K < 0).any():
        raise ValueError(f"weights {weights_K} for {len(sizes_K)} clusters; pass a finite weight of 0 or more for each")
    budget_K = np.zeros(len(sizes_K), np.int64)
    heavy_K = weights_K > NEGLIGIBLE * weights_K.max(initial=0.0)
    heavy_total = min(total, int(sizes_K[heavy_K].sum()))
    if heavy_total:
        budget_K[heavy_K] = _highest_averages(weights_K[heavy_K] / weights_K.max(), sizes_K[heavy_K], heavy_total)
    budget_K[~heavy_K] = uniform(sizes_K[~heavy_K], total - heavy_total)
    return budget_K


def density_weights(
    centroids_KP: NDArray[np.floating], *, neighbours: int = 20, temperature: float = 0.1
) -> NDArray[np.float64]:
    """Share of each cluster by density-based pruning (Abbas et al., arXiv 2401.04578): softmax(d_intra d_inter / τ).

    d_intra is the mean cosine distance of a cluster's unit rows to their centroid, which for a centroid that is their
    mean equals 1 - |centroid|; d_inter is the mean cosine distance to the `neighbours` nearest other centroids.
    """
    centroids_KP = np.asarray(centroids_KP, np.float64)
    length_K = np.linalg.norm(centroids_KP, axis=1)
    unit_KP = centroids_KP / np.where(length_K > 0, length_K, 1.0)[:, None]
    distance_KK = 1.0 - unit_KP @ unit_KP.T
    np.fill_diagonal(distance_KK, np.inf)
    near_KK = np.sort(distance_KK, axis=1)[:, : min(neighbours, len(centroids_KP) - 1)]
    inter_K = near_KK.mean(axis=1) if near_KK.size else np.ones(len(centroids_KP))
    logits_K = np.maximum(1.0 - length_K, 0.0) * inter_K / temperature
    raised_K = np.exp(logits_K - logits_K.max(initial=0.0))
    return raised_K / max(raised_K.sum(), NEGLIGIBLE)


def project_box_simplex(
    target_K: NDArray[np.floating], lower_K: NDArray[np.floating], upper_K: NDArray[np.floating], total: float
) -> NDArray[np.float64]:
    """The closest x to `target_K` with lower <= x <= upper and sum `total`: x = clip(target + λ, lower, upper).

    The sum is piecewise linear in λ, so λ is read off its breakpoints exactly (density-based pruning's quadratic
    program without a solver).

    Raises:
        ValueError: no such x exists.
    """
    target_K, lower_K, upper_K = (np.asarray(x, np.float64) for x in (target_K, lower_K, upper_K))
    if (lower_K > upper_K).any() or not lower_K.sum() <= total <= upper_K.sum():
        raise ValueError(f"no budgets between {lower_K} and {upper_K} sum to {total}; change the bounds or the total")
    if not len(target_K):
        return target_K
    breakpoints = np.concatenate([lower_K - target_K, upper_K - target_K])
    slopes = np.repeat([1.0, -1.0], len(target_K))
    order = np.argsort(breakpoints, kind="stable")
    breakpoints, slopes = breakpoints[order], np.cumsum(slopes[order])
    sums = lower_K.sum() + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(breakpoints))])
    return np.clip(target_K + np.interp(total, sums, breakpoints), lower_K, upper_K)


def rounded(shares_K: NDArray[np.floating]) -> Counts:
    """Whole numbers of the same (whole) sum, each the floor or the ceiling of its share: largest remainders first."""
    down_K = np.floor(np.asarray(shares_K) + 1e-9)
    missing = round(float(np.sum(shares_K))) - int(down_K.sum())
    largest_first = np.argsort(-(shares_K - down_K), kind="stable")
    down_K[largest_first[:missing]] += 1
    return down_K.astype(np.int64)


def _highest_averages(weights_K: NDArray[np.float64], sizes_K: Counts, total: int) -> Counts:
    """Bisect the price of a seat until at most 2K seats are left, then give those out one by one."""
    cheap, dear = 0.0, float((sizes_K.max() + 1) / weights_K.min())
    for _ in range(128):
        middle = (cheap + dear) / 2
        fits = np.minimum(sizes_K, np.floor(weights_K * middle + 0.5)).sum() <= total
        cheap, dear = (middle, dear) if fits else (cheap, middle)
    budget_K = np.minimum(sizes_K, np.floor(weights_K * cheap + 0.5)).astype(np.int64)
    budget_K = np.maximum(budget_K - 1, 0)  # one step back: rounding at the price cannot then matter
    averages = [(-weights_K[k] / (2 * budget_K[k] + 1), k) for k in np.flatnonzero(budget_K < sizes_K)]
    heapq.heapify(averages)
    for _ in range(total - int(budget_K.sum())):
        k = heapq.heappop(averages)[1]
        budget_K[k] += 1
        if budget_K[k] < sizes_K[k]:
            heapq.heappush(averages, (-weights_K[k] / (2 * budget_K[k] + 1), k))
    return budget_K


def _checked(sizes_K: NDArray[np.integer], total: int) -> tuple[Counts, int]:
    counts_K = np.array(sizes_K, np.int64)
    if total < 0 or (counts_K < 0).any():
        raise ValueError(f"cannot share {total} samples among clusters of {counts_K}; sizes and budget are 0 or more")
    return counts_K, min(int(total), int(counts_K.sum()))
