"""Budgets over a lifetime, and budgets counted in tokens or FLOPs instead of samples.

Adapt-∞ (arXiv 2410.10636) trains on a constant T at every timestep. What it constrains is compute, though, and over a
lifetime that is a total: `allowance` says how much of it a timestep may spend, and `within` what that buys.

Shapes: N samples.
"""

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Keys
from liit.selectors.protocol import Choice, in_order, subset


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


def within(limit: float, cost_N: NDArray[np.number], choose: Callable[[int], Choice], keys_N: Keys) -> Choice:
    """What a strategy chooses that costs no more than the limit, and one more sample would cost too much or there is none.

    The strategy is asked once, for more samples than the limit can buy; of these come in those first that it would choose of a
    smaller budget (`Choice.rank_n`), as long as they can be paid. Where it does not say which, they come in by hash, so that
    every cluster and stratum keeps its share.

    Args:
        choose: the strategy's choice of so many samples.

    Raises:
        ValueError: the limit is negative or a cost is negative or not finite.
    """
    cost_N = _checked(limit, cost_N)
    asked = choose(min(_most(limit, cost_N) + 1, len(cost_N)))
    order_n = in_order(asked, keys_N[asked.index_n])
    paid = int(np.searchsorted(np.cumsum(cost_N[asked.index_n[order_n]]), limit, side="right"))
    return subset(asked, np.sort(order_n[:paid]))


def searched(limit: float, cost_N: NDArray[np.number], choose: Callable[[int], Choice]) -> Choice:
    """What is chosen when asked for as many samples as cost no more than the limit: for choices that are bound to shares of their
    number, which a part of a larger choice would not hold.

    Found by bisection over the count, so some twenty choices are made. Raises ValueError as `within` does.
    """
    cost_N, fits = _checked(limit, cost_N), 0
    too_many = _most(limit, cost_N) + 1
    while too_many - fits > 1:
        count = (fits + too_many) // 2
        if cost_N[choose(count).index_n].sum() <= limit:
            fits = count
        else:
            too_many = count
    return choose(fits)


def _most(limit: float, cost_N: NDArray[np.number]) -> int:
    """As many samples as the limit can buy, were they the cheapest."""
    return int(np.searchsorted(np.cumsum(np.sort(cost_N)), limit, side="right"))


def _checked(limit: float, cost_N: NDArray[np.number]) -> NDArray[np.float64]:
    if not limit >= 0:
        raise ValueError(f"cannot spend {limit}; pass a budget of 0 or more")
    costs_N = np.asarray(cost_N, np.float64)
    if not np.isfinite(costs_N).all() or (costs_N < 0).any():
        bad = np.flatnonzero(~(np.isfinite(costs_N) & (costs_N >= 0)))[0]
        raise ValueError(f"the cost of sample {bad} is {costs_N[bad]}; pass a finite cost of 0 or more for each")
    return costs_N
