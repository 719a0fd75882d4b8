"""What groups give: by what was lost of them, by the volume that their vectors fill; and what is chosen inside of a stratum."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from liit.selectors.budgets import proportional, uniform
from liit.selectors.catalog import get
from liit.selectors.group_budgets import group_budgets, lost, volume
from liit.selectors.inside import picked
from liit.selectors.protocol import Pool, rehearse

Make = Callable[[int], Pool]


def shared(pool: Pool, budget: int, **told: Any) -> np.ndarray:
    parts: dict[str, Any] = {"budgets": "uniform", "weight": None, "floor": 0.5} | told
    return group_budgets(pool, pool.labels(), budget, pool.first_vector, 2, **parts)


@pytest.mark.parametrize("kind", ["uniform", "density", "spread", "mean", "forgotten", "volume"])
@pytest.mark.parametrize("floor", [0, 0.3, 1])
def test_budgets_of_every_kind_are_exact_and_no_group_gives_more_than_it_has(
    kind: str, floor: float, pool_of: Make
) -> None:
    pool = pool_of(900)
    for budget in (0, 1, 250, 899, 5000):
        found = shared(pool, budget, budgets=kind, weight="el2n", floor=floor)
        assert found.sum() == min(budget, 900)
        assert (found <= np.bincount(pool.labels())).all()


def test_what_is_forgotten_and_what_is_new_share_what_the_floor_leaves(pool_of: Make) -> None:
    """The naive formula: √n_k times the mean of max(forgetting, 0) of old samples and max(nll - median of old ones, 0) of new."""
    pool = pool_of(900)
    labels, nll, forgotten = pool.labels(), pool.scores["nll"].astype(float), pool.scores["forgetting"].astype(float)
    old = pool.arrival_N < 2
    known = np.nanmedian(nll[old])
    value = [max(forgotten[i], 0) if old[i] else max(nll[i] - known, 0) for i in range(900)]
    np.testing.assert_allclose(lost(pool, 2)[~np.isnan(nll)], np.array(value)[~np.isnan(nll)])
    means = [np.nanmean(np.where(labels == k, lost(pool, 2), np.nan)) for k in range(labels.max() + 1)]
    sizes = np.bincount(labels)
    even = uniform(sizes, 60)
    expected = even + proportional(np.array(means) * np.sqrt(sizes), sizes - even, 140)
    np.testing.assert_allclose(shared(pool, 200, budgets="forgotten", floor=0.3), expected, atol=1)


def test_where_nothing_was_forgotten_the_new_gets_the_rest_and_what_is_known_lives_on_the_floor(pool_of: Make) -> None:
    pool = pool_of(900)
    arrival = np.where(pool.labels() == 3, 2, 0).astype(np.int32)
    nll = np.where(arrival == 2, 5, 1).astype(np.float32)
    own = replace(pool, arrival_N=arrival, scores={"nll": nll, "forgetting": np.zeros(900, np.float32)})
    found, sizes = shared(own, 60, budgets="forgotten"), np.bincount(pool.labels())
    even = uniform(sizes, 30)
    assert np.delete(found, 3).tolist() == np.delete(even, 3).tolist()
    assert found[3] == even[3] + 30
    forgetting = np.where(pool.labels() == 1, 2, 0).astype(np.float32)
    worse = shared(replace(own, scores={**own.scores, "forgetting": forgetting}), 60, budgets="forgotten")
    assert worse[1] > found[1]
    assert worse[3] < found[3]


def test_volume_is_the_number_of_directions_whatever_their_mass() -> None:
    rows = np.concatenate(
        [np.tile(np.eye(6)[0], (90, 1)), np.repeat(np.eye(6), 10, axis=0), np.eye(6)[:2], np.zeros((3, 6))]
    )
    labels = np.repeat([0, 1, 2, 3], [90, 60, 2, 3]).astype(np.int32)
    pool = Pool(np.arange(155, dtype=np.uint64), np.zeros(155, np.int32), labels_N=labels)
    np.testing.assert_allclose(volume(rows.astype(np.float32), pool, labels), [1, 6, 2, 0], atol=1e-6)


@pytest.mark.parametrize("way", ["ccs", "chance", "highest", "lowest", "middle"])
def test_a_stratum_gives_what_its_way_says_and_adds_the_samples_in_that_order(way: str) -> None:
    chance = np.random.default_rng(0)
    values, keys = chance.normal(size=300).astype(np.float32), chance.permutation(900)[:300].astype(np.uint64)
    told: dict[str, Any] = {"bins": 10, "trim": 0.0, "seed": 1, "timestep": 2}
    index, stratum, place = picked(values, keys, 60, way, **told)
    assert len(set(index)) == 60
    assert sorted(place) == list(range(60))
    assert (stratum >= 0).all() == (way == "ccs")
    fewer = picked(values, keys, 20, way, **told)[0]
    if way != "ccs":
        assert set(index[place < 20]) == set(fewer), "what a smaller budget chooses"
    if way in ("highest", "lowest"):
        order = np.argsort(values if way == "lowest" else -values)
        assert set(index) == set(order[:60])
    if way == "chance":
        assert set(picked(-values, keys, 60, way, **told)[0]) == set(index)


@pytest.mark.parametrize("name", ["adapt-inf", "two-level", "both-strata"])
def test_inside_a_stratum_one_end_of_one_score_is_taken_where_it_is_asked_for(name: str, pool_of: Make) -> None:
    pool, told = pool_of(700), {"inside": "highest", "scores": ["el2n"]}
    own = {"fine": 12, "groups": 3} if name != "adapt-inf" else {}
    high, low = (get(name).choose(pool, 120, 0, 2, {**own, **told, "inside": way}) for way in ("highest", "lowest"))
    assert set(high.scorer_n) == set(low.scorer_n) == {"el2n"}
    assert np.mean(high.score_n) > np.mean(pool.scores["el2n"]) + 0.5 > np.mean(low.score_n) + 1
    chance = get(name).choose(pool, 120, 0, 2, {**own, "inside": "chance", "scores": []})
    assert set(chance.scorer_n) == {None}


def test_what_a_kind_goes_by_is_asked_of_the_profile_and_what_there_is_not_is_refused(pool_of: Make) -> None:
    strategy = get("two-level")
    assert strategy.scores_for({"scores": [], "budgets": "forgotten"}) == ("nll", "forgetting")
    assert strategy.scores_for({"scores": []}) == ()
    rehearse(strategy, {"budgets": "forgotten", "scores": []})
    for told, says in (
        ({"budgets": "lost"}, "'lost'; choose one of: uniform, density, spread, mean, forgotten, volume"),
        ({"budgets": "volume", "floor": 2}, "floor is 2; pass the share"),
        ({"budgets": "mean"}, "need a score to go by"),
    ):
        with pytest.raises(ValueError, match=says):
            rehearse(strategy, told)
