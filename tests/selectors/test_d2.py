from typing import Any

import numpy as np
import pytest

from liit.selectors import d2 as module
from liit.selectors import similarity
from liit.selectors.d2 import faded, graph, greedy, passed
from liit.selectors.priority import priority

OPTIONS: dict[str, Any] = {"k": 5, "forward": 1.0, "reverse": 0.5, "seed": 0}


def setting(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, difficulty, keys in ascending order."""
    chance = np.random.default_rng(seed)
    return (
        chance.normal(size=(size, 4)),
        chance.random(size),
        np.sort(chance.permutation(9 * size)[:size]).astype(np.uint64),
    )


def distances(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.linalg.norm(unit[:, None] - unit, axis=2)


def naive_graph(rows: np.ndarray, k: int) -> np.ndarray:
    distance = distances(rows)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :k]
    one_way = np.zeros_like(distance)
    for i, near in enumerate(nearest):
        one_way[i, near] = np.exp(-distance[i, near])
    return np.maximum(one_way, one_way.T)


def naive_d2(rows: np.ndarray, difficulty: np.ndarray, hashes: np.ndarray, budget: int) -> list[int]:
    """The published loop on dense matrices."""
    near = naive_graph(rows, 5)
    weight = difficulty + near @ difficulty
    fading = np.where(near > 0, np.sqrt(near), 0)  # reverse = 0.5
    chosen: list[int] = []
    for _ in range(budget):
        best = min((i for i in range(len(rows)) if i not in chosen), key=lambda i: (-weight[i], hashes[i]))
        chosen.append(best)
        weight = weight - fading[best] * max(weight[best], 0)
    return chosen


@pytest.mark.parametrize("block", [1, 1 << 24])
@pytest.mark.parametrize(("size", "k"), [(1, 5), (2, 5), (40, 5), (40, 1), (40, 60)])
def test_the_graph_is_the_plain_one(size: int, k: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "SIMILARITIES", block)
    rows, _, keys = setting(size)
    near = graph(rows, keys, k, seed=0)
    np.testing.assert_allclose(near.toarray(), naive_graph(rows, k), atol=1e-4)
    np.testing.assert_allclose(
        faded(near, 2.0).toarray(), np.where(near.toarray() > 0, near.toarray() ** 2, 0), atol=1e-6
    )


@pytest.mark.parametrize("budget", [1, 30, 70, 100, 120])
def test_the_lazy_heap_chooses_what_the_plain_loop_chooses(budget: int) -> None:
    rows, difficulty, keys = setting(120)
    hashes = priority(keys, "d2", 0, 0)
    chosen = passed(rows, difficulty, keys, budget, **OPTIONS)
    assert chosen.tolist() == sorted(naive_d2(rows, difficulty, hashes, budget))


def test_choice_goes_by_falling_weight_until_all_are_chosen() -> None:
    rows, difficulty, keys = setting(80)
    near = graph(rows, keys, 5, seed=0)
    chosen = greedy(difficulty, near, priority(keys, "d2", 0, 0), 80)
    assert sorted(chosen) == list(range(80))
    assert chosen[0] == np.argmax(difficulty)


def test_a_chosen_sample_keeps_its_near_copies_out() -> None:
    """The second choice is a copy of the first unless messages run back."""
    rows = np.repeat(np.eye(4), 10, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(40, 4))
    difficulty = np.repeat([4.0, 3.0, 2.0, 1.0], 10)
    keys = np.arange(40, dtype=np.uint64)
    spread = passed(rows, difficulty, keys, 4, k=9, forward=1.0, reverse=0.0, seed=0)
    greedy_only = passed(rows, difficulty, keys, 4, k=9, forward=1.0, reverse=1e9, seed=0)
    assert sorted(spread // 10) == [0, 1, 2, 3]
    assert set(greedy_only // 10) == {0}


def test_beyond_a_size_neighbours_come_from_cells_which_lose_nothing_of_groups_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, difficulty, keys = setting(400)
    rows = np.repeat(np.eye(8, 12), 50, axis=0) + np.pad(0.05 * rows, ((0, 0), (8, 0)))
    exact, whole = graph(rows, keys, 5, seed=0), passed(rows, difficulty, keys, 100, **OPTIONS)
    monkeypatch.setattr(module, "WHOLE", 100)
    np.testing.assert_allclose(graph(rows, keys, 5, seed=0).toarray(), exact.toarray(), atol=1e-4)
    assert passed(rows, difficulty, keys, 100, **OPTIONS).tolist() == whole.tolist()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("budget", [0, 10, 49, 50, 55, 60, 99])
def test_missing_difficulty_comes_last(broken: float, budget: int) -> None:
    rows, difficulty, keys = setting(60)
    difficulty[::6] = broken
    chosen = passed(rows, difficulty, keys, budget, **OPTIONS)
    assert len(set(chosen)) == min(budget, 60)
    assert np.isfinite(difficulty[chosen]).sum() == min(budget, 50)


def test_unusable_parameters_are_refused() -> None:
    rows, difficulty, keys = setting(10)
    with pytest.raises(ValueError, match=r"fading by 1\.0 and -2"):
        passed(rows, difficulty, keys, 3, **{**OPTIONS, "reverse": -2})
