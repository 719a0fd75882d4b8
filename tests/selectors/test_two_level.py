"""Two-level strata: exact budgets, mass that buys nothing, and Adapt-∞'s even budgets where the levels are one."""

from collections.abc import Callable

import numpy as np
import pytest

from liit.selectors.budgets import uniform
from liit.selectors.catalog import get
from liit.selectors.clustering import cluster
from liit.selectors.protocol import Pool
from liit.selectors.two_level import TwoLevels, budgets, two_levels

Make = Callable[[int], Pool]


def blobs(sizes: list[int], spread: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinds of these sizes around orthogonal directions: vectors, keys, the kind of each."""
    chance = np.random.default_rng(0)
    kind_N = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.eye(len(sizes))[kind_N] + spread * chance.normal(size=(len(kind_N), len(sizes)))
    return rows.astype(np.float32), chance.permutation(len(kind_N)).astype(np.uint64), kind_N


@pytest.mark.parametrize("budget", [0, 1, 7, 60, 10_000])
def test_budgets_are_exact_even_over_groups_and_never_more_than_a_cluster_has(budget: int) -> None:
    chance = np.random.default_rng(budget)
    fine_N = chance.permutation(np.concatenate([np.arange(30), chance.integers(30, size=270)])).astype(np.int32)
    group_F = np.concatenate([np.arange(5), chance.integers(5, size=25)]).astype(np.int32)
    found = budgets(TwoLevels(fine_N, group_F), budget)
    size_F = np.bincount(fine_N)
    assert found.sum() == min(budget, 300)
    assert (found <= size_F).all()
    size_G = np.bincount(group_F, size_F).astype(int)
    assert np.bincount(group_F, found).astype(int).tolist() == uniform(size_G, budget).tolist()
    for group in range(5):
        mine = group_F == group
        assert found[mine].tolist() == uniform(size_F[mine], int(found[mine].sum())).tolist()


def test_copies_of_samples_change_no_budget_of_another_group() -> None:
    fine_N, group_F = np.repeat(np.arange(6), 20).astype(np.int32), np.array([0, 0, 1, 1, 2, 2], np.int32)
    once = budgets(TwoLevels(fine_N, group_F), 30)
    copied = budgets(TwoLevels(np.concatenate([fine_N, np.zeros(500, np.int32)]), group_F), 30)
    assert copied[2:].tolist() == once[2:].tolist()
    assert copied.sum() == once.sum() == 30


def test_with_as_many_groups_as_clusters_the_budgets_are_those_of_adapt_inf() -> None:
    rows, keys, _ = blobs([200, 40, 40, 20, 100])
    levels = two_levels(rows, keys, 12, 12, seed=3)
    one = cluster(rows, keys, k_grid=[12], seed=3)
    assert (levels.fine_N == one.labels_N).all()
    assert budgets(levels, 90).tolist() == uniform(np.bincount(one.labels_N), 90).tolist()


def test_mass_buys_nothing_where_one_level_gives_it_clusters() -> None:
    rows, keys, kind_N = blobs([3000, 60, 60, 60, 60], spread=0.15)
    pool = Pool(keys, np.zeros(len(keys), np.int32), vectors={"sketch": rows})
    made = get("two-level").choose(pool, 100, 0, 1, {"fine": 120, "groups": 5})
    fine = cluster(rows, keys, k_grid=[120], seed=0)
    one = np.bincount(
        kind_N, uniform(np.bincount(fine.labels_N), 100)[fine.labels_N] / np.bincount(fine.labels_N)[fine.labels_N]
    )
    share = np.bincount(kind_N[made.index_n], minlength=5) / 100
    assert share[0] < one[0] / 100 - 0.1
    assert share[1:].min() > 0.1


@pytest.mark.parametrize("inside", ["chance", "ccs"])
def test_a_fine_cluster_gives_what_its_budget_says(inside: str, pool_of: Make) -> None:
    pool = pool_of(900)
    levels = two_levels(pool.vectors["sketch"], pool.keys_N, 60, 6, seed=4)
    made = get("two-level").choose(pool, 150, 4, 2, {"fine": 60, "groups": 6, "inside": inside})
    counts = np.bincount(levels.fine_N[made.index_n], minlength=len(levels.group_F))
    assert counts.tolist() == budgets(levels, 150).tolist()
    if inside == "chance":
        assert set(made.scorer_n) == {None}
    else:
        assert set(made.scorer_n) - {None}
        for group in range(6):  # one score for each group
            mine = levels.group_F[levels.fine_N[made.index_n]] == group
            assert len({scorer for scorer in made.scorer_n[mine] if scorer is not None}) <= 1


def test_what_cannot_be_is_refused(pool_of: Make) -> None:
    pool = pool_of(40)
    with pytest.raises(ValueError, match=r"inside is 'best'; choose one of: ccs, chance, highest"):
        get("two-level").choose(pool, 5, 0, 1, {"inside": "best"})
    with pytest.raises(ValueError, match=r"fine is 0 and groups 1; pass at least one of each"):
        get("two-level").choose(pool, 5, 0, 1, {"fine": 0})


def test_strata_are_of_whatever_vector_is_named(pool_of: Make) -> None:
    strategy, pool = get("two-level", "embedding"), pool_of(400)
    assert strategy.vectors == ("embedding",)
    own = Pool(pool.keys_N, pool.arrival_N, vectors={"embedding": pool.vectors["embedding"]})
    levels = two_levels(pool.vectors["embedding"], pool.keys_N, 30, 3, seed=0)
    made = strategy.choose(own, 60, 0, 1, {"fine": 30, "groups": 3})
    assert (
        np.bincount(levels.fine_N[made.index_n], minlength=len(levels.group_F)).tolist() == budgets(levels, 60).tolist()
    )
