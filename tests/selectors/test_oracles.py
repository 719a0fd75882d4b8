"""Oracles: exact budgets, as even over known tasks or skills as can be, and of a smaller budget a part of the same choice."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from liit.selectors.budgets import uniform
from liit.selectors.catalog import get
from liit.selectors.kinds import effective
from liit.selectors.protocol import Pool, Strategy, chosen, in_order
from liit.selectors.schedule import within

Make = Callable[[int], Pool]
BUDGETS = (0, 1, 7, 90, 333, 5000)


def counted(pool: Pool, name: str, budget: int, seed: int = 0) -> np.ndarray:
    """(K,) how many of each task are chosen."""
    made = get(name).choose(pool, budget, seed, 2, {})
    return np.bincount(pool.tasks()[made.index_n], minlength=len(known_skills(pool)))


def known_skills(pool: Pool) -> np.ndarray:
    assert pool.skills_K is not None
    return pool.skills_K


def even(found: np.ndarray, sizes: np.ndarray, budget: int) -> bool:
    """Whether budgets are those of water-filling, whichever groups have the remainder."""
    return bool((found <= sizes).all()) and sorted(found.tolist()) == sorted(uniform(sizes, budget).tolist())


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_task_has_as_many_as_the_others_or_all_that_it_has(budget: int, pool_of: Make) -> None:
    pool = pool_of(700)
    sizes = np.bincount(pool.tasks(), minlength=len(known_skills(pool)))
    assert even(counted(pool, "oracle-tasks", budget), sizes, budget)


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_skill_has_as_many_as_the_others_and_within_it_every_task(budget: int, pool_of: Make) -> None:
    pool = pool_of(700)
    skill_K = known_skills(pool)
    sizes = np.bincount(pool.tasks(), minlength=len(skill_K))
    found = counted(pool, "oracle-skills", budget)
    by_skill, has = (np.bincount(skill_K, of).astype(int) for of in (found, sizes))
    assert even(by_skill, has, budget)
    for skill in np.unique(skill_K):
        mine = skill_K == skill
        assert even(found[mine], sizes[mine], int(by_skill[skill]))


def test_no_choice_of_as_many_samples_is_of_more_kinds() -> None:
    tasks = np.array([0, 0, 0, 0, 0, 1, 1, 2, 3, 0], np.int32)
    pool = Pool(np.arange(10, dtype=np.uint64), np.zeros(10, np.int32), tasks_N=tasks)
    for budget in range(1, 11):
        best = max(effective(np.bincount(tasks[list(rows)])) for rows in combinations(range(10), budget))
        made = get("oracle-tasks").choose(pool, budget, 3, 0, {})
        assert effective(np.bincount(tasks[made.index_n])) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_a_skewed_pool_is_chosen_from_more_evenly_than_by_chance(seed: int, pool_of: Make) -> None:
    pool = pool_of(2000)
    chance, tasks = (effective(counted(pool, name, 100, seed)) for name in ("random", "oracle-tasks"))
    assert tasks > chance + 2
    skill_K = known_skills(pool)
    by_skill = [effective(np.bincount(skill_K, counted(pool, name, 100, seed))) for name in ("random", "oracle-skills")]
    assert by_skill[1] == pytest.approx(len(np.unique(skill_K)), abs=0.01)
    assert by_skill[1] > by_skill[0]


@pytest.mark.parametrize("name", ["oracle-tasks", "oracle-skills"])
def test_a_smaller_budget_is_the_first_of_a_larger_one_so_tokens_are_spent_as_evenly(name: str, pool_of: Make) -> None:
    pool = pool_of(600)
    large = get(name).choose(pool, 200, 0, 2, {})
    in_turn = large.index_n[in_order(large, pool.keys_N[large.index_n])]
    for budget in (0, 1, 13, 77, 199):
        assert set(get(name).choose(pool, budget, 0, 2, {}).index_n) == set(in_turn[:budget])
    cost = 10 + pool.keys_N % np.uint64(7)
    paid = within(900, cost, lambda count: get(name).choose(pool, count, 0, 2, {}), pool.keys_N)
    same = get(name).choose(pool, len(paid.index_n), 0, 2, {})
    assert 900 - 16 <= cost[paid.index_n].sum() <= 900
    assert paid.index_n.tolist() == same.index_n.tolist()


@pytest.mark.parametrize("name", ["oracle-tasks", "oracle-skills"])
def test_what_tasks_are_numbered_by_changes_nothing(name: str, pool_of: Make) -> None:
    pool, skill_K = pool_of(500), known_skills(pool_of(500))
    other = np.random.default_rng(0).permutation(len(skill_K))
    skills = np.empty_like(skill_K)
    skills[other] = 10 - skill_K
    turned = replace(pool, tasks_N=other[pool.tasks()].astype(np.int32), skills_K=skills)
    for budget in (1, 50, 120):
        own, numbered = (get(name).choose(of, budget, 0, 2, {}).index_n.tolist() for of in (pool, turned))
        assert own == numbered


def test_within_a_task_chance_decides(pool_of: Make) -> None:
    pool = pool_of(2000)
    first, other, later = (
        set(get("oracle-tasks").choose(pool, 100, seed, t, {}).index_n) for seed, t in ((0, 1), (1, 1), (0, 2))
    )
    assert first != other
    assert first != later
    assert set(get("oracle-tasks").choose(pool, 5, 0, 2, {}).scorer_n) == {None}


def test_what_an_oracle_cannot_choose_by_is_refused(pool_of: Make) -> None:
    pool = pool_of(40)
    with pytest.raises(ValueError, match="the pool has no known tasks"):
        chosen(get("oracle-tasks"), replace(pool, tasks_N=None), 5, 0, 1, {})
    with pytest.raises(ValueError, match="the pool has no known skills"):
        chosen(get("oracle-skills"), replace(pool, skills_K=None), 5, 0, 1, {})
    with pytest.raises(ValueError, match="'tasks' has 39 rows for 40 keys"):
        replace(pool, tasks_N=pool.tasks()[1:])
    with pytest.raises(ValueError, match=r"unknown strategy options \['inside'\]"):
        get("oracle-tasks").choose(pool, 5, 0, 1, {"inside": "ccs"})
    with pytest.raises(ValueError, match="`skills` are of tasks; declare `tasks` too"):
        Strategy("mine", get("oracle-skills").choose, skills=True)
