"""Hash priorities: the one source of chance in every selector.

"The b items with the smallest hash" is a uniform sample that depends on the set of keys and the salt alone: not on row
order, partitions or workers, and samples of the parts merge into the sample of the whole.

Shapes: N samples, G groups, n chosen samples.
"""

from hashlib import blake2b
from operator import index

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Indices = NDArray[np.int64]


def priority(keys_N: Keys, *salt: int | str) -> Keys:
    """Uniform 64-bit priority of each key under a salt; distinct keys never tie, since every step is a bijection.

    Raises:
        ValueError: the keys are not uint64.
    """
    keys_N = np.asarray(keys_N)
    if keys_N.dtype != np.uint64:
        raise ValueError(f"keys are {keys_N.dtype}; pass uint64 keys, as ingest makes them from the sample ids")
    named = repr(tuple(part if isinstance(part, str) else index(part) for part in salt))
    salted = np.frombuffer(blake2b(named.encode(), digest_size=8).digest(), dtype="<u8")
    return _mixed(_mixed(keys_N) ^ salted)


def smallest(keys_N: Keys, count: int, *salt: int | str) -> Indices:
    """Positions of the `count` keys of smallest priority (all when there are fewer), ascending.

    Raises:
        ValueError: `count` is negative.
    """
    if count < 0:
        raise ValueError(f"cannot choose {count} samples; pass a budget of 0 or more")
    if count >= len(keys_N):
        return np.arange(len(keys_N))
    if count == 0:
        return np.empty(0, np.int64)
    return np.sort(np.argpartition(priority(keys_N, *salt), count - 1)[:count])


def smallest_of_each(
    keys_N: Keys, group_N: NDArray[np.integer], budget_G: NDArray[np.integer], *salt: int | str
) -> Indices:
    """Positions of the `budget_G[g]` keys of smallest priority in every group g, ascending."""
    return first_of_each(np.lexsort((priority(keys_N, *salt), group_N)), group_N, budget_G)


def first_of_each(order_N: Indices, group_N: NDArray[np.integer], budget_G: NDArray[np.integer]) -> Indices:
    """Positions of the first `budget_G[g]` of every group g, ascending, in an order sorted by group before all else."""
    group_N = np.asarray(group_N)[order_N]
    size_G = np.bincount(group_N, minlength=len(budget_G))
    rank_N = np.arange(len(order_N)) - (np.cumsum(size_G) - size_G)[group_N]
    return np.sort(order_N[rank_N < np.asarray(budget_G)[group_N]])


def turns(group_N: NDArray[np.integer], keys_N: Keys, *salt: int | str) -> Indices:
    """(N,) which of its group each is by priority, from 0: in this order groups take turns."""
    order_N = np.lexsort((priority(keys_N, *salt), group_N))
    sorted_N = np.asarray(group_N)[order_N]
    first_N = np.ones(len(order_N), bool)
    first_N[1:] = sorted_N[1:] != sorted_N[:-1]
    place_N = np.arange(len(order_N))
    turn_N = np.empty(len(order_N), np.int64)
    turn_N[order_N] = place_N - np.maximum.accumulate(np.where(first_N, place_N, 0))
    return turn_N


def _mixed(x_N: Keys) -> Keys:
    """The output function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    x_N = x_N + np.uint64(0x9E3779B97F4A7C15)
    x_N = (x_N ^ (x_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_N = (x_N ^ (x_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x_N ^ (x_N >> np.uint64(31))
