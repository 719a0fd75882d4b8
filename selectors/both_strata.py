"""Strata of both kinds: groups of what samples ask for, and clusters of the gradients that they have.

Groups of instructions balance kinds of task; fine clusters of gradients, about one for every two samples of the budget, spread it
over what the model does not know. Here they are had together.

Shapes: N samples, G groups, K cells (a part of a group, or of the pool).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.adapt import PARTS, judged, multiway
from liit.selectors.budgets import Counts, uniform
from liit.selectors.clustering import cluster
from liit.selectors.group_budgets import SHARES, group_budgets, shares
from liit.selectors.kmeans import members_of
from liit.selectors.parts import joined, part
from liit.selectors.priority import Indices
from liit.selectors.protocol import Choice, Options, Pool, Strata
from liit.selectors.two_level import TwoLevels, two_levels, within

HOW = ("nested", "crossed", "halves")
GRADIENTS = "sketch"
NUMBERS = {"how": "nested", "fine": None, "groups": None, "per_budget": 0.5}


def both_strata(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Groups of the first vector with strata of gradients.

    Options: `how`: "nested" (each group has gradient clusters of its own), "crossed" (those of the pool, as far as each is in the
    group) or "halves" (half of the budget by groups and their fine clusters, the other by the pool's gradient clusters);
    `per_budget`, gradient clusters for each sample of the budget; `fine` and `groups` as `two_level` has them; `budgets`,
    `weight` and `floor` of the groups as `group_budgets` has them, their volume being that of gradients; `inside`, by default by
    chance, `scores`, `bins`, `trim` and `min_size` as `adapt_inf` has them.
    """
    parts = _told(options)
    inside = {name: parts[name] for name in PARTS}
    if parts["how"] == "halves":
        return _halves(pool, budget, seed, timestep, parts, inside)
    cells, budget_K = _shared(pool, budget, seed, timestep, parts)
    return multiway(pool, cells.fine_N, budget_K, False, seed, timestep, **inside, group_K=cells.group_F)


def cell_strata(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Strata:
    """The gradient strata of groups, and what each gives. Raises ValueError for halves, which have no strata in common."""
    parts = _told(options)
    if parts["how"] == "halves":
        raise ValueError(
            "how is 'halves', of which a sample has two strata; a pool is pruned by nested or crossed ones"
        )
    cells, budget_K = _shared(pool, budget, seed, timestep, parts)
    return cells.fine_N, budget_K


def _told(options: Options) -> dict[str, Any]:
    parts = judged(options, **SHARES, **NUMBERS, inside="chance")
    how, density = parts["how"], parts["per_budget"]
    if how not in HOW:
        raise ValueError(f"how is {how!r}; choose one of: {', '.join(HOW)}")
    if isinstance(density, bool) or not isinstance(density, int | float) or not 0 < density <= 1:
        raise ValueError(
            f"per_budget is {density!r}; pass gradient clusters for each sample of the budget, above 0 to 1"
        )
    return parts


def _groups(pool: Pool, budget: int, seed: int, timestep: int, parts: dict[str, Any]) -> tuple[TwoLevels, Counts]:
    """Groups of the first vector, and what each gives."""
    levels = two_levels(pool.first_vector(), pool.keys_N, parts["fine"], parts["groups"], seed=seed)
    return levels, group_budgets(
        pool, levels.group_N, budget, lambda: pool.vector(GRADIENTS), timestep, **shares(parts)
    )


def _shared(pool: Pool, budget: int, seed: int, timestep: int, parts: dict[str, Any]) -> tuple[TwoLevels, Counts]:
    """The gradient strata of groups in place of fine clusters, and what each gives."""
    levels, budget_G = _groups(pool, budget, seed, timestep, parts)
    if parts["how"] == "nested":
        cells = _nested(pool, levels.group_N, budget_G, parts["per_budget"], seed)
    else:
        cells = _crossed(levels.group_N, clusters(pool, budget, parts["per_budget"], seed))
    return cells, within(cells, budget_G)


def clusters(pool: Pool, budget: int, density: float, seed: int, rows_n: Indices | None = None) -> NDArray[np.int32]:
    """(n,) the gradient cluster of each of these rows, or of all, `density` of them for a sample of the budget."""
    vectors_NP, keys_N = pool.vector(GRADIENTS), pool.keys_N
    if rows_n is not None:
        vectors_NP, keys_N = vectors_NP[rows_n], keys_N[rows_n]
    k = max(1, round(density * min(budget, len(keys_N))))
    return cluster(vectors_NP, keys_N, k_grid=[k], seed=seed).labels_N


def _nested(pool: Pool, group_N: NDArray[np.int32], budget_G: Counts, density: float, seed: int) -> TwoLevels:
    """Gradient clusters inside of every group, as many as its own budget says."""
    cell_N = np.empty(len(pool), np.int32)
    group_K: list[int] = []
    for group, members in enumerate(members_of(group_N)):
        own_n = clusters(pool, int(budget_G[group]), density, seed, members)
        cell_N[members] = len(group_K) + own_n
        group_K += [group] * (int(own_n.max(initial=-1)) + 1)
    return TwoLevels(cell_N, np.array(group_K, np.int32))


def _crossed(group_N: NDArray[np.int32], cluster_N: NDArray[np.int32]) -> TwoLevels:
    """The pairs of group and gradient cluster that any sample is of."""
    count = int(cluster_N.max(initial=0)) + 1
    pair_K, cell_N = np.unique(group_N.astype(np.int64) * count + cluster_N, return_inverse=True)
    return TwoLevels(cell_N.astype(np.int32), (pair_K // count).astype(np.int32))


def _halves(pool: Pool, budget: int, seed: int, timestep: int, parts: dict[str, Any], inside: dict[str, Any]) -> Choice:
    """What groups give of half of the budget, and of what is left what gradient clusters give of the rest."""
    levels, budget_G = _groups(pool, budget // 2, seed, timestep, parts)
    budget_F = within(levels, budget_G)
    first = multiway(pool, levels.fine_N, budget_F, False, seed, timestep, **inside, group_K=levels.group_F)
    rest_n = np.setdiff1d(np.arange(len(pool)), first.index_n)
    cluster_N = clusters(pool, budget, parts["per_budget"], seed)
    cluster_n = np.unique(cluster_N[rest_n], return_inverse=True)[1].astype(np.int32)
    budget_K = uniform(np.bincount(cluster_n), budget - len(first.index_n))
    own = part(pool, rest_n, lambda vectors_NP, rows_n: vectors_NP[rows_n])
    second = multiway(own, cluster_n, budget_K, True, seed, timestep, **inside)
    return joined(pool, [(np.arange(len(pool)), first), (rest_n, second)])
