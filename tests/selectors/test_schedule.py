from itertools import pairwise

import numpy as np
import pytest

from liit.selectors.budgets import uniform
from liit.selectors.schedule import affordable, allowance, constant, fair_order, lifetime

CHANCE = np.random.default_rng(0)
POOLS = [10**6] * 6


def test_the_papers_budget_is_constant_where_the_pool_allows() -> None:
    assert constant([665_000, 10, 2_765_000], 25_000) == [25_000, 10, 25_000]


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("total", [0, 1, 5, 1000, 123_457])
def test_a_lifetime_spends_its_total_in_shares_that_fall_by_the_decay(decay: float, total: int) -> None:
    budgets = lifetime(POOLS, total, decay)
    assert sum(budgets) == total
    assert all(later <= earlier for earlier, later in pairwise(budgets))
    shares = total * decay ** np.arange(6) / (decay ** np.arange(6)).sum()
    assert np.abs(np.array(budgets) - shares).max() <= 3, "more than the rounding of the timesteps before"


@pytest.mark.parametrize("decay", [0.3, 0.8, 1.0])
def test_more_to_spend_is_less_for_none_and_never_beyond_a_pool_or_the_total(decay: float) -> None:
    for _ in range(20):
        pools = CHANCE.integers(0, 60, size=5).tolist()
        before = [0] * 5
        for total in range(sum(pools) + 5):
            budgets = lifetime(pools, total, decay)
            assert sum(budgets) <= total
            assert all(b <= pool for b, pool in zip(budgets, pools, strict=True))
            assert all(b >= a for a, b in zip(before, budgets, strict=True))
            before = budgets


def test_what_a_small_pool_leaves_goes_to_the_timesteps_after_it() -> None:
    assert lifetime([100, 4, 100, 100], 100) == [25, 4, 36, 35]


@pytest.mark.parametrize("decay", [0.1, 0.6, 0.99])
def test_a_lifetime_without_end_never_overspends(decay: float) -> None:
    left, spent = 1000, []
    for _ in range(5000):
        spent.append(allowance(10**6, left, steps=None, decay=decay))
        left -= spent[-1]
    assert left == 0
    assert spent[0] == pytest.approx(1000 * (1 - decay), abs=1)
    assert all(later <= earlier for earlier, later in pairwise(spent))


def test_unusable_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="decay is 1 over endless timesteps"):
        allowance(5, 5, steps=None, decay=1)
    with pytest.raises(ValueError, match=r"decay is 1\.5 over 3"):
        allowance(5, 5, steps=3, decay=1.5)
    with pytest.raises(ValueError, match="cannot share -1 over 2 timesteps"):
        lifetime([4, 4], -1)


def test_the_order_is_bought_from_its_beginning_as_far_as_the_money_goes() -> None:
    order, cost = CHANCE.permutation(50), CHANCE.integers(0, 9, size=50)
    for budget in range(int(cost.sum()) + 3):
        bought = affordable(order, cost, budget)
        assert bought.tolist() == order[: len(bought)].tolist()
        assert cost[bought].sum() <= budget
        assert len(bought) == 50 or cost[order[: len(bought) + 1]].sum() > budget


def naive_fair_order(order: np.ndarray, cost: np.ndarray, labels: np.ndarray) -> list[int]:
    """The cluster that has cost least so far is next."""
    waiting = {k: [i for i in order if labels[i] == k] for k in np.unique(labels)}
    total = {k: cost[members].sum() for k, members in waiting.items()}
    spent, merged = dict.fromkeys(waiting, 0), []
    while any(waiting.values()):
        k = min((k for k in waiting if waiting[k]), key=lambda k: (spent[k], -total[k], k))
        merged.append(waiting[k].pop(0))
        spent[k] += cost[merged[-1]]
    return merged


@pytest.mark.parametrize("size", [0, 1, 60])
def test_clusters_are_interleaved_by_what_they_have_cost(size: int) -> None:
    labels, cost = 2 * CHANCE.integers(4, size=size), CHANCE.integers(0, 6, size=size)
    order = CHANCE.permutation(size)
    assert fair_order(order, cost, labels).tolist() == naive_fair_order(order, cost, labels)


def test_with_equal_costs_it_is_the_uniform_budget() -> None:
    labels = CHANCE.integers(6, size=200) ** 2
    order = fair_order(CHANCE.permutation(200), np.full(200, 7), labels)
    for budget in range(202):
        bought = affordable(order, np.full(200, 7), 7 * budget + 3)
        expected = uniform(np.bincount(labels), budget)
        assert np.bincount(labels[bought], minlength=26).tolist() == expected.tolist()


def test_no_unexhausted_cluster_is_more_than_a_sample_behind() -> None:
    labels, cost = CHANCE.integers(5, size=300), CHANCE.integers(1, 100, size=300)
    order = fair_order(CHANCE.permutation(300), cost, labels)
    for budget in range(0, int(cost.sum()), 97):
        bought = affordable(order, cost, budget)
        spent, whole = (np.bincount(labels[i], weights=cost[i], minlength=5) for i in (bought, order))
        open_clusters = spent < whole
        assert spent.max() - spent[open_clusters].min() <= cost.max()


def test_unusable_costs_are_refused() -> None:
    with pytest.raises(ValueError, match="the cost of sample 1 is nan"):
        affordable(np.arange(2), np.array([1, np.nan]), 5)
    with pytest.raises(ValueError, match=r"the cost of sample 0 is -1\.0"):
        fair_order(np.arange(2), np.array([-1, 2]), np.zeros(2, int))
    with pytest.raises(ValueError, match="cannot spend nan"):
        affordable(np.arange(2), np.ones(2), float("nan"))
