import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liit.selectors.budgets import proportional, uniform
from liit.selectors.catalog import STRATEGIES, get
from liit.selectors.multiway import choose_score
from liit.selectors.protocol import Choice, Pool

Make = Callable[[int], Pool]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in STRATEGIES),
    *((name, {"direction": d}) for name in ("perplexity", "el2n") for d in ("lowest", "middle", "ccs")),
    ("adapt-inf", {"budgets": "density"}),
    ("adapt-inf", {"budgets": "spread", "weight": "el2n"}),
    ("adapt-inf", {"budgets": "mean", "weight": "nll"}),
    ("adapt-inf", {"scores": ["nll"], "bins": 10, "trim": 0.0, "min_size": 20}),
    ("adapt-inf", {"budgets": "forgotten", "inside": "lowest", "scores": ["el2n"]}),
    ("adapt-inf", {"budgets": "volume", "inside": "chance"}),
    ("random-clusters-ccs", {"k": 5}),
    ("two-level", {"fine": 40, "groups": 5}),
    ("two-level", {"fine": 40, "groups": 5, "inside": "ccs", "min_size": 20}),
    ("two-level", {"fine": 40, "groups": 5, "inside": "highest", "budgets": "forgotten", "floor": 0.2}),
    ("two-level", {"fine": 40, "groups": 5, "inside": "middle", "budgets": "volume"}),
    *(
        ("both-strata", {"fine": 30, "groups": 5, "how": how, "per_budget": 0.1})
        for how in ("nested", "crossed", "halves")
    ),
    ("both-strata", {"fine": 30, "groups": 5, "per_budget": 0.1, "budgets": "volume", "inside": "ccs"}),
    ("random-replay", {"fraction": 0.5}),
    ("semdedup", {"k": 3, "largest": 200}),
    ("density", {"k": 8, "minimum": 3, "temperature": 0.01, "neighbours": 2}),
    ("coincide", {"k": 10, "temperature": 0.5, "width": 0.5, "language": [8, 16]}),
    ("d2", {"k": 10, "forward": 0.5, "reverse": 0.0}),
    ("icons", {"quantile": 0.5}),
    ("random", {"newest": True}),
    ("oasis", {"batch": 7, "decay": 0.5}),
    ("similar-states", {"skill": "vqa"}),
]
ORDERS: dict[str, Callable[[int], np.ndarray]] = {
    "shuffled": lambda size: np.random.default_rng(1).permutation(size),
    "reversed": lambda size: np.arange(size)[::-1],
    "in other partitions": lambda size: np.concatenate([np.arange(part, size, 7) for part in (3, 0, 6, 1, 5, 2, 4)]),
}


def permuted(pool: Pool, order: np.ndarray) -> Pool:
    assert pool.labels_N is not None
    assert pool.distance_N is not None
    return Pool(
        pool.keys_N[order],
        pool.arrival_N[order],
        {name: score[order] for name, score in pool.scores.items()},
        {name: vector[order] for name, vector in pool.vectors.items()},
        pool.labels_N[order],
        pool.distance_N[order],
        pool.targets,
        pool.given_M,
        None if pool.tasks_N is None else pool.tasks_N[order],
        pool.skills_K,
    )


