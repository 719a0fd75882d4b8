"""Clusters matched from timestep to timestep, against every assignment there is."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from liit.selectors.matching import match


def overlap(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_of_overlaps_is_the_largest_of_all_assignments(seed: int) -> None:
    chance = np.random.default_rng(seed)
    before, now = chance.integers(4, size=40), chance.integers(5, size=40)
    old, new = ({int(g): set(np.flatnonzero(of == g)) for g in np.unique(of)} for of in (before, now))
    found = match(before.tolist(), now.tolist(), 0.0)
    assert len(set(found.values())) == len(found)
    best = max(
        sum(overlap(old[o], new[n]) for o, n in zip(old, chosen, strict=True)) for chosen in permutations(new, len(old))
    )
    assert sum(overlap(old[o], new[n]) for n, o in found.items()) == pytest.approx(best)
    order = chance.permutation(40)
    assert match(before[order].tolist(), now[order].tolist(), 0.0) == found
    strict = match(before.tolist(), now.tolist(), 0.15)
    assert strict == {n: o for n, o in found.items() if overlap(old[o], new[n]) >= 0.15}


def test_groups_that_stayed_the_same_keep_their_names_whatever_they_are_called() -> None:
    before = ["a", "a", "b", "c", "c"]
    assert match(before, [7, 7, 3, 0, 0], 1.0) == {7: "a", 3: "b", 0: "c"}
    assert match([], [], 0.5) == {}
    with pytest.raises(ValueError, match="5 groups of before for 1 of now"):
        match(before, [1], 0.5)
