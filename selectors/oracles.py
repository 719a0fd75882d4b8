"""What balance alone can give, for analysis only: even budgets over the known tasks of the pool, or over what these ask for.

An oracle looks at labels that no method may look at. It bounds what a method without them can gain by being even, and says
nothing of which samples of a task are worth more: those are drawn by hash.

Shapes: N samples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Indices, priority
from liit.selectors.protocol import Choice, Options, Pool, choice, settled


def oracle_tasks(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Tasks take turns, each with its sample of smallest hash that is left; no options."""
    settled(options)
    return _in_turns(pool, budget, [pool.tasks()], seed, timestep)


def oracle_skills(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Skills take turns, and in each its tasks; no options."""
    settled(options)
    return _in_turns(pool, budget, [pool.tasks(), pool.skills()], seed, timestep)


def _in_turns(pool: Pool, budget: int, levels: Sequence[NDArray[np.int32]], seed: int, timestep: int) -> Choice:
    """The first `budget` samples when the groups of each level take turns, the coarsest last: so every group has as many as the
    others of its level and of its group above, or all that it has, to one sample; and of a smaller budget the first of these.
    """
    order_N = np.argsort(priority(pool.keys_N, "oracle", seed, timestep))
    for group_N in levels:
        order_N = order_N[np.argsort(_before(group_N[order_N]), kind="stable")]
    first_n = order_N[:budget]
    return choice(pool, first_n, rank_n=np.arange(len(first_n)))


def _before(group_N: NDArray[np.int32]) -> Indices:
    """(N,) how many of its own group stand before each."""
    by_group = np.argsort(group_N, kind="stable")
    sorted_N = group_N[by_group]
    before_N = np.empty(len(group_N), np.int64)
    before_N[by_group] = np.arange(len(group_N)) - np.searchsorted(sorted_N, sorted_N)
    return before_N