def told(pool: Pool, made: Choice) -> list[tuple[int, Any, str, int]]:
    return list(
        zip(pool.keys_N[made.index_n].tolist(), made.scorer_n, map(str, made.score_n), made.stratum_n, strict=True)
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_permuted_or_repartitioned_pool_gives_the_same_choice(
    name: str, options: dict[str, Any], order: str, pool_of: Make
) -> None:
    pool = pool_of(2000)
    moved = permuted(pool, ORDERS[order](2000))
    assert told(moved, get(name).choose(moved, 300, 7, 2, options)) == told(
        pool, get(name).choose(pool, 300, 7, 2, options)
    )


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("size", [0, 1, 40, 2000])
def test_a_choice_is_exact_sorted_by_key_and_true(name: str, options: dict[str, Any], size: int, pool_of: Make) -> None:
    pool, strategy = pool_of(size), get(name)
    among = (pool.arrival_N == 2).sum() if strategy.newest or "newest" in options else size
    for budget in (0, 1, 33, 1500, 9999):
        made = strategy.choose(pool, budget, 7, 2, options)
        assert strategy.whole or len(made.index_n) == min(budget, among)
        assert (np.diff(pool.keys_N[made.index_n].astype(np.int64)) > 0).all()
        for i, scorer, score in zip(made.index_n, made.scorer_n, made.score_n, strict=True):
            if scorer is None:
                assert np.isnan(score)
            elif scorer in pool.scores:
                assert score == pool.scores[scorer][i]
            elif strategy.given:
                assert scorer == "given"
                assert np.isnan(score)
            else:
                assert strategy.targets, f"{name} names a score that is neither profiled nor made from targets"


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_reads_nothing_but_what_it_declares(name: str, pool_of: Make) -> None:
    pool, strategy = pool_of(500), get(name)
    first = {v: pool.vectors[v] for v in strategy.vectors}
    pool = dataclasses.replace(pool, vectors={**first, **pool.vectors})  # what clusters are of stands first
    bare = dataclasses.replace(
        pool,
        scores={s: pool.scores[s] for s in strategy.scores},
        vectors={v: pool.vectors[v] for v in strategy.vectors},
        labels_N=pool.labels_N if strategy.clusters else None,
        distance_N=None,
        targets=pool.targets if strategy.targets else {},
        given_M=pool.given_M if strategy.given else None,
        tasks_N=pool.tasks_N if strategy.tasks else None,
        skills_K=pool.skills_K if strategy.skills else None,
    )
    assert told(bare, strategy.choose(bare, 90, 0, 2, {})) == told(pool, strategy.choose(pool, 90, 0, 2, {}))


@pytest.mark.parametrize("name", ["adapt-inf", "random", "random-clusters-ccs", "random-replay"])
def test_seed_and_timestep_are_all_the_chance_there_is(name: str, pool_of: Make) -> None:
    pool = pool_of(2000)
    pool.arrival_N[:] = 0  # all of it past, so that replay samples at either timestep
    first, again, other, later = (
        get(name).choose(pool, 200, seed, t, {}).index_n.tolist() for seed, t in ((1, 1), (1, 1), (2, 1), (1, 2))
    )
    assert first == again
    assert first != other
    assert first != later


def test_adapt_inf_shares_the_budget_evenly_and_each_cluster_has_its_own_score(pool_of: Make) -> None:
    pool, names = pool_of(4000), get("adapt-inf").scores
    assert pool.labels_N is not None
    made = get("adapt-inf").choose(pool, 700, 0, 2, {})
    chosen_labels = pool.labels_N[made.index_n]
    assert (np.bincount(chosen_labels) == uniform(np.bincount(pool.labels_N), 700)).all()
    for k in np.unique(pool.labels_N):
        column = choose_score(np.stack([pool.scores[s][pool.labels_N == k] for s in names], axis=1), names)
        assert column is not None
        assert set(made.scorer_n[chosen_labels == k]) == {names[column]}
    assert "image_grounding" not in made.scorer_n  # constant in this pool


def test_density_budgets_favour_the_spread_out_cluster() -> None:
    chance = np.random.default_rng(0)
    labels = np.repeat([0, 1], 500).astype(np.int32)
    sketch = np.eye(2, 16)[labels] + chance.normal(size=(1000, 16)) * np.where(labels, 0.3, 0.02)[:, None]
    scores = {name: chance.random(1000, dtype=np.float32) for name in get("adapt-inf").scores}
    pool = Pool(np.arange(1000, dtype=np.uint64), np.zeros(1000, np.int32), scores, {"sketch": sketch}, labels)
    chosen = labels[get("adapt-inf").choose(pool, 300, 0, 0, {"budgets": "density"}).index_n]
    assert (chosen == 1).sum() > 200


def test_score_weighted_budgets_follow_deviation_or_mean(pool_of: Make) -> None:
    pool = pool_of(4000)
    assert pool.labels_N is not None
    columns = {k: pool.scores["el2n"][pool.labels_N == k].astype(float) for k in np.unique(pool.labels_N)}
    sizes = np.array([len(column) for column in columns.values()])
    spread = np.array([np.nanstd(column) for column in columns.values()])
    mean = np.array([max(np.nanmean(column), 0) for column in columns.values()])
    half = uniform(sizes, 150)
    expected = {
        "spread": proportional(spread, sizes, 300),
        "mean": half + proportional(mean * np.sqrt(sizes), sizes - half, 150),
    }
    for budgets, counts in expected.items():
        made = get("adapt-inf").choose(pool, 300, 0, 2, {"budgets": budgets, "weight": "el2n"})
        np.testing.assert_allclose(np.bincount(pool.labels_N[made.index_n], minlength=len(sizes)), counts, atol=1)
    with pytest.raises(ValueError, match="weight=el2n"):
        get("adapt-inf").choose(pool, 300, 0, 2, {"budgets": "spread"})
    assert get("adapt-inf").scores_for({"weight": "forgetting"})[-1] == "forgetting"


def test_where_every_score_is_constant_chance_decides_and_says_so(pool_of: Make) -> None:
    pool = pool_of(1000)
    for name in pool.scores:
        pool.scores[name][pool.labels_N == 3] = 1.5
    made = get("adapt-inf").choose(pool, 200, 0, 2, {})
    assert pool.labels_N is not None
    for i, scorer, stratum in zip(made.index_n, made.scorer_n, made.stratum_n, strict=True):
        assert (scorer is None) == (stratum == -1) == (pool.labels_N[i] == 3)


def test_the_methods_that_ignore_the_budget_say_what_they_take(pool_of: Make) -> None:
    pool = pool_of(1000)
    newest = (pool.arrival_N == 2).sum()
    past = 1000 - newest
    for name, count in {"sequential": newest, "multi-task": 1000, "random-replay": newest + round(past / 10)}.items():
        assert get(name).whole
        assert len(get(name).choose(pool, 5, 0, 2, {}).index_n) == count
    assert [name for name in STRATEGIES if get(name).from_base and get(name).once] == ["multi-task"]
    assert [name for name in STRATEGIES if get(name).prunes] == [
        f"lite-{name}" for name in ("adapt-inf", "two-level", "both-strata")
    ]


def test_what_another_run_selected_is_taken_where_the_pool_has_it(pool_of: Make) -> None:
    pool = pool_of(1000)
    elsewhere = np.array([2**60, 2**61], np.uint64)
    given = dataclasses.replace(pool, given_M=np.concatenate([elsewhere, pool.keys_N[[700, 3, 41]]]))
    made = get("given").choose(given, 1, 0, 2, {})
    assert pool.keys_N[made.index_n].tolist() == sorted(pool.keys_N[[700, 3, 41]].tolist())


def test_an_unknown_strategy_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'adapt'") as raised:
        get("adapt")
    assert all(name in str(raised.value) for name in STRATEGIES)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("random", {"bins": 3}, r"unknown strategy options \['bins'\]"),
        ("adapt-inf", {"bin": 3}, "takes .*'bins'"),
        ("adapt-inf", {"budgets": "fair"}, "uniform, density"),
        ("random-clusters-ccs", {"k": 0}, "at least one cluster"),
        ("el2n", {"direction": "up"}, "highest, lowest, middle, ccs"),
        ("adapt-inf", {"scores": ["loss"]}, "no score 'loss'"),
        ("semdedup", {"eps": 0.1}, r"takes \['k', 'largest'\]"),
        ("semdedup", {"largest": 0}, "at most 0 rows"),
        ("density", {"temperature": 0}, "temperature 0"),
        ("coincide", {"width": -1}, "width -1"),
        ("coincide", {"language": [8, 99]}, "language is .8, 99.; pass first and last . 1 of 16 dimensions"),
        ("d2", {"k": 0}, "0 neighbours"),
        ("icons", {"quantile": 1.5}, r"quantile is 1\.5"),
    ],
)
def test_unknown_options_are_refused(name: str, options: dict[str, Any], message: str, pool_of: Make) -> None:
    with pytest.raises(ValueError, match=message):
        get(name).choose(pool_of(100), 10, 0, 0, options)


