"""OASIS: informative beside what was seen before, and not the same twice; the budget sets the threshold."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from liit.selectors.catalog import get
from liit.selectors.oasis import margins, moving, settled_margins
from liit.selectors.protocol import Pool

Make = Callable[[int], Pool]


def naive(norms: list[float], cosines: np.ndarray, chances: list[float], threshold: float) -> list[bool]:
    """One batch, whose own mean and deviation it is compared with: the most informative is drawn for, then the others lose."""
    center, width = float(np.mean(norms)), float(np.std(norms))
    left, taken = list(norms), [False] * len(norms)
    for _ in norms:
        at = max((i for i in range(len(left)) if not math.isnan(left[i])), key=lambda i: left[i])
        probability = 1 / (1 + math.exp(-((left[at] - center) / width - threshold)))
        taken[at] = chances[at] < probability
        left = [one * (1 - max(cosines[i, at], 0)) if taken[at] else one for i, one in enumerate(left)]
        left[at] = math.nan
    return taken


@pytest.mark.parametrize("threshold", [-2.0, 0.0, 1.5])
def test_margins_are_those_of_the_loop_over_a_batch(threshold: float) -> None:
    chance = np.random.default_rng(0)
    norms, rows = chance.gamma(2, size=12), chance.normal(size=(12, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    chances = chance.random(12)
    cosines = (rows @ rows.T).astype(np.float32)
    center, width = moving(norms, 12, 0.9)
    logits = np.log(chances / (1 - chances))
    found = margins(norms, cosines[None], logits, center, width, threshold) > 0
    assert found.tolist() == naive(norms.tolist(), cosines, chances.tolist(), threshold)


def test_a_batch_is_compared_with_those_before_it() -> None:
    norms = np.concatenate([np.full(4, 1.0), [3, 5], np.full(2, 9.0)])
    center, width = moving(norms, 2, 0.5)
    assert center.tolist() == [1, 1, 1, 2.5]
    assert width[0] == 1, "of no deviation at all"
    assert width[3] ** 2 == pytest.approx(0.5 * 0 + 0.5 * ((3 - 1) ** 2 + (5 - 1) ** 2) / 2)


def test_copies_of_what_was_taken_are_not_taken() -> None:
    norms = np.array([3.0, 3.0, 3.0, 1.0, 1.1, 1.2])
    rows = np.eye(5)[[0, 0, 0, 1, 2, 3]]
    margin = settled_margins(norms, (rows @ rows.T).astype(np.float32)[None], np.zeros(6), 4, 6, 0.9)
    taken = np.flatnonzero(margin > 0)
    assert set(taken) == {0, 3, 4, 5}, "a copy has nothing left, whatever it had"


def test_the_budget_is_met_by_the_newest_alone_and_what_has_no_score_comes_last(pool_of: Make) -> None:
    pool = pool_of(900)
    new = np.flatnonzero(pool.arrival_N == 2)
    norms = pool.scores["grad_norm"].copy()
    norms[new[:10]] = np.nan
    own = replace(pool, scores={"grad_norm": norms})
    for budget in (0, 1, 77, len(new) - 3, 5000):
        made = get("oasis").choose(own, budget, 0, 2, {"batch": 16})
        assert len(made.index_n) == min(budget, len(new))
        assert set(made.index_n) <= set(new)
        missing = sum(scorer is None for scorer in made.scorer_n)
        assert missing == max(0, min(budget, len(new)) - (len(new) - 10))
    some = get("oasis").choose(own, 77, 0, 2, {"batch": 16})
    known = norms[new][np.isfinite(norms[new])]
    assert norms[some.index_n].mean() > known.mean() + 0.3
    for options in ({"batch": 0}, {"decay": 1}):
        with pytest.raises(ValueError, match="pass a number of samples and a share below 1"):
            get("oasis").choose(own, 5, 0, 2, options)
