"""What a team insists on, around any strategy: samples that are always or never chosen, and bounds for groups of samples.

The strategy chooses among the other samples. Of a group of which it takes too many or too few, it is asked for what the bound
says, and of the rest of the pool for the rest of the budget: which bounds those are is found as Bitran and Hax (Management
Science 27(4), 1981) do for convex knapsacks. Where no bound binds, the choice is the strategy's own.

Shapes: N samples, G groups, n chosen samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil, floor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from liit.selectors.budgets import Counts, proportional
from liit.selectors.parts import joined, part
from liit.selectors.priority import Indices, smallest
from liit.selectors.protocol import Choice, Pool, because

ALWAYS = "always"
"""The reason of a sample that is always chosen."""
Taken = Callable[[NDArray[Any], Indices], NDArray[Any]]
Choose = Callable[[Pool, int], Choice]


def indexed(vectors_NP: NDArray[Any], rows_n: Indices) -> NDArray[Any]:
    """Rows of vectors, copied into memory."""
    return vectors_NP[rows_n]


@dataclass(frozen=True)
class Wishes:
    """What is insisted on of each sample of a pool, and of each group: shares of the chosen samples, exact.

    A bound holds to the whole sample, as quotas do in apportionment: `least` is rounded down, `most` up. So leasts that sum to 1
    can hold together, whatever the budget.

    Raises:
        ValueError: a sample is both, or leasts sum to more than 1.
    """

    always_N: NDArray[np.bool_]
    never_N: NDArray[np.bool_]
    group_N: NDArray[np.int64]
    least_G: tuple[Fraction, ...]
    most_G: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        if (self.always_N & self.never_N).any():
            raise ValueError(f"{(self.always_N & self.never_N).sum()} samples are always and never chosen; decide")
        if sum(self.least_G) > 1:
            raise ValueError(f"least shares sum to {float(sum(self.least_G)):g}; they are shares of one budget")

    def bounds(self, count: int) -> tuple[Counts, Counts]:
        """(G,) the fewest and the most of `count` chosen samples that each group may have."""
        least_G = np.array([floor(share * count) for share in self.least_G], np.int64)
        return least_G, np.array([ceil(share * count) for share in self.most_G], np.int64)

    def counted(self, among_N: NDArray[np.bool_]) -> Counts:
        """(G,) how many samples of a mask each group has."""
        return np.bincount(self.group_N[among_N], minlength=len(self.least_G))


@dataclass(frozen=True)
class Broken:
    """A bound that a choice does not hold, since others left no way to."""

    group: int
    kind: Literal["least", "most"]
    bound: int
    chosen: int
    usable: int  # samples of the group that may be chosen
    always: int  # of these, those that are always chosen


def insisting(
    choose: Choose, pool: Pool, wishes: Wishes, *, whole: bool = False, taken: Taken = indexed
) -> Callable[[int], Choice]:
    """The choice of a number of samples, as a function of that number, by a strategy that is insisted with.

    It has min(number, N) samples, N without those never chosen, if the strategy has as many of a part of the pool. What is
    always chosen counts in the number and in the bounds, and comes first: by hash, where the number is smaller. Then come
    the leasts, in proportion where they do not fit; where the mosts leave room, they are exceeded in proportion.

    Args:
        choose: the strategy's choice of so many samples of a pool.
        whole: the strategy itself says how many; then there are no bounds, and all that is always chosen is.
        taken: rows of vectors, for parts of the pool; where vectors are too many for memory, into a file that is mapped.
    """

    @cache
    def rest() -> tuple[Indices, Pool]:
        rows = np.flatnonzero(~wishes.always_N & ~wishes.never_N)
        return rows, part(pool, rows, taken)

    def chosen(count: int) -> Choice:
        always = np.flatnonzero(wishes.always_N)
        if not whole:
            always = always[smallest(pool.keys_N[always], count, ALWAYS)]
        rows, among = rest()
        if whole:
            own = choose(among, count)
        else:
            left = min(count - len(always), len(rows))
            low_G, high_G = _open(wishes, always, left)
            own = _bounded(choose, among, left, wishes.group_N[rows], low_G, high_G, taken)
        return joined(pool, [(np.arange(len(pool)), because(pool, always, ALWAYS)), (rows, own)])

    return chosen


def broken(choice: Choice, wishes: Wishes) -> list[Broken]:
    """The bounds that a choice does not hold, by group."""
    chosen_G = np.bincount(wishes.group_N[choice.index_n], minlength=len(wishes.least_G))
    usable_G, always_G = wishes.counted(~wishes.never_N), wishes.counted(wishes.always_N)
    least_G, most_G = wishes.bounds(len(choice.index_n))
    found: list[Broken] = []
    for g, (least, most, has) in enumerate(zip(least_G.tolist(), most_G.tolist(), chosen_G.tolist(), strict=True)):
        if not least <= has <= most:
            kind: Literal["least", "most"] = "least" if has < least else "most"
            bound = least if has < least else most
            found.append(Broken(g, kind, bound, has, int(usable_G[g]), int(always_G[g])))
    return found


def _open(wishes: Wishes, always: Indices, left: int) -> tuple[Counts, Counts]:
    """(G,) bounds for the `left` samples beside those that are always chosen, which can hold: low <= high <= size, and the
    sums around `left`."""
    size_G = wishes.counted(~wishes.never_N & ~wishes.always_N)
    had_G = np.bincount(wishes.group_N[always], minlength=len(size_G))
    least_G, most_G = wishes.bounds(len(always) + left)
    low_G, high_G = (np.clip(bound_G - had_G, 0, size_G) for bound_G in (least_G, most_G))
    if low_G.sum() > left:
        low_G = proportional(low_G, low_G, left)
    if (lacking := left - int(high_G.sum())) > 0:
        high_G = high_G + proportional(np.array(wishes.most_G, np.float64), size_G - high_G, lacking)
    return low_G, high_G


def _bounded(
    choose: Choose, pool: Pool, count: int, group_N: NDArray[np.int64], low_G: Counts, high_G: Counts, taken: Taken
) -> Choice:
    """Ask the open groups together; close those beyond their bounds at these, of too many and too few the larger sum, and ask
    again. The bounds of what stays open can hold whenever all could, so at most G rounds are needed."""
    open_G = np.ones(len(low_G), bool)
    parts: list[tuple[Indices, Choice]] = []

    def ask(among_G: NDArray[np.bool_], number: int) -> tuple[Indices, Choice]:
        rows = np.flatnonzero(among_G[group_N])
        return rows, choose(part(pool, rows, taken), number)

    while True:
        rows, made = ask(open_G, count)
        has_G = np.bincount(group_N[rows[made.index_n]], minlength=len(low_G))
        above_G, below_G = (np.where(open_G, np.maximum(by_G, 0), 0) for by_G in (has_G - high_G, low_G - has_G))
        if not (above_G.any() or below_G.any()):
            return joined(pool, [*parts, (rows, made)])
        many = above_G.sum() >= below_G.sum()
        for g in np.flatnonzero(above_G if many else below_G):
            bound = int(high_G[g] if many else low_G[g])
            parts.append(ask(np.arange(len(low_G)) == g, bound))
            open_G[g], count = False, count - bound
