"""RDS+: target samples take turns, each with what is most like it and left."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from liit.selectors import rds
from liit.selectors.catalog import get
from liit.selectors.priority import priority
from liit.selectors.protocol import Pool

Make = Callable[[int], Pool]


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def naive(pool: Pool, budget: int) -> list[int]:
    """Every list whole and sorted; skills in turns, and in each its samples."""
    rows, hashed = unit(pool.vectors["position-mean"]), priority(pool.keys_N, "rds")
    of = {skill: unit(pool.targets[skill]) for skill in sorted(pool.targets)}
    turns = [of[skill][turn % len(of[skill])] for turn in range(max(map(len, of.values()))) for skill in of]
    taken: list[int] = []
    while len(taken) < min(budget, len(pool)):
        for target in turns[: min(budget, len(pool)) - len(taken)]:
            order = np.lexsort((hashed, -np.round(rows @ target, 6)))
            taken.append(next(int(at) for at in order if at not in taken))
    return taken


@pytest.mark.parametrize("candidates", [8, 1])
@pytest.mark.parametrize("budget", [1, 50, 299, 300, 9999])
def test_turns_are_those_of_the_plain_loop_however_many_candidates_are_kept(
    candidates: int, budget: int, pool_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rds, "CANDIDATES", candidates)
    monkeypatch.setattr("liit.selectors.directions.BLOCK_NUMBERS", 1)
    pool = pool_of(300)
    pool = replace(pool, vectors={"position-mean": pool.vectors["position-mean"]})
    made = get("rds-plus").choose(pool, budget, 0, 1, {})
    assert made.rank_n is not None
    assert made.index_n[np.argsort(made.rank_n)].tolist() == naive(pool, budget)
    assert set(made.scorer_n) == {"similarity"}


def test_a_skill_of_many_target_samples_takes_no_more_than_one_of_few(pool_of: Make) -> None:
    rows = np.repeat(np.eye(3, 8), 100, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(300, 8))
    targets = {"a": np.tile(np.eye(3, 8)[0], (20, 1)), "b": np.eye(3, 8)[1:2]}
    pool = Pool(
        np.arange(300, dtype=np.uint64),
        np.zeros(300, np.int32),
        vectors={"position-mean": rows.astype(np.float32)},
        targets=targets,
    )
    made = get("rds-plus").choose(pool, 60, 0, 1, {})
    assert np.bincount(made.index_n // 100, minlength=3).tolist() == [30, 30, 0]


def test_targets_that_cannot_be_compared_are_refused(pool_of: Make) -> None:
    pool = pool_of(40)
    with pytest.raises(ValueError, match="skill 'a' have shape"):
        get("rds-plus").choose(replace(pool, targets={"a": np.ones((2, 3))}), 5, 0, 1, {})
    with pytest.raises(ValueError, match="target vector 1 of skill 'a' is not finite"):
        get("rds-plus").choose(replace(pool, targets={"a": np.array([[1.0] * 16, [np.nan] * 16])}), 5, 0, 1, {})
