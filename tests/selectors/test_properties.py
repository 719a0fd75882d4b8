"""Laws held against adversarial inputs: ties, infinities, missing values, empty clusters, budgets of nothing and too much.

Examples are derived from the test itself, so that a run never depends on the one before it.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from liit.selectors.budgets import project_box_simplex, proportional, rounded, uniform
from liit.selectors.coincide import flowing
from liit.selectors.coverage import ccs
from liit.selectors.density import density_budgets
from liit.selectors.multiway import NO_ENTROPY, choose_scores, score_entropy
from liit.selectors.ranking import DIRECTIONS, ranked

laws = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture
    ],  # the one that makes numpy's errors raise holds no state
)
sizes_of_clusters = st.lists(st.one_of(st.just(0), st.integers(0, 6), st.integers(0, 10**6)), min_size=1, max_size=12)
nasty = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0 + 2**-23, 1e-45, -3.4e38, 3.4e38]),
    st.floats(width=32),
)
columns = st.lists(nasty, max_size=250).map(lambda values: np.array(values, np.float32))
budgets = st.one_of(st.integers(0, 5), st.integers(0, 300), st.just(10**9))


def keys(size: int) -> np.ndarray:
    return np.random.default_rng(size).permutation(3 * size)[:size].astype(np.uint64)


def shares(mode: str, sizes: np.ndarray, weights: np.ndarray, total: int) -> np.ndarray:
    match mode:
        case "uniform":
            return uniform(sizes, total)
        case "proportional":
            return proportional(weights, sizes, total)
        case "flowing":
            return flowing(np.log(np.maximum(weights, 1e-300)), sizes, total)
    centroids = np.random.default_rng(0).normal(size=(len(sizes), 4))
    centroids *= (weights / weights.max(initial=1e-300) / np.linalg.norm(centroids, axis=1))[:, None]
    return density_budgets(centroids, sizes, total, minimum=2, temperature=0.01)


@pytest.mark.parametrize("mode", ["uniform", "proportional", "flowing", "density"])
@laws
@given(data=st.data(), sizes=sizes_of_clusters, total=st.one_of(budgets, st.integers(0, 10**7)))
def test_every_budget_is_exact_and_within_the_clusters(mode: str, data: Any, sizes: list[int], total: int) -> None:
    weight = st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-300, 1e300))
    weights = np.array(data.draw(st.lists(weight, min_size=len(sizes), max_size=len(sizes))))
    budget = shares(mode, np.array(sizes), weights, total)
    assert budget.sum() == min(total, sum(sizes))
    assert (budget >= 0).all()
    assert (budget <= sizes).all()


@laws
@given(sizes=sizes_of_clusters, total=st.integers(0, 10**6), more=st.integers(0, 100))
def test_a_larger_total_takes_from_no_cluster(sizes: list[int], total: int, more: int) -> None:
    weights = np.arange(len(sizes)) % 3 * 1.0
    for mode in ("uniform", "proportional"):
        small, large = (shares(mode, np.array(sizes), weights, t) for t in (total, total + more))
        assert (small <= large).all()


@laws
@given(
    boxes=st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9),
    place=st.floats(0, 1),
)
def test_projections_and_their_rounding_stay_in_the_box(boxes: list[tuple[float, int, int]], place: float) -> None:
    target, lower, room = (np.array(column, float) for column in zip(*boxes, strict=True))
    total = round(lower.sum() + place * room.sum())
    found = project_box_simplex(target, lower, lower + room, total)
    assert found.sum() == pytest.approx(total, abs=1e-6)
    whole = rounded(found)
    assert whole.sum() == total
    assert (whole >= lower).all()
    assert (whole <= lower + room).all()


@laws
@given(scores=columns, budget=budgets, bins=st.integers(1, 60), trim=st.sampled_from([0.0, 0.05, 0.3, 0.49]))
def test_ccs_is_exact_and_takes_the_unscored_last(scores: np.ndarray, budget: int, bins: int, trim: float) -> None:
    index, stratum = ccs(scores, keys(len(scores)), budget, bins=bins, trim=trim, seed=0)
    scored = np.isfinite(scores)
    assert len(np.unique(index)) == len(index) == min(budget, len(scores))
    assert scored[index].sum() == min(budget, scored.sum())
    assert ((stratum == -1) == ~scored[index]).all()
    assert (stratum < bins).all()


@laws
@given(scores=columns, budget=budgets, direction=st.sampled_from(DIRECTIONS))
def test_rankings_leave_nothing_better_out(scores: np.ndarray, budget: int, direction: str) -> None:
    chosen = ranked(scores, keys(len(scores)), budget, direction=direction, seed=0, timestep=0)
    assert len(np.unique(chosen)) == len(chosen) == min(budget, len(scores))
    left = np.setdiff1d(np.arange(len(scores)), chosen)
    inside, outside = (scores[i][np.isfinite(scores[i])] for i in (chosen, left))
    if direction != "middle" and len(inside) and len(outside):
        assert inside.min() >= outside.max() if direction == "highest" else inside.max() <= outside.min()


@laws
@given(data=st.data(), size=st.integers(0, 120), empty=st.integers(0, 3))
def test_no_cluster_is_scored_by_what_is_constant_or_missing_in_it(data: Any, size: int, empty: int) -> None:
    column = st.one_of(
        st.lists(nasty, min_size=size, max_size=size), nasty.map(lambda value: [value] * size), st.just([np.nan] * size)
    )
    scores = np.array(data.draw(st.lists(column, min_size=1, max_size=4)), np.float32).T
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)), int)
    chosen = choose_scores(list(scores.T), labels, 4 + empty, min_size=30)
    assert (chosen[4:] == -1).all()
    for k in range(4):
        own = scores[labels == k].T
        known = [len(values) > 0 and np.isfinite(values).mean() >= 0.95 for values in own]
        entropies = [score_entropy(v) if ok else NO_ENTROPY for v, ok in zip(own, known, strict=True)]
        assert (chosen[k] == -1) == (max(entropies) == NO_ENTROPY)
        assert chosen[k] == -1 or entropies[chosen[k]] > NO_ENTROPY
