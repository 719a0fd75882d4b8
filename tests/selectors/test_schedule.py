from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from liit.selectors.catalog import get
from liit.selectors.insisting import indexed
from liit.selectors.parts import part
from liit.selectors.protocol import Choice, Pool, in_order
from liit.selectors.schedule import allowance, lifetime, within

CHANCE = np.random.default_rng(0)
POOLS = [10**6] * 6


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


@pytest.mark.parametrize("name", ["random", "adapt-inf", "entropy", "semdedup", "density", "random-clusters-ccs"])
def test_a_strategy_is_asked_once_and_spends_all_but_what_buys_no_sample(
    name: str, pool_of: Callable[[int], Pool]
) -> None:
    pool = pool_of(300)
    cost = CHANCE.integers(1, 90, size=300)
    turned = CHANCE.permutation(300)
    asked = []

    def bought(limit: float, of: Pool, cost: np.ndarray) -> np.ndarray:
        def choose(count: int) -> Choice:
            asked.append(count)
            return get(name).choose(of, count, 0, 1, {})

        return within(limit, cost, choose, of.keys_N).index_n

    for limit in (0, 40, 1000, 5000, int(cost.sum()), 10**9):
        asked.clear()
        own = bought(limit, pool, cost)
        assert len(asked) == 1
        assert cost[own].sum() <= limit
        assert len(own) == 300 or cost[own].sum() > limit - 90
        other = bought(limit, part(pool, turned, indexed), cost[turned])
        assert set(pool.keys_N[turned][other]) == set(pool.keys_N[own])


@pytest.mark.parametrize("name", ["random", "entropy", "perplexity", "similar-gradients"])
def test_the_first_of_a_larger_choice_are_what_a_smaller_budget_chooses(
    name: str, pool_of: Callable[[int], Pool]
) -> None:
    pool = pool_of(300)
    larger = get(name).choose(pool, 120, 0, 1, {})
    smaller = get(name).choose(pool, 60, 0, 1, {})
    first = larger.index_n[in_order(larger, pool.keys_N[larger.index_n])[:60]]
    assert set(first) == set(smaller.index_n)


def test_unusable_costs_are_refused(pool_of: Callable[[int], Pool]) -> None:
    pool = pool_of(2)

    def choose(count: int) -> Choice:
        return get("random").choose(pool, count, 0, 1, {})

    with pytest.raises(ValueError, match="the cost of sample 1 is nan"):
        within(5, np.array([1, np.nan]), choose, pool.keys_N)
    with pytest.raises(ValueError, match=r"the cost of sample 0 is -1\.0"):
        within(5, np.array([-1, 2]), choose, pool.keys_N)
    with pytest.raises(ValueError, match="cannot spend nan"):
        within(float("nan"), np.ones(2), choose, pool.keys_N)
