"""What is scored again, against the formulas written out group by group; no order of rows changes anything."""

import math
from typing import Any

import numpy as np
import pytest

from liit.selectors.priority import priority
from liit.selectors.refreshing import Rules, group_sums, sampled, score_drift, stale, vector_drift

SEEDS = range(8)


def pool(seed: int, size: int = 700) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    keys_N = chance.permutation(10 * size)[:size].astype(np.uint64)
    return chance, keys_N, (chance.integers(100, size=size) ** 0.5).astype(np.int32)


def sample_by_hand(keys_N: np.ndarray, group_N: np.ndarray, rules: Rules, *salt: Any) -> set[int]:
    """The smallest hashes of every group."""
    found: set[int] = set()
    hashed = dict(zip(keys_N.tolist(), priority(keys_N, "refresh", *salt).tolist(), strict=True))
    for group in set(group_N.tolist()):
        mine = sorted(keys_N[group_N == group].tolist(), key=lambda key: hashed[key])
        found |= set(mine[: max(rules.least, math.ceil(rules.share * len(mine)))])
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sample_is_of_every_group_its_share_and_at_least_so_many(seed: int) -> None:
    chance, keys_N, group_N = pool(seed)
    rules = Rules(share=0.2, least=5)
    chosen_N = sampled(keys_N, group_N, rules, seed, 3)
    assert set(keys_N[chosen_N].tolist()) == sample_by_hand(keys_N, group_N, rules, seed, 3)
    order = chance.permutation(len(keys_N))
    assert np.array_equal(sampled(keys_N[order], group_N[order], rules, seed, 3), chosen_N[order])
    other_N = sampled(keys_N, group_N, rules, seed, 4)
    assert other_N.sum() == chosen_N.sum()
    assert not np.array_equal(other_N, chosen_N), "every timestep looks at the same samples"


def drift_by_hand(group_N: np.ndarray, before_N: np.ndarray, now_N: np.ndarray, again_N: np.ndarray) -> list[float]:
    found = []
    for group in range(group_N.max() + 1):
        before, now = (values[(group_N == group) & again_N].astype(np.float64) for values in (before_N, now_N))
        pairs = [(b, n) for b, n in zip(before, now, strict=True) if not (math.isnan(b) or math.isnan(n))]
        if not pairs:
            found.append(0.0 if len(now) and np.isnan([before, now]).all() else math.inf)
            continue
        change = abs(sum(n - b for b, n in pairs) / len(pairs))
        spread = np.nanstd(before_N[group_N == group].astype(np.float64))
        found.append(change / spread if spread > 0 else math.inf if change else 0.0)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_drift_of_a_score_is_its_mean_change_over_its_spread(seed: int) -> None:
    chance, keys_N, group_N = pool(seed)
    before_N = chance.gamma(2, size=len(keys_N)).astype(np.float32)
    now_N = (before_N + chance.normal(0.1 * group_N, 1)).astype(np.float32)
    again_N = (chance.random(len(keys_N)) < 0.3) & (group_N != 2)
    before_N[(group_N == 3) | (group_N == 4)] = 1
    now_N[group_N == 3] = 1
    before_N[(group_N == 5) | (chance.random(len(keys_N)) < 0.1)] = np.nan
    before_N[group_N == 6] = now_N[group_N == 6] = np.nan
    columns = keys_N, group_N, before_N, now_N, again_N
    drift_G = score_drift(*columns)
    np.testing.assert_allclose(drift_G, drift_by_hand(*columns[1:]), rtol=1e-12)
    assert drift_G[2] == np.inf, "a group without a sample is not known to have stayed"
    assert drift_G[4] == np.inf, "a score that was constant and is another now has moved"
    assert drift_G[5] == np.inf, "a score that none had and some have now is new"
    assert drift_G[3] == drift_G[6] == 0
    order = chance.permutation(len(keys_N))
    permuted: list[Any] = [column[order] for column in columns]
    assert np.array_equal(score_drift(*permuted), drift_G)
    larger_G = score_drift(keys_N, group_N, 1024 * before_N, 1024 * now_N, again_N)
    assert np.array_equal(larger_G, drift_G), "the unit of a score counts for nothing"


@pytest.mark.parametrize("seed", SEEDS)
def test_drift_of_a_vector_is_one_minus_the_cosine_of_the_means(seed: int) -> None:
    chance, keys_N, group_N = pool(seed)
    before_NP = chance.normal(size=(len(keys_N), 12))
    before_NP = (before_NP / np.linalg.norm(before_NP, axis=1, keepdims=True)).astype(np.float16)
    now_NP = (before_NP + chance.normal(0, 0.02, before_NP.shape) * group_N[:, None]).astype(np.float16)
    before_NP[group_N == 1], now_NP[group_N == 1], now_NP[group_N == 2] = 0, 0, 0
    groups = group_N.max() + 1
    count_G = np.where(np.arange(groups) == 3, 0, np.bincount(group_N))
    drift_G = vector_drift(group_sums(before_NP, group_N, groups), group_sums(now_NP, group_N, groups), count_G)
    for group in range(groups):
        if group in (1, 2):
            assert drift_G[group] == group - 1
            continue
        if group == 3:
            assert drift_G[group] == np.inf, "a group without a sample is not known to have stayed"
            continue
        a, b = (vectors[group_N == group].astype(np.float64).mean(0) for vectors in (before_NP, now_NP))
        assert drift_G[group] == pytest.approx(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)
    order = chance.permutation(len(keys_N))
    halves = np.array_split(order, 5)
    by_parts = sum(group_sums(now_NP[half], group_N[half], groups) for half in halves)
    assert np.array_equal(by_parts, group_sums(now_NP, group_N, groups)), "sums depend on how the rows are split"


def test_a_group_is_stale_by_any_score_or_vector_that_reaches_its_threshold() -> None:
    rules = Rules(score_drift=0.5, vector_drift=0.1)
    scores = {"nll": np.array([0.1, 0.5, 0, 0, np.inf]), "el2n": np.array([0.2, 0, 0.4, 0, 0])}
    vectors = {"sketch": np.array([0.01, 0, 0.05, 0.2, 0])}
    assert stale(scores, vectors, rules).tolist() == [False, True, False, True, True]
    assert stale(scores, {}, rules).tolist() == [False, True, False, False, True]
    assert stale({}, vectors, rules).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("rules", [Rules(score_drift=0), Rules(vector_drift=0), Rules(share=1)])
def test_a_threshold_of_nothing_looks_at_everything_at_once(rules: Rules) -> None:
    _, keys_N, group_N = pool(0)
    assert sampled(keys_N, group_N, rules, 0).all()


def test_where_nothing_moved_nothing_is_stale() -> None:
    chance, keys_N, group_N = pool(1)
    scores_N = chance.gamma(2, size=len(keys_N)).astype(np.float32)
    vectors_NP = chance.normal(size=(len(keys_N), 6)).astype(np.float16)
    sums_GP = group_sums(vectors_NP, group_N, group_N.max() + 1)
    drifts = {"nll": score_drift(keys_N, group_N, scores_N, scores_N, sampled(keys_N, group_N, Rules(), 0))}
    assert not stale(drifts, {"sketch": vector_drift(sums_GP, sums_GP, np.bincount(group_N))}, Rules()).any()
