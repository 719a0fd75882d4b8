"""What is insisted on holds around every strategy, in exact budgets; where nothing binds, the choice is the strategy's own."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liit.selectors.catalog import STRATEGIES, get
from liit.selectors.insisting import Choose, Wishes, broken, insisting
from liit.selectors.protocol import Pool, chosen
from tests.selectors.test_catalog import ORDERS, permuted, told
from tests.selectors.test_properties import laws

Make = Callable[[int], Pool]
BUDGETED = [name for name in STRATEGIES if not (get(name).whole or get(name).newest)]


def strategy(name: str, options: dict[str, Any] | None = None) -> Choose:
    return lambda pool, count: chosen(get(name), pool, count, 7, 2, options or {})


def some(of: Pool, share: float = 0.05, **bounds: dict[int, float]) -> Wishes:
    """A share of the pool always, a share never, bounds for some of four groups; by keys alone."""
    chance = of.keys_N % np.uint64(97) / 97
    return Wishes(
        always_N=chance < share,
        never_N=chance > 1 - 3 * share,
        group_N=(of.keys_N // np.uint64(3) % np.uint64(4)).astype(np.int64),
        least_G=tuple(Fraction(str(bounds.get("least", {}).get(g, 0))) for g in range(4)),
        most_G=tuple(Fraction(str(bounds.get("most", {}).get(g, 1))) for g in range(4)),
    )


@pytest.mark.parametrize("name", BUDGETED)
def test_the_budget_is_exact_and_every_bound_that_can_hold_holds(name: str, pool_of: Make) -> None:
    pool = pool_of(600)
    wishes = some(pool, share=0.02, least={0: 0.55, 1: 0.02}, most={2: 0.1, 3: 0.3})
    for count in (40, 101, 300):
        made = insisting(strategy(name), pool, wishes)(count)
        assert len(np.unique(made.index_n)) == len(made.index_n) == count
        assert (np.diff(pool.keys_N[made.index_n].astype(np.int64)) > 0).all()
        assert set(np.flatnonzero(wishes.always_N)) <= set(made.index_n)
        assert not wishes.never_N[made.index_n].any()
        assert (made.scorer_n == "always").sum() == wishes.always_N.sum()
        if count < 300:  # group 0 has no 165 samples
            assert broken(made, wishes) == []
    few = insisting(strategy(name), pool, wishes)(300)
    assert [(one.group, one.kind, one.chosen == one.usable) for one in broken(few, wishes)] == [(0, "least", True)]
    everything = insisting(strategy(name), pool, wishes)(10**6)
    assert len(everything.index_n) == (~wishes.never_N).sum()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["adapt-inf", "random", "perplexity", "semdedup", "less"])
def test_a_permuted_pool_gives_the_permuted_choice(name: str, order: str, pool_of: Make) -> None:
    def made(of: Pool) -> list[tuple[int, Any, str, int]]:
        wishes = some(of, least={0: 0.5}, most={1: 0.1})
        return told(of, insisting(strategy(name), of, wishes)(120))

    pool = pool_of(600)
    assert made(permuted(pool, ORDERS[order](600))) == made(pool)


@pytest.mark.parametrize("name", STRATEGIES)
def test_where_no_bound_binds_the_choice_is_the_strategys_own(name: str, pool_of: Make) -> None:
    pool, choose = pool_of(500), strategy(name)
    loose = some(pool, share=0, least={0: 0.01, 3: 0.05}, most={1: 0.9})
    for count in (0, 1, 100, 900):
        own = told(pool, choose(pool, count))
        assert told(pool, insisting(choose, pool, loose, whole=get(name).whole)(count)) == own


@pytest.mark.parametrize("name", [name for name in STRATEGIES if get(name).whole])
def test_what_says_itself_how_much_takes_all_that_is_always_and_leaves_out_what_is_never(
    name: str, pool_of: Make
) -> None:
    pool = pool_of(500)
    wishes = some(pool)
    seen = dataclasses.replace(wishes, always_N=np.zeros(500, bool))
    own = set(insisting(strategy(name), pool, seen, whole=True)(3).index_n)
    made = set(insisting(strategy(name), pool, wishes, whole=True)(3).index_n)
    assert set(np.flatnonzero(wishes.always_N)) <= made
    assert not wishes.never_N[sorted(made)].any()
    if name != "random-replay":  # draws its share of what is left
        assert made == own | set(np.flatnonzero(wishes.always_N))


small = st.integers(1, 10).flatmap(
    lambda size: st.fixed_dictionaries(
        {
            "group": st.lists(st.integers(0, 2), min_size=size, max_size=size),
            "role": st.lists(st.sampled_from(["", "", "", "always", "never"]), min_size=size, max_size=size),
            "score": st.permutations(range(size)),
            "count": st.integers(0, size),
            "least": st.lists(st.sampled_from(["0", "0", "0.1", "0.29", "0.33"]), min_size=3, max_size=3),
            "most": st.lists(st.sampled_from(["0.4", "0.5", "0.75", "1", "1"]), min_size=3, max_size=3),
        }
    )
)


def made_of(case: dict[str, Any]) -> tuple[Pool, Wishes]:
    size, role = len(case["group"]), np.array(case["role"])
    keys = np.random.default_rng(size).permutation(50)[:size].astype(np.uint64)
    scores = {"el2n": np.array(case["score"], np.float32)}
    pool = Pool(keys, np.zeros(size, np.int32), scores)
    shares = {f"{kind}_G": tuple(map(Fraction, case[kind])) for kind in ("least", "most")}
    return pool, Wishes(role == "always", role == "never", np.array(case["group"], np.int64), **shares)


def holding(wishes: Wishes, count: int) -> list[tuple[int, ...]]:
    """Every number of samples of each group that holds all bounds, with all that is always chosen."""
    least_G, most_G = wishes.bounds(count)
    must_G, may_G = wishes.counted(wishes.always_N), wishes.counted(~wishes.never_N)
    ranges = [range(max(a, b), min(c, d) + 1) for a, b, c, d in zip(least_G, must_G, most_G, may_G, strict=True)]
    return [numbers for numbers in product(*ranges) if sum(numbers) == count]


@laws
@given(case=small, name=st.sampled_from(["random", "el2n"]))
def test_bounds_hold_exactly_where_some_choice_could_hold_them(case: dict[str, Any], name: str) -> None:
    pool, wishes = made_of(case)
    made = insisting(strategy(name), pool, wishes)(case["count"])
    count = min(case["count"], int((~wishes.never_N).sum()))
    assert len(set(made.index_n)) == len(made.index_n) == count
    assert not wishes.never_N[made.index_n].any()
    assert wishes.always_N[made.index_n].sum() == min(count, wishes.always_N.sum())
    if wishes.always_N.sum() <= count:
        assert (broken(made, wishes) == []) == bool(holding(wishes, count))


@laws
@given(case=small)
def test_of_all_choices_that_hold_the_bounds_a_score_takes_the_best(case: dict[str, Any]) -> None:
    pool, wishes = made_of(case)
    count = min(case["count"], int((~wishes.never_N).sum()))
    numbers = set(holding(wishes, count))
    must = set(np.flatnonzero(wishes.always_N))
    allowed = [
        subset
        for subset in combinations(np.flatnonzero(~wishes.never_N), count)
        if must <= set(subset) and tuple(np.bincount(wishes.group_N[list(subset)], minlength=3)) in numbers
    ]
    if allowed:
        score = pool.score("el2n")
        made = insisting(strategy("el2n"), pool, wishes)(count)
        assert score[made.index_n].sum() == max(score[list(subset)].sum() for subset in allowed)


def test_bounds_are_exact_shares_to_the_whole_sample(pool_of: Make) -> None:
    wishes = some(pool_of(10), least={0: 0.29, 1: 0.1}, most={0: 0.57, 1: 0.1})
    assert wishes.bounds(100)[0].tolist() == [29, 10, 0, 0]  # 0.29 * 100 is 28.999999999999996 in floats
    assert wishes.bounds(100)[1].tolist() == [57, 10, 100, 100]
    assert wishes.bounds(30)[1][1] == 3  # 0.1 * 30 is more than 3 in floats
    assert [bound[1] for bound in wishes.bounds(15)] == [1, 2]


def test_more_that_is_always_chosen_than_the_budget_comes_by_hash_and_nothing_else(pool_of: Make) -> None:
    pool = pool_of(300)
    wishes = some(pool, share=0.2)
    few, more = (set(insisting(strategy("random"), pool, wishes)(count).index_n) for count in (10, 20))
    assert len(few) == 10
    assert few < more < set(np.flatnonzero(wishes.always_N))


def test_mosts_that_leave_room_are_exceeded_in_proportion_and_nothing_of_none_before_the_last(pool_of: Make) -> None:
    pool = pool_of(400)
    wishes = some(pool, share=0, most={0: 0.2, 1: 0.1, 2: 0.1, 3: 0})
    made = insisting(strategy("random"), pool, wishes)(100)
    assert np.bincount(wishes.group_N[made.index_n], minlength=4).tolist() == [50, 25, 25, 0]
    assert {(one.group, one.kind) for one in broken(made, wishes)} == {(0, "most"), (1, "most"), (2, "most")}


def test_what_contradicts_itself_is_refused(pool_of: Make) -> None:
    pool = pool_of(100)
    both = np.ones(100, bool)
    with pytest.raises(ValueError, match="100 samples are always and never chosen"):
        dataclasses.replace(some(pool), always_N=both, never_N=both)
    with pytest.raises(ValueError, match=r"least shares sum to 1\.1"):
        some(pool, least={0: 0.6, 1: 0.5})
