"""Adapt-∞ put together: clusters, a score for each cluster, a budget for each cluster, coverage of the score's range.

Shapes: N samples, S scores, K clusters, P dimensions, n chosen samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.budgets import uniform
from liit.selectors.group_budgets import SHARES, group_budgets, shares
from liit.selectors.inside import WAYS, picked
from liit.selectors.kmeans import members_of
from liit.selectors.multiway import choose_scores, values_of
from liit.selectors.priority import priority
from liit.selectors.protocol import Choice, Options, Pool, Strata, choice, settled

SCORES = ("nll", "image_grounding", "el2n", "entropy")
PARTS = {"scores": SCORES, "bins": 50, "trim": 0.05, "min_size": 100, "inside": "ccs"}
"""Options of whatever strategy chooses by `multiway`, with their defaults."""


def adapt_inf(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Clusters of gradients (Adapt-∞, sections 4.1 to 4.3).

    Options: `scores` to judge by, `bins` and `trim` of CCS and entropy, `min_size` of a cluster that chooses its own
    score, `inside`, how a cluster's samples are chosen (`WAYS`); and `budgets`, `weight` and `floor` as `group_budgets` has them.
    """
    parts, (labels_N, budget_K) = judged(options, **SHARES), strata_of_clusters(pool, budget, seed, timestep, options)
    told = {name: parts[name] for name in PARTS}
    return multiway(pool, labels_N, budget_K, parts["budgets"] == "uniform", seed, timestep, **told)


def strata_of_clusters(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Strata:
    """The clusters of the pool, and what each gives."""
    parts, labels_N = judged(options, **SHARES), pool.labels()
    return labels_N, group_budgets(pool, labels_N, budget, pool.first_vector, timestep, **shares(parts))


def random_clusters(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """The same with clusters drawn by hash: what multi-way selection and CCS give without the gradients.

    Options: those of `adapt_inf` but for the budgets', and `k`, the number of clusters.
    """
    parts = judged(options, k=20)
    if parts["k"] < 1:
        raise ValueError(f"k is {parts['k']}; pass at least one cluster")
    hashed_N = priority(pool.keys_N, "random clusters", seed, timestep)
    labels_N = (hashed_N % np.uint64(parts.pop("k"))).astype(np.int32)
    return multiway(pool, labels_N, uniform(np.bincount(labels_N), budget), True, seed, timestep, **parts)


def judged(options: Options, **defaults: Any) -> dict[str, Any]:
    """Options of a strategy that chooses by `multiway`: `PARTS`, and its own with these defaults.

    Raises:
        ValueError: an option that it does not know, or a way inside that there is not.
    """
    parts = settled(options, **{**PARTS, **defaults})
    if parts["inside"] not in WAYS:
        raise ValueError(f"inside is {parts['inside']!r}; choose one of: {', '.join(WAYS)}")
    return parts


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
    inside: str,
    group_K: NDArray[np.int32] | None = None,
) -> Choice:
    """Of each cluster its budget, by CCS or whatever `inside` says, on the score that discriminates best in it.

    even: of a smaller budget, clusters lose alike; else in proportion to their budgets. group_K: clusters of one group are judged
    together; None: each by itself.
    """
    columns = [] if inside == "chance" else [pool.score(name) for name in scores]
    group_K = np.arange(len(budget_K), dtype=np.int32) if group_K is None else group_K
    groups = int(group_K.max(initial=-1)) + 1
    chosen_G = choose_scores(columns, group_K[labels_N], groups, min_size=min_size, bins=bins, trim=trim)
    chosen_K = chosen_G[group_K]
    index_n, stratum_n, rank_n = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0)]
    for k, members in enumerate(members_of(labels_N, len(budget_K))):
        if not budget_K[k]:
            continue
        values, keys = values_of(columns, chosen_K[k], members), pool.keys_N[members]
        chance = {"seed": seed, "timestep": timestep}
        own, stratum, place = picked(values, keys, int(budget_K[k]), inside, bins=bins, trim=trim, **chance)
        index_n.append(members[own])
        stratum_n.append(stratum)
        rank_n.append(place.astype(np.float64) if even else (place + 1) / len(own))
    index = np.concatenate(index_n)
    scorer_n = np.array([*scores, None], object)[chosen_K[labels_N[index]]]
    return choice(pool, index, scorer_n, np.concatenate(stratum_n), np.concatenate(rank_n))
