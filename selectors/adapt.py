"""Adapt-∞ put together: clusters, a score for each cluster, a budget for each cluster, coverage of the score's range.

Shapes: N samples, S scores, K clusters, P dimensions, n chosen samples.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.budgets import uniform
from liit.selectors.coverage import ccs
from liit.selectors.density import density_budgets
from liit.selectors.directions import directions
from liit.selectors.kmeans import tally
from liit.selectors.multiway import choose_scores
from liit.selectors.priority import priority
from liit.selectors.protocol import Choice, Options, Pool, choice, settled

SCORES = ("nll", "image_grounding", "el2n", "entropy")
PARTS = {"scores": SCORES, "bins": 50, "trim": 0.05, "min_size": 100}


def adapt_inf(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Clusters of gradients (Adapt-∞, sections 4.1 to 4.3).

    Options: `scores` to judge by, `bins` and `trim` of CCS and entropy, `min_size` of a cluster that chooses its own
    score, `budgets`: "uniform" or "density".
    """
    parts = settled(options, **PARTS, budgets="uniform")
    labels_N = pool.labels()
    return _multiway(pool, labels_N, _budgets(pool, labels_N, budget, parts.pop("budgets")), seed, timestep, **parts)


def random_clusters(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """The same with clusters drawn by hash: what multi-way selection and CCS give without the gradients.

    Options: those of `adapt_inf` but `budgets`, and `k`, the number of clusters.
    """
    parts = settled(options, **PARTS, k=20)
    if parts["k"] < 1:
        raise ValueError(f"k is {parts['k']}; pass at least one cluster")
    hashed_N = priority(pool.keys_N, "random clusters", seed, timestep)
    labels_N = (hashed_N % np.uint64(parts.pop("k"))).astype(np.int32)
    return _multiway(pool, labels_N, uniform(np.bincount(labels_N), budget), seed, timestep, **parts)


def _multiway(
    pool: Pool,
    labels_N: NDArray[np.int32],
    budget_K: NDArray[np.int64],
    seed: int,
    timestep: int,
    scores: tuple[str, ...],
    bins: int,
    trim: float,
    min_size: int,
) -> Choice:
    columns = [pool.score(name) for name in scores]
    scores_NS = np.stack([*columns, np.full(len(pool), np.nan, np.float32)], axis=1)  # column -1: chance
    chosen_K = choose_scores(scores_NS, labels_N, len(budget_K), min_size=min_size, bins=bins, trim=trim)
    index_n, stratum_n = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    for k in np.flatnonzero(budget_K):
        members = np.flatnonzero(labels_N == k)
        values = scores_NS[members, chosen_K[k]]
        picked, stratum = ccs(
            values, pool.keys_N[members], int(budget_K[k]), bins=bins, trim=trim, seed=seed, timestep=timestep
        )
        index_n.append(members[picked])
        stratum_n.append(stratum)
    index = np.concatenate(index_n)
    scorer_n = np.array([*scores, None], object)[chosen_K[labels_N[index]]]
    return choice(pool, index, scorer_n, np.concatenate(stratum_n))


def _budgets(pool: Pool, labels_N: NDArray[np.int32], budget: int, kind: str) -> NDArray[np.int64]:
    sizes_K = np.bincount(labels_N)
    if kind == "uniform":
        return uniform(sizes_K, budget)
    if kind == "density":
        rows = directions(pool.vector("sketch"), pool.keys_N, np.argsort(pool.keys_N))
        centroids_KP = tally(rows, labels_N[rows.order_N], len(sizes_K)).centroids_KP
        return density_budgets(centroids_KP, sizes_K, budget, minimum=0)
    raise ValueError(f"budgets are {kind!r}; choose uniform or density")
