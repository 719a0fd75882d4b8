"""LESS and ICONS: choice by influence on wanted skills."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from liit.selectors.catalog import get
from liit.selectors.icons import elected, votes
from liit.selectors.less import influence
from liit.selectors.protocol import Pool, rehearse

KEYS = np.random.default_rng(0).permutation(900)[:50].astype(np.uint64)


def setting(checkpoints: int) -> tuple[list[np.ndarray], list[dict[str, np.ndarray]]]:
    """Gradients of 50 samples and of two ragged skills at every checkpoint."""
    chance = np.random.default_rng(checkpoints)
    train = [chance.normal(size=(50, 12)) for _ in range(checkpoints)]
    return train, [
        {"vqa": chance.normal(size=(7, 12)), "chat": chance.normal(size=(2, 12))} for _ in range(checkpoints)
    ]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("rates", [[1.0], [3e-5, 1e-5, 0.0]])
def test_influence_is_the_papers_sum_over_pairs_and_checkpoints(rates: list[float]) -> None:
    train, targets = setting(len(rates))
    found = influence(train, targets, KEYS, rates)
    for s, skill in enumerate(("chat", "vqa")):
        for i in range(50):
            expected = sum(
                rate / sum(rates) * np.mean([cosine(gradients[i], wanted) for wanted in goal[skill]])
                for rate, gradients, goal in zip(rates, train, targets, strict=True)
            )
            assert found[i, s] == pytest.approx(expected, abs=1e-6)


def test_lengths_and_the_scale_of_the_rates_mean_nothing_and_blocks_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    train, targets = setting(2)
    plain = influence(train, targets, KEYS, [2e-5, 1e-5])
    longer = [{skill: 5 * vectors for skill, vectors in goal.items()} for goal in targets]
    np.testing.assert_allclose(influence([3 * x for x in train], longer, KEYS, [2, 1]), plain, atol=1e-6)
    monkeypatch.setattr("liit.selectors.directions.BLOCK_NUMBERS", 1)
    many = [np.repeat(x, 4, axis=0) for x in train]
    repeated = influence(many, targets, np.arange(200, dtype=np.uint64), [2e-5, 1e-5])
    np.testing.assert_allclose(repeated, np.repeat(plain, 4, axis=0), atol=1e-6)


@pytest.mark.parametrize("skill", ["chat", None])
def test_similar_takes_the_newest_samples_of_largest_mean_cosine_to_a_skill(
    skill: str | None, pool_of: Callable[[int], Pool]
) -> None:
    pool = pool_of(400)
    goals = [pool.targets[name] for name in ([skill] if skill else pool.targets)]
    near = [max(np.mean([cosine(x, wanted) for wanted in goal]) for goal in goals) for x in pool.vectors["embedding"]]
    new = np.flatnonzero(pool.arrival_N == 2)
    made = get("similar-states").choose(pool, 60, 0, 2, {"skill": skill})
    assert set(made.index_n) == set(sorted(new, key=lambda i: -near[i])[:60])
    np.testing.assert_allclose(made.score_n, np.array(near)[made.index_n], atol=1e-3)
    with pytest.raises(ValueError, match="'song'; the target split has caption, chat, vqa"):
        get("similar-states").choose(pool, 60, 0, 2, {"skill": "song"})
    with pytest.raises(ValueError, match="option skill is 'song'"):  # as soon as the target split is known
        rehearse(get("similar-states"), {"skill": "song"}, {"a", "b"})
    rehearse(get("similar-states"), {"skill": "song"})


def test_less_takes_the_samples_of_largest_influence_on_any_skill(pool_of: Callable[[int], Pool]) -> None:
    pool = pool_of(400)
    best = influence([pool.vectors["sketch"]], [pool.targets], pool.keys_N).max(axis=1)
    made = get("less").choose(pool, 60, 0, 2, {})
    assert set(made.index_n) == set(np.argsort(-best)[:60])
    assert set(made.scorer_n) == {"influence"}
    np.testing.assert_array_equal(made.score_n, best[made.index_n])


def test_less_finds_the_samples_of_a_skill_with_a_single_target(pool_of: Callable[[int], Pool]) -> None:
    pool = pool_of(400)
    wanted = {"rare": pool.vectors["sketch"][[17]] * 2, "common": -pool.vectors["sketch"][:3]}
    made = get("less").choose(dataclasses.replace(pool, targets=wanted), 1, 0, 2, {})
    assert made.index_n.tolist() == [17]


def test_votes_are_counted_as_the_paper_counts_them() -> None:
    values = np.random.default_rng(1).normal(size=(100, 5))
    expected = [sum(row[s] > sorted(values[:, s])[79] for s in range(5)) for row in values]
    assert votes(values).tolist() == expected
    assert votes(values * [1, 9, 0.1, 2, 50] + 3).tolist() == expected, "the scale of one skill's influence matters"
    assert votes(values).sum() == 5 * 20


def test_a_skill_that_all_samples_serve_alike_does_not_vote() -> None:
    values = np.random.default_rng(2).normal(size=(60, 2))
    values[:, 0] = 0.5
    assert votes(values).max() == 1
    assert len(votes(np.empty((0, 3)))) == 0


def test_most_votes_win_then_summed_influence_then_the_hash() -> None:
    values = np.round(np.random.default_rng(3).random((50, 2)), 1)
    counted = np.arange(50) % 3
    order = sorted(range(50), key=lambda i: (-counted[i], -values[i].sum()))
    for budget in range(52):
        chosen = elected(counted, values, KEYS, budget, seed=0)
        cut = sorted((counted[i], values[i].sum()) for i in order[:budget])
        assert sorted((counted[i], values[i].sum()) for i in chosen) == cut
    drawn = [elected(np.ones(50, int), np.ones((50, 2)), KEYS, 10, seed=seed).tolist() for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def test_unusable_targets_and_weights_are_refused_by_name() -> None:
    train, targets = setting(1)
    cases: list[tuple[dict[str, np.ndarray], str]] = [
        ({"vqa": np.empty((0, 12))}, r"skill 'vqa' have shape \(0, 12\); pass at least one vector of 12"),
        ({"vqa": np.ones((2, 9))}, r"skill 'vqa' have shape \(2, 9\)"),
        ({"vqa": np.full((2, 12), np.nan)}, "target vector 0 of skill 'vqa' is not finite"),
    ]
    for wanted, message in cases:
        with pytest.raises(ValueError, match=message):
            influence(train, [wanted], KEYS)
    with pytest.raises(ValueError, match=r"targets of \['vqa'\] at one checkpoint, of \['chat', 'vqa'\] at another"):
        influence(train * 2, [targets[0], {"vqa": np.ones((2, 12))}], KEYS, [1, 1])
    with pytest.raises(ValueError, match="not all of them 0"):
        influence(train, targets, KEYS, [0.0])
    with pytest.raises(ValueError, match="1 pools of gradients, 1 of targets and 2 weights"):
        influence(train, targets, KEYS, [1, 1])
    train[0][4, 4] = np.inf
    with pytest.raises(ValueError, match=f"key {KEYS[4]} is not finite"):
        influence(train, targets, KEYS)
