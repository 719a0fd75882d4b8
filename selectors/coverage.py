"""Coverage-centric coreset selection (CCS; Zheng et al., ICLR 2023, as Adapt-∞ section 4.2 uses it).

The score's range is cut into strata of equal width, and every stratum gives as evenly as it can: easy and hard
samples are covered alike, however many there are of each. Chance is a hash of the keys, so the choice is reproducible
and exact.

Shapes: N samples, n chosen samples.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.budgets import uniform
from liit.selectors.priority import Indices, Keys, priority, smallest, smallest_of_each, turns
from liit.selectors.strata import strata, trimmed_range

FEW = 200  # samples below which no extremes are cut off


def ccs(
    scores_N: NDArray[np.floating],
    keys_N: Keys,
    budget: int,
    *,
    bins: int = 50,
    trim: float = 0.05,
    seed: int,
    timestep: int = 0,
) -> tuple[Indices, NDArray[np.int32]]:
    """Choose exactly min(budget, N) samples over the whole range of a score.

    The `trim` lowest and highest are left out, unless there are fewer than 200 scored samples or the budget needs them.
    Samples without a finite score are chosen only when nothing else is left.

    Returns:
        positions, ascending, and the stratum of each: 0..bins-1, or -1 where it has no score.

    Raises:
        ValueError: the budget is negative, there are no bins, or the lengths differ.
    """
    if budget < 0 or bins < 1 or len(scores_N) != len(keys_N):
        raise ValueError(
            f"cannot choose {budget} of {len(keys_N)} keys with {len(scores_N)} scores in {bins} bins; "
            "pass a budget of 0 or more, one score a key and at least one bin"
        )
    scored = np.flatnonzero(np.isfinite(scores_N))
    chosen, stratum = _covering(scores_N[scored], keys_N[scored], min(budget, len(scored)), bins, trim, seed, timestep)
    unscored = np.flatnonzero(~np.isfinite(scores_N))
    unscored = unscored[smallest(keys_N[unscored], budget - len(chosen), "ccs", seed, timestep)]
    index_n = np.concatenate([scored[chosen], unscored])
    stratum_n = np.concatenate([stratum, np.full(len(unscored), -1)]).astype(np.int32)
    order = np.argsort(index_n)
    return index_n[order], stratum_n[order]


def added(stratum_n: NDArray[np.integer], keys_n: Keys, seed: int, timestep: int) -> Indices:
    """(n,) which sample of a choice is added at which place, from 0: strata take turns, what has no score comes last."""
    turn_n = turns(stratum_n, keys_n, "ccs", seed, timestep)
    order_n = np.lexsort((priority(keys_n, "turns", seed, timestep), turn_n, stratum_n < 0))
    place_n = np.empty(len(order_n), np.int64)
    place_n[order_n] = np.arange(len(order_n))
    return place_n


def _covering(
    values_N: NDArray[np.floating], keys_N: Keys, budget: int, bins: int, trim: float, seed: int, timestep: int
) -> tuple[Indices, NDArray[np.int64]]:
    if not budget:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    low, high = trimmed_range(values_N, trim if len(values_N) >= FEW else 0.0)
    inside = np.flatnonzero((values_N >= low) & (values_N <= high))
    if len(inside) < budget:
        low, high = trimmed_range(values_N, 0.0)
        inside = np.arange(len(values_N))
    stratum_N = strata(values_N[inside], low, high, bins)
    budget_B = _even(np.bincount(stratum_N, minlength=bins), budget, seed, timestep)
    chosen = smallest_of_each(keys_N[inside], stratum_N, budget_B, "ccs", seed, timestep)
    return inside[chosen], stratum_N[chosen]


def _even(sizes_B: NDArray[np.int64], budget: int, seed: int, timestep: int) -> NDArray[np.int64]:
    """Uniform budgets; strata of equal size draw for the remainder, which would else always go to the low scores."""
    drawn = np.argsort(priority(np.arange(len(sizes_B), dtype=np.uint64), "strata", seed, timestep))
    budget_B = np.empty_like(sizes_B)
    budget_B[drawn] = uniform(sizes_B[drawn], budget)
    return budget_B