def test_a_pool_that_lacks_a_column_is_refused_by_the_columns_name(pool_of: Make) -> None:
    pool = pool_of(100)
    with pytest.raises(ValueError, match="no cluster labels"):
        get("adapt-inf").choose(dataclasses.replace(pool, labels_N=None), 10, 0, 0, {})
    with pytest.raises(ValueError, match="no score 'grad_norm'"):
        get("grad-norm").choose(dataclasses.replace(pool, scores={}), 10, 0, 0, {})
    for name in ("less", "icons"):
        with pytest.raises(ValueError, match="no target vectors; profile a target split"):
            get(name).choose(dataclasses.replace(pool, targets={}), 10, 0, 0, {})
    with pytest.raises(ValueError, match=r"no selection of another run; name the run, as strategy\.run"):
        get("given").choose(dataclasses.replace(pool, given_M=None), 10, 0, 0, {})
    with pytest.raises(ValueError, match="'arrival' has 99 rows for 100 keys"):
        dataclasses.replace(pool, arrival_N=pool.arrival_N[1:])
    with pytest.raises(ValueError, match=f"key {pool.keys_N[0]} occurs 100 times"):
        dataclasses.replace(pool, keys_N=np.repeat(pool.keys_N[:1], 100))


def test_an_installed_package_brings_a_strategy_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user's own package holds: a function, a line that says what it needs, and the entry point."""
    (tmp_path / "my_strategies.py").write_text(
        "from liit.selectors.protocol import Strategy, choice\n"
        "from liit.selectors.ranking import ranked\n"
        "def surprising(pool, budget, seed, timestep, options):\n"
        "    index = ranked(pool.score('nll'), pool.keys_N, budget, direction='highest', seed=seed, timestep=timestep)\n"
        "    return choice(pool, index, 'nll')\n"
        "STRATEGY = Strategy('surprising', surprising, scores=('nll',))\n"
    )
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[liit.strategies]\nsurprising = my_strategies:STRATEGY\nbroken = my_strategies:surprising\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert get("surprising").scores == ("nll",)
    with pytest.raises(ValueError, match=r"broken.*is function, not a Strategy"):
        get("broken")
    with pytest.raises(ValueError, match=r"choose one of:.*random.*surprising"):
        get("absent")


def test_clusters_can_be_of_another_vector() -> None:
    assert get("adapt-inf", "embedding").vectors == get("lite-adapt-inf", "embedding").vectors == ("embedding",)
    assert get("lite-adapt-inf", "middle").vectors == ("middle", "embedding")
    assert get("semdedup", "middle") == get("semdedup")  # it makes clusters of its own
    assert get("adapt-inf") == get("adapt-inf", "sketch")


def test_no_strategy_prunes_by_a_part_of_the_pool() -> None:
    with pytest.raises(ValueError, match=r"similar-states: `prunes` needs the whole pool scored"):
        dataclasses.replace(get("similar-states"), prunes=True)
