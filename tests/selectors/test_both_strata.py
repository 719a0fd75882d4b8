"""Groups of instructions with strata of gradients: even over groups whatever is inside, and spread inside of them."""

from collections.abc import Callable

import numpy as np
import pytest

from liit.selectors.both_strata import both_strata, clusters
from liit.selectors.budgets import uniform
from liit.selectors.catalog import get
from liit.selectors.protocol import Pool, rehearse
from liit.selectors.two_level import two_levels

Make = Callable[[int], Pool]


def kinds(sizes: list[int], known: int) -> tuple[Pool, np.ndarray, np.ndarray]:
    """Kinds of these sizes, told by their instructions; of each one half has gradients of one direction, the rest of `known`."""
    chance = np.random.default_rng(0)
    kind_N = np.repeat(np.arange(len(sizes)), sizes)
    way_N = np.where(np.arange(len(kind_N)) % 2, 0, chance.integers(known, size=len(kind_N)))
    words = np.eye(len(sizes))[kind_N] + 0.02 * chance.normal(size=(len(kind_N), len(sizes)))
    rows = np.eye(known)[way_N] + 0.02 * chance.normal(size=(len(kind_N), known))
    keys = chance.permutation(len(kind_N)).astype(np.uint64)
    vectors = {"instruction-input": words.astype(np.float32), "sketch": rows.astype(np.float32)}
    return Pool(keys, np.zeros(len(keys), np.int32), vectors=vectors), kind_N, way_N


@pytest.mark.parametrize("how", ["nested", "crossed"])
def test_groups_give_alike_and_inside_of_them_the_directions_of_gradients_do(how: str) -> None:
    pool, kind_N, way_N = kinds([400, 100, 100], 5)
    told = {"how": how, "fine": 3, "groups": 3, "per_budget": 1 / 18, "scores": []}
    made = both_strata(pool, 90, 0, 1, told | ({"per_budget": 1 / 6} if how == "nested" else {}))
    assert np.bincount(kind_N[made.index_n]).tolist() == [30, 30, 30]
    for kind in range(3):
        by_way = np.bincount(way_N[made.index_n][kind_N[made.index_n] == kind], minlength=5)
        assert by_way.max() - by_way.min() <= 1, "half of the samples go one way, a fifth of the chosen"


def test_strata_of_gradients_are_of_each_group_or_of_the_pool(pool_of: Make) -> None:
    pool = pool_of(900)
    options = {"fine": 20, "groups": 4, "per_budget": 0.2}
    levels = two_levels(pool.first_vector(), pool.keys_N, 20, 4, seed=3)
    share = uniform(np.bincount(levels.group_N), 100)
    nested = both_strata(pool, 100, 3, 1, options)
    for group, budget in enumerate(share):
        members = np.flatnonzero(levels.group_N == group)
        own = clusters(pool, int(budget), 0.2, 3, members)
        chosen = np.isin(members, nested.index_n)
        assert np.bincount(own[chosen], minlength=own.max() + 1).tolist() == uniform(np.bincount(own), budget).tolist()
    crossed = both_strata(pool, 100, 3, 1, options | {"how": "crossed"})
    of_pool = clusters(pool, 100, 0.2, 3)
    for group, budget in enumerate(share):
        mine = levels.group_N == group
        cells = np.unique(of_pool[mine])
        counts = [(of_pool[crossed.index_n][mine[crossed.index_n]] == cell).sum() for cell in cells]
        assert counts == uniform(np.array([(of_pool[mine] == cell).sum() for cell in cells]), budget).tolist()


def test_half_of_the_budget_each_is_two_level_and_then_gradient_strata_of_what_is_left(pool_of: Make) -> None:
    pool = pool_of(900)
    made = both_strata(pool, 101, 3, 1, {"fine": 20, "groups": 4, "per_budget": 0.2, "how": "halves"})
    groups = get("two-level").choose(pool, 50, 3, 1, {"fine": 20, "groups": 4})
    assert set(groups.index_n) < set(made.index_n)
    others = np.setdiff1d(made.index_n, groups.index_n)
    of_pool = clusters(pool, 101, 0.2, 3)
    left = np.bincount(np.delete(of_pool, groups.index_n), minlength=of_pool.max() + 1)
    assert np.bincount(of_pool[others], minlength=len(left)).tolist() == uniform(left, 51).tolist()


def test_what_cannot_be_is_refused_before_anything_is_scored() -> None:
    for told, says in (
        ({"how": "mixed"}, "how is 'mixed'; choose one of: nested, crossed, halves"),
        ({"per_budget": 0}, "per_budget is 0; pass gradient clusters for each sample"),
        ({"inside": "best"}, "inside is 'best'"),
    ):
        with pytest.raises(ValueError, match=says):
            rehearse(get("both-strata"), told)
    assert get("both-strata", "prompt-last").vectors == ("prompt-last", "sketch")
