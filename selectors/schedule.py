"""Budgets over a lifetime, and budgets counted in tokens or FLOPs instead of samples.

Adapt-∞ (arXiv 2410.10636) trains on a constant T at every timestep. What it constrains is compute, though, and over a
lifetime that is a total: `allowance` says how much of it a timestep may spend, and `affordable` what that buys.

Shapes: N samples, n samples in an order, K clusters.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Indices


def constant(pools: Sequence[int], budget: int) -> list[int]:
    """min(N, T) at every timestep, for pools of N.

    Raises:
        ValueError: the budget or a pool is negative.
    """
    return [allowance(pool, budget, steps=1) for pool in pools]


def lifetime(pools: Sequence[int], total: int, decay: float = 1.0) -> list[int]:
    """What each timestep may spend of a total when the number of timesteps is known: `allowance`, one after the other.

    Raises:
        ValueError: as `allowance`.
    """
    budgets: list[int] = []
    for t, pool in enumerate(pools):
        budgets.append(allowance(pool, total - sum(budgets), steps=len(pools) - t, decay=decay))
    return budgets


def allowance(pool: int, left: int, *, steps: int | None, decay: float = 1.0) -> int:
    """r(N, T, τ) = min(N, ceil(T / (1 + d + d² + ... + d^(τ-1)))) for a pool of N, T left to spend and τ timesteps to come.

    Where the pools suffice, timestep t gets d^t of what the first got, d = 1 is even; what a small pool leaves goes to
    those that come later. The sum never exceeds the total, the last timestep spends what there is, no timestep gets more
    than the one before (while pools suffice), and more to spend means less for none.

    Args:
        pool, left: in whole samples, tokens or FLOPs, both the same.
        steps: this timestep included; None for a lifetime without end, which needs a decay below 1.

    Raises:
        ValueError: the pool or what is left is negative, no timestep is to come, or the decay is not in (0, 1], or is 1
            without end.
    """
    if pool < 0 or left < 0 or (steps is not None and steps < 1):
        raise ValueError(
            f"cannot share {left} over {steps} timesteps, pool {pool}; pass 0 or more and 1 timestep or more"
        )
    if not 0 < decay <= 1 or (steps is None and decay == 1):
        raise ValueError(
            f"decay is {decay} over {steps or 'endless'} timesteps; pass above 0 and at most 1, endless below 1"
        )
    shares = 1 / (1 - decay) if steps is None else sum(decay**i for i in range(steps))
    return min(pool, left, ceil(left / shares))


def affordable(order_n: Indices, cost_N: NDArray[np.number], budget: float) -> Indices:
    """The first samples of an order, up to the one that would cost more than is left; positions in their order.

    Nothing is skipped for something cheaper behind it, so a larger budget only adds.

    Args:
        order_n: positions, the most wanted first: a strategy's ranking, or `fair_order` over clusters.
        cost_N: cost of every sample in the unit of the budget, exact while the sum is below 2^53.

    Raises:
        ValueError: the budget is negative or a cost is negative or not finite.
    """
    cost_N = _checked(cost_N)
    if not budget >= 0:
        raise ValueError(f"cannot spend {budget}; pass a budget of 0 or more")
    return order_n[: int(np.searchsorted(np.cumsum(cost_N[order_n]), budget, side="right"))]


def fair_order(order_n: Indices, cost_N: NDArray[np.number], labels_N: NDArray[np.integer]) -> Indices:
    """Interleave the clusters of an order so that each of its beginnings costs every cluster alike.

    Next is always the cluster that has cost least so far, equals by total cost, the larger first, then by label; a
    cluster without samples is passed over. Water-filling in units of cost: with `affordable` no two unexhausted clusters
    differ by more than one sample, and where all cost the same the budgets are `budgets.uniform`.

    Raises:
        ValueError: a cost is negative or not finite.
    """
    cost_n, label_n = _checked(cost_N)[order_n], np.asarray(labels_N)[order_n]
    by_label = np.argsort(label_n, kind="stable")
    cost_n, label_n, order_n = cost_n[by_label], label_n[by_label], order_n[by_label]
    total_K = np.bincount(label_n, weights=cost_n)
    starts = np.flatnonzero(np.diff(label_n, prepend=-1))
    before_n = np.cumsum(cost_n) - cost_n
    before_n -= np.repeat(before_n[starts], np.diff(starts, append=len(label_n)))
    return order_n[np.lexsort((np.arange(len(order_n)), label_n, -total_K[label_n], before_n))]


def _checked(cost_N: NDArray[np.number]) -> NDArray[np.float64]:
    costs_N = np.asarray(cost_N, np.float64)
    if not np.isfinite(costs_N).all() or (costs_N < 0).any():
        bad = np.flatnonzero(~(np.isfinite(costs_N) & (costs_N >= 0)))[0]
        raise ValueError(f"the cost of sample {bad} is {costs_N[bad]}; pass a finite cost of 0 or more for each")
    return costs_N
