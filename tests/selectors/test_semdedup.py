from itertools import pairwise

import numpy as np
import pytest

from liit.selectors import semdedup as module
from liit.selectors.cells import cells
from liit.selectors.priority import priority
from liit.selectors.semdedup import STEPS, deduplicated, greedy


def unit(size: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(size, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def keys(size: int) -> np.ndarray:
    return np.random.default_rng(size).permutation(9 * size)[:size].astype(np.uint64)


def naive_greedy(rows: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i, row in enumerate(rows):
        if not kept or (rows[kept] @ row).max() <= threshold:
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [-1.1, 0.0, 0.3, 0.6, 0.9, 1.1])
@pytest.mark.parametrize("block", [1, 7, 512])
def test_the_blockwise_choice_is_the_plain_loop(threshold: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    rows = unit(150, 4)
    kept, similarity = greedy(rows, threshold)
    assert np.flatnonzero(kept).tolist() == naive_greedy(rows, threshold)
    for i in np.flatnonzero(kept)[1:]:
        assert similarity[i] == pytest.approx((rows[:i][kept[:i]] @ rows[i]).max(), abs=1e-6)


@pytest.mark.parametrize("k", [1, 5])
def test_one_threshold_explains_the_whole_choice(k: int) -> None:
    """That of the plain loop in every cell, hard first; where the threshold jumps over the budget, what is too many."""
    rows, names = unit(70, 3), keys(70)
    found = cells(rows, names, k, seed=3)
    hashes = priority(names, "semdedup", 3, 0)
    ordered = [
        sorted(np.flatnonzero(found.labels_N == c), key=lambda i: (-found.distance_N[i], hashes[i]))
        for c in range(len(found.centroids_KP))
    ]
    choices: list[list[int]] = []  # at every threshold that can make a difference, the least similar first
    for threshold in (np.unique(np.rint(rows @ rows.T * STEPS)) + 0.5) / STEPS:
        kept = [[int(cell[i]) for i in naive_greedy(rows[cell], threshold)] for cell in ordered]
        before = {i: (rows[cell[:n]] @ rows[i]).max(initial=-9) for cell in kept for n, i in enumerate(cell)}
        choices.append(sorted(before, key=lambda i: (np.rint(before[i] * STEPS), hashes[i])))
    for budget in (10, 25, 40, 60):
        chosen = deduplicated(rows, names, budget, k=k, largest=1000, seed=3).tolist()
        assert any(
            (sorted(more[:budget]) == chosen and len(less) < budget <= len(more)) or sorted(more) == chosen
            for less, more in pairwise(choices)
        ), f"no threshold gives these {budget}"


@pytest.mark.parametrize("budget", [0, 1, 4, 5, 6, 100, 249, 250, 251, 10**6])
@pytest.mark.parametrize("largest", [20, 1000])
def test_the_count_is_exact(budget: int, largest: int) -> None:
    rows = np.concatenate([unit(200, 6), np.repeat(unit(1, 6, 9), 50, axis=0)])
    chosen = deduplicated(rows, keys(250), budget, k=5, largest=largest, seed=0)
    assert len(np.unique(chosen)) == len(chosen) == min(budget, 250)
    assert (np.diff(chosen) > 0).all()


def test_copies_go_first_and_chance_says_which() -> None:
    rows = np.concatenate([unit(60, 16), np.repeat(unit(1, 16, 5), 20, axis=0)]).astype(np.float16)
    stays = [set(deduplicated(rows, keys(80), 61, k=1, largest=100, seed=seed).tolist()) for seed in range(8)]
    assert all(len(chosen - set(range(60))) == 1 for chosen in stays)
    assert len({min(chosen - set(range(60))) for chosen in stays}) > 2
    assert set(range(60)) < set(deduplicated(rows, keys(80), 65, k=1, largest=100, seed=0).tolist())


def test_of_two_near_copies_the_one_far_from_the_centroid_stays() -> None:
    angle = np.deg2rad([-20, 0, 20, 60, 63])
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    assert deduplicated(rows, keys(5), 4, k=1, largest=10, seed=0).tolist() == [0, 1, 2, 4]


def test_a_chain_loses_its_middle_and_not_both_ends() -> None:
    """Hard first: the ends of a chain are kept, and what resembles them goes."""
    angle = np.deg2rad([0, 25, 50])
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    assert deduplicated(rows, keys(3), 2, k=1, largest=10, seed=0).tolist() == [0, 2]


def test_a_broken_embedding_is_named_and_a_negative_budget_refused() -> None:
    rows, names = unit(30, 4), keys(30)
    with pytest.raises(ValueError, match="cannot keep -1 samples"):
        deduplicated(rows, names, -1, k=1, largest=10, seed=0)
    rows[3, 2] = np.nan
    with pytest.raises(ValueError, match=f"key {names[3]} is not finite"):
        deduplicated(rows, names, 5, k=1, largest=10, seed=0)
