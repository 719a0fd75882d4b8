import numpy as np
import pytest

from liit.selectors import coincide as module
from liit.selectors import discrepancy
from liit.selectors.coincide import flowing, spread, transferability
from liit.selectors.discrepancy import affinity, herd


def unit(size: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(size, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def gram(rows: np.ndarray, width: float) -> np.ndarray:
    rows = rows.astype(float)
    return np.exp(-((rows[:, None] - rows) ** 2).sum(axis=2) / (2 * width**2))


def mmd(kernel: np.ndarray, part: list[int]) -> float:
    return float(kernel.mean() + kernel[np.ix_(part, part)].mean() - 2 * kernel[:, part].mean())


def naive_herd(kernel: np.ndarray, count: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(count):
        left = [i for i in range(len(kernel)) if i not in chosen]
        chosen.append(min(left, key=lambda i: mmd(kernel, [*chosen, i])))
    return chosen


@pytest.mark.parametrize("small", [4096, 0], ids=["kept matrix", "by columns"])
@pytest.mark.parametrize(("size", "width"), [(1, 1.0), (9, 0.3), (40, 1.0)])
def test_the_running_sums_choose_what_the_formula_chooses(
    size: int, width: float, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discrepancy, "SMALL", small)
    monkeypatch.setattr(discrepancy, "BLOCK", 100)
    rows = unit(size, 5, size)
    kernel = gram(rows, width)
    means = affinity(rows, width)
    np.testing.assert_allclose(means, kernel.mean(axis=1), rtol=1e-6)
    assert herd(rows, means, size, width).tolist() == naive_herd(kernel, size)


def test_what_is_chosen_looks_more_like_the_cluster_than_chance_does() -> None:
    rows = unit(200, 4)
    kernel, chance = gram(rows, 1.0), np.random.default_rng(0)
    ours = mmd(kernel, herd(rows, affinity(rows, 1.0), 12, 1.0).tolist())
    assert ours < min(mmd(kernel, chance.choice(200, 12, replace=False).tolist()) for _ in range(200))


def test_transferability_leaves_near_copies_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CENTROIDS", 3)
    centroids = np.concatenate([unit(10, 3), unit(10, 3)[:4] * 0.2 + 0.001, np.zeros((1, 3))])
    norms = np.maximum(np.linalg.norm(centroids, axis=1), 1e-30)
    cosine = centroids @ centroids.T / np.outer(norms, norms)
    expected = [np.mean([cosine[i, j] for j in range(15) if j != i and cosine[i, j] <= 0.9] or [0]) for i in range(15)]
    assert (cosine > 0.9).sum() > 15
    np.testing.assert_allclose(transferability(centroids), expected, atol=1e-7)
    assert transferability(np.ones((3, 2))).tolist() == [0, 0, 0]
    assert len(transferability(np.empty((0, 4)))) == 0


def naive_flow(logits: np.ndarray, sizes: np.ndarray, total: int) -> list[int]:
    """The first round as the paper says it, for logits that exp can take."""
    weights, budget, left = np.exp(logits), [0] * len(sizes), total
    order = sorted(range(len(sizes)), key=lambda k: -weights[k])
    for place, k in enumerate(order):
        budget[k] = min(int(sizes[k]), int(left * weights[k] / weights[order[place:]].sum() + 0.5))
        left -= budget[k]
    return budget


def test_budgets_flow_from_the_largest_share_on() -> None:
    chance = np.random.default_rng(0)
    for _ in range(100):
        logits, sizes = chance.normal(size=6), chance.integers(20, 60, size=6)
        assert flowing(logits, sizes, 40).tolist() == naive_flow(logits, sizes, 40)
    assert flowing(np.array([0.0, 3.0]), np.array([50, 4]), 20).tolist() == [16, 4]


@pytest.mark.parametrize("scale", [1.0, 1e5], ids=["mild", "beyond exp"])
def test_budgets_are_exact_whatever_is_empty_or_full(scale: float) -> None:
    chance = np.random.default_rng(1)
    for _ in range(60):
        sizes = chance.integers(0, 5, size=8) * chance.integers(0, 2, size=8)
        for total in (0, 1, 5, int(sizes.sum()), 99):
            budget = flowing(scale * chance.normal(size=8), sizes, total)
            assert budget.sum() == min(total, sizes.sum())
            assert (budget <= sizes).all()
    assert flowing(np.array([9.0, 8.0, 0.0, 0.0, 0.0]), np.array([9, 9, 0, 0, 0]), 1).tolist() == [1, 0, 0, 0, 0]


def test_the_choice_is_exact_and_only_the_language_half_says_what_transfers() -> None:
    rows, keys = unit(300, 8), np.arange(300, dtype=np.uint64)

    def choose(budget: int, language: list[int] | None) -> list[int]:
        return spread(rows, keys, budget, k=9, temperature=0.1, width=1.0, language=language, seed=0).tolist()

    for budget in (0, 1, 8, 120, 300, 999):
        assert len(set(choose(budget, None))) == min(budget, 300)
    assert choose(60, [0, 4]) != choose(60, [4, 8])
    with pytest.raises(ValueError, match=r"language is \[3, 3\]"):
        choose(60, [3, 3])
