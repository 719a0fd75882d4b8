"""Adapt-∞ put together: clusters, a score for each cluster, a budget for each cluster, coverage of the score's range.

Shapes: N samples, S scores, K clusters, P dimensions, n chosen samples.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.budgets import proportional, uniform
from liit.selectors.coverage import added, ccs
from liit.selectors.density import density_budgets
from liit.selectors.directions import directions
from liit.selectors.kmeans import means, members_of
from liit.selectors.multiway import choose_scores, values_of
from liit.selectors.priority import priority
from liit.selectors.protocol import Choice, Options, Pool, choice, settled

SCORES = ("nll", "image_grounding", "el2n", "entropy")
PARTS = {"scores": SCORES, "bins": 50, "trim": 0.05, "min_size": 100}


def adapt_inf(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Clusters of gradients (Adapt-∞, sections 4.1 to 4.3).

    Options: `scores` to judge by, `bins` and `trim` of CCS and entropy, `min_size` of a cluster that chooses its own
    score, `budgets`: "uniform", "density", "spread" (in proportion to the standard deviation of the score `weight`, as in the
    released code) or "mean" (half of them even, half in proportion to its mean and the root of the cluster's size).
    """
    parts = settled(options, **PARTS, budgets="uniform", weight=None)
    labels_N, kind = pool.labels(), parts.pop("budgets")
    budget_K = _budgets(pool, labels_N, budget, kind, parts.pop("weight"))
    return multiway(pool, labels_N, budget_K, kind == "uniform", seed, timestep, **parts)


def random_clusters(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """The same with clusters drawn by hash: what multi-way selection and CCS give without the gradients.

    Options: those of `adapt_inf` but `budgets`, and `k`, the number of clusters.
    """
    parts = settled(options, **PARTS, k=20)
    if parts["k"] < 1:
        raise ValueError(f"k is {parts['k']}; pass at least one cluster")
    hashed_N = priority(pool.keys_N, "random clusters", seed, timestep)
    labels_N = (hashed_N % np.uint64(parts.pop("k"))).astype(np.int32)
    return multiway(pool, labels_N, uniform(np.bincount(labels_N), budget), True, seed, timestep, **parts)


def multiway(
    pool: Pool,
    labels_N: NDArray[np.int32],
    budget_K: NDArray[np.int64],
    even: bool,
    seed: int,
    timestep: int,
    scores: tuple[str, ...],
    bins: int,
    trim: float,
    min_size: int,
    group_K: NDArray[np.int32] | None = None,
) -> Choice:
    """Of each cluster its budget by CCS, on the score that discriminates best in it.

    even: of a smaller budget, clusters lose alike; else in proportion to their budgets. group_K: clusters of one group are judged
    together; None: each by itself.
    """
    columns = [pool.score(name) for name in scores]
    group_K = np.arange(len(budget_K), dtype=np.int32) if group_K is None else group_K
    groups = int(group_K.max(initial=-1)) + 1
    chosen_G = choose_scores(columns, group_K[labels_N], groups, min_size=min_size, bins=bins, trim=trim)
    chosen_K = chosen_G[group_K]
    index_n, stratum_n, rank_n = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0)]
    for k, members in enumerate(members_of(labels_N, len(budget_K))):
        if not budget_K[k]:
            continue
        values, keys = values_of(columns, chosen_K[k], members), pool.keys_N[members]
        picked, stratum = ccs(values, keys, int(budget_K[k]), bins=bins, trim=trim, seed=seed, timestep=timestep)
        index_n.append(members[picked])
        stratum_n.append(stratum)
        place = added(stratum, keys[picked], seed, timestep)
        rank_n.append(place.astype(np.float64) if even else (place + 1) / len(picked))
    index = np.concatenate(index_n)
    scorer_n = np.array([*scores, None], object)[chosen_K[labels_N[index]]]
    return choice(pool, index, scorer_n, np.concatenate(stratum_n), np.concatenate(rank_n))


def _budgets(pool: Pool, labels_N: NDArray[np.int32], budget: int, kind: str, weight: str | None) -> NDArray[np.int64]:
    sizes_K = np.bincount(labels_N)
    if kind == "uniform":
        return uniform(sizes_K, budget)
    if kind == "density":
        rows = directions(pool.first_vector(), pool.keys_N, np.argsort(pool.keys_N))
        centroids_KP = means(rows, labels_N[rows.order_N], len(sizes_K))
        return density_budgets(centroids_KP, sizes_K, budget, minimum=0)
    if kind not in ("spread", "mean"):
        raise ValueError(f"budgets are {kind!r}; choose uniform, density, spread or mean")
    if weight is None:
        raise ValueError(f"budgets {kind!r} need a score to go by: weight=el2n")
    order_N = np.argsort(pool.keys_N)  # sums of floats depend on their order
    mean_K, deviation_K = _moments(pool.score(weight)[order_N], labels_N[order_N], len(sizes_K))
    if kind == "spread":
        return proportional(deviation_K, sizes_K, budget)
    even_K = uniform(sizes_K, budget // 2)
    return even_K + proportional(np.maximum(mean_K, 0) * np.sqrt(sizes_K), sizes_K - even_K, budget - budget // 2)


def _moments(
    values_N: NDArray[np.floating], labels_N: NDArray[np.int32], n_clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of a score in each cluster, over its finite values; 0 where there are none."""
    known = np.isfinite(values_N)
    labels, values = labels_N[known], values_N[known].astype(np.float64)
    count_K = np.maximum(np.bincount(labels, minlength=n_clusters), 1)
    mean_K = np.bincount(labels, values, n_clusters) / count_K
    return mean_K, np.sqrt(np.bincount(labels, (values - mean_K[labels]) ** 2, n_clusters) / count_K)
