"""Budgets over groups of clusters, whatever their mass: two-level balanced strata (Vo et al., arXiv 2405.15613).

k-means gives a dense region clusters in proportion to its mass, so even budgets over clusters are not even over what they are
of. Here k₁ fine clusters are made, and their centroids, each once whatever its size, are clustered into k₂ groups. The budget is
shared evenly over groups, a group's over its fine clusters.

Shapes: N samples, F fine clusters, G groups, P dimensions.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from liit.selectors.adapt import PARTS, judged, multiway
from liit.selectors.budgets import uniform
from liit.selectors.clustering import cluster
from liit.selectors.group_budgets import SHARES, group_budgets, shares
from liit.selectors.priority import Keys
from liit.selectors.protocol import Choice, Options, Pool, Strata

MEMBERS = 8  # samples of a fine cluster, at least, on average
MOST = 4000  # fine clusters
OWN = {**SHARES, "inside": "chance", "fine": None, "groups": None}


class TwoLevels(NamedTuple):
    """The fine cluster of each sample, and the group of each fine cluster; neither has an empty one."""

    fine_N: NDArray[np.int32]
    group_F: NDArray[np.int32]

    @property
    def group_N(self) -> NDArray[np.int32]:
        """The group of each sample."""
        return self.group_F[self.fine_N]


def two_level(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Two-level balanced strata of the first vector.

    Options: `fine`, k₁ (None: an eighth of the pool, 4000 at most), `groups`, k₂ (None: a twentieth of k₁); `budgets`, `weight`
    and `floor` of the groups, as `group_budgets` has them; `inside`, how a fine cluster's samples are chosen, by default by
    chance; and of what is not by chance `scores`, `bins`, `trim` and `min_size`, as `adapt_inf` has them, judged in a group.
    """
    parts, (levels, budget_F) = judged(options, **OWN), _shared(pool, budget, seed, timestep, options)
    told = {name: parts[name] for name in PARTS}
    return multiway(pool, levels.fine_N, budget_F, False, seed, timestep, **told, group_K=levels.group_F)


def fine_strata(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Strata:
    """The fine clusters, and what each gives."""
    levels, budget_F = _shared(pool, budget, seed, timestep, options)
    return levels.fine_N, budget_F


def _shared(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> tuple[TwoLevels, NDArray[np.int64]]:
    parts = judged(options, **OWN)
    levels = two_levels(pool.first_vector(), pool.keys_N, parts["fine"], parts["groups"], seed=seed)
    budget_G = group_budgets(pool, levels.group_N, budget, pool.first_vector, timestep, **shares(parts))
    return levels, within(levels, budget_G)


def two_levels(
    vectors_NP: NDArray[np.floating], keys_N: Keys, fine: int | None, groups: int | None, *, seed: int
) -> TwoLevels:
    """k₁ clusters of the rows' directions, and k₂ of their centroids; with as many groups as clusters each is one of its own.

    The set of rows decides, never their order.

    Raises:
        ValueError: a number below 1.
    """
    k1 = max(1, min(len(keys_N) // MEMBERS, MOST)) if fine is None else fine
    k2 = max(1, k1 // 20) if groups is None else groups
    if k1 < 1 or k2 < 1:
        raise ValueError(f"fine is {k1} and groups {k2}; pass at least one of each")
    first = cluster(vectors_NP, keys_N, k_grid=[k1], seed=seed)
    if k2 >= first.k:
        return TwoLevels(first.labels_N, np.arange(first.k, dtype=np.int32))
    second = cluster(first.centroids_KP, np.arange(first.k, dtype=np.uint64), k_grid=[k2], seed=seed)
    return TwoLevels(first.labels_N, second.labels_N)


def budgets(levels: TwoLevels, budget: int) -> NDArray[np.int64]:
    """(F,) what each fine cluster gives: even over groups, and within each over its clusters; min(budget, N) in all."""
    return within(levels, uniform(np.bincount(levels.group_N), budget))


def within(levels: TwoLevels, budget_G: NDArray[np.int64]) -> NDArray[np.int64]:
    """(F,) what each fine cluster gives where each group gives so much: evenly over its clusters."""
    size_F = np.bincount(levels.fine_N, minlength=len(levels.group_F))
    budget_F = np.zeros(len(size_F), np.int64)
    for group, share in enumerate(budget_G.tolist()):
        mine = np.flatnonzero(levels.group_F == group)
        budget_F[mine] = uniform(size_F[mine], share)
    return budget_F
