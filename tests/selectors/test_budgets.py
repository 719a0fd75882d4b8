from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize

from liit.selectors.budgets import density_weights, project_box_simplex, proportional, rounded, uniform


def cases(count: int) -> list[tuple[np.ndarray, np.random.Generator]]:
    chance = np.random.default_rng(0)
    return [(chance.integers(chance.integers(1, 40), size=chance.integers(1, 9)), chance) for _ in range(count)]


def test_uniform_is_the_max_min_fair_share_and_no_other() -> None:
    """Of all whole-number budgets, the sorted one that is lexicographically largest."""
    chance = np.random.default_rng(1)
    for _ in range(60):
        sizes = chance.integers(0, 6, size=4)
        for total in range(int(sizes.sum()) + 3):
            feasible = [b for b in product(*(range(n + 1) for n in sizes)) if sum(b) == min(total, sizes.sum())]
            assert sorted(uniform(sizes, total).tolist()) == max(sorted(b) for b in feasible)


def test_the_remainder_goes_to_the_largest_clusters() -> None:
    assert uniform(np.array([5, 9, 9, 7]), 10).tolist() == [2, 3, 3, 2]
    assert uniform(np.array([1, 5, 9, 7]), 12).tolist() == [1, 3, 4, 4]


def naive_highest_averages(weights: np.ndarray, sizes: np.ndarray, total: int) -> list[int]:
    budget = [0] * len(sizes)
    for _ in range(min(total, int(sizes.sum()))):
        open_clusters = [k for k in range(len(sizes)) if budget[k] < sizes[k]]
        budget[max(open_clusters, key=lambda k: (weights[k] / (2 * budget[k] + 1), -k))] += 1
    return budget


def test_proportional_gives_seat_after_seat_to_the_highest_average() -> None:
    for sizes, chance in cases(200):
        weights = chance.random(len(sizes)) ** 4
        total = int(chance.integers(sizes.sum() + 5))
        assert proportional(weights, sizes, total).tolist() == naive_highest_averages(weights, sizes, total)


@pytest.mark.parametrize("mode", ["uniform", "proportional", "proportional with zeros"])
def test_budgets_are_exact_capped_and_monotone_in_the_total(mode: str) -> None:
    for sizes, chance in cases(60):
        weights = chance.random(len(sizes)) ** 8 * (chance.random(len(sizes)) > 0.3 if "zeros" in mode else 1)
        before = np.zeros(len(sizes), np.int64)
        for total in range(int(sizes.sum()) + 3):
            budget = uniform(sizes, total) if mode == "uniform" else proportional(weights, sizes, total)
            assert budget.sum() == min(total, sizes.sum())
            assert (budget <= sizes).all()
            assert (budget >= before).all(), f"{sizes} lost a sample when the total rose to {total}"
            before = budget


def test_equal_weights_are_uniform_up_to_who_gets_the_remainder() -> None:
    for sizes, chance in cases(100):
        total = int(chance.integers(sizes.sum() + 1))
        equal = proportional(np.ones(len(sizes)), sizes, total)
        assert sorted(equal) == sorted(uniform(sizes, total))


def test_the_scale_of_the_weights_means_nothing() -> None:
    sizes, weights = np.array([50, 500, 5000]), np.array([0.1, 0.2, 0.7])
    assert (proportional(weights, sizes, 999) == proportional(weights * 1e200, sizes, 999)).all()


def test_millions_of_samples_are_shared_as_exactly_as_ten() -> None:
    chance = np.random.default_rng(3)
    sizes, weights = chance.integers(1, 2000, size=5000), chance.lognormal(sigma=3, size=5000)
    assert proportional(weights, sizes, 1_000_003).sum() == uniform(sizes, 1_000_003).sum() == 1_000_003


@pytest.mark.parametrize("weights", [[1.0, -1.0], [1.0, np.nan], [1.0]])
def test_unusable_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        proportional(np.array(weights), np.array([1, 2]), 2)


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 samples"):
        uniform(np.array([1, 2]), -1)


def test_the_projection_solves_the_quadratic_program() -> None:
    chance = np.random.default_rng(4)
    for _ in range(20):
        target, lower = chance.normal(size=5, scale=3), chance.random(5)
        upper = lower + 3 * chance.random(5)
        total = chance.uniform(lower.sum(), upper.sum())
        found = project_box_simplex(target, lower, upper, total)
        assert found.sum() == pytest.approx(total)
        solved = minimize(
            lambda x, target=target: ((x - target) ** 2).sum(),
            np.clip(target, lower, upper),
            jac=lambda x, target=target: 2 * (x - target),
            bounds=list(zip(lower, upper, strict=True)),
            constraints={"type": "eq", "fun": lambda x, total=total: x.sum() - total, "jac": lambda x: np.ones(5)},
            method="SLSQP",
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(found, solved.x, atol=1e-5)


def test_a_projection_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="sum to 9"):
        project_box_simplex(np.ones(2), np.zeros(2), np.full(2, 4), 9)


def test_rounding_keeps_the_sum_and_stays_beside_each_share() -> None:
    shares = project_box_simplex(np.random.default_rng(5).random(50) * 9, np.zeros(50), np.full(50, 7.0), 180)
    whole = rounded(shares)
    assert whole.sum() == 180
    assert (np.abs(whole - shares) < 1).all()


def test_density_weights_follow_the_papers_formula_on_the_samples_themselves() -> None:
    chance = np.random.default_rng(6)
    rows = chance.normal(size=(40, 5)) + np.repeat(chance.normal(size=(4, 5)) * 2, 10, axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = rows.reshape(4, 10, 5).mean(axis=1)
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    intra = np.array([np.mean(1 - rows[10 * k : 10 * k + 10] @ unit[k]) for k in range(4)])
    inter = np.array([np.mean(sorted(1 - unit[k] @ unit[j] for j in range(4) if j != k)[:2]) for k in range(4)])
    expected = np.exp(intra * inter / 0.1) / np.exp(intra * inter / 0.1).sum()
    np.testing.assert_allclose(density_weights(means, neighbours=2), expected)


def test_one_cluster_has_all_the_density() -> None:
    assert density_weights(np.ones((1, 3)) / 3).tolist() == [1.0]
