import numpy as np
import pytest

from liit.selectors.multiway import choose_score, choose_scores, score_entropy

NAMES = ("wide", "peaked", "skewed", "two-humped")


def scores(size: int, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    humps = chance.normal(size=size) * 0.02 + chance.integers(2, size=size)
    return np.stack([chance.random(size), chance.laplace(size=size), chance.pareto(3, size=size), humps], axis=1)


def test_entropy_is_equation_4_with_the_correction_of_miller_and_madow() -> None:
    values = np.random.default_rng(1).normal(size=1000)
    middle = np.sort(values)[50:-50]
    share = np.histogram(middle, bins=50)[0] / 900
    share = share[share > 0]
    expected = -np.sum(share * np.log(share)) + (len(share) - 1) / (2 * 900)
    assert score_entropy(values) == pytest.approx(expected, abs=1e-12)


def test_the_uniform_score_tells_most_apart() -> None:
    assert choose_score(scores(5000), NAMES) == 0


@pytest.mark.parametrize("seed", range(5))
def test_units_and_zero_points_do_not_matter(seed: int) -> None:
    """The released code chose the score of least variance."""
    values = scores(700, seed)
    chance = np.random.default_rng(seed)
    rescaled = values * np.exp(chance.normal(size=4, scale=5)) + chance.normal(size=4, scale=100)
    entropies = [score_entropy(column) for column in values.T]
    np.testing.assert_allclose([score_entropy(column) for column in rescaled.T], entropies, atol=0.01)
    assert choose_score(rescaled, NAMES) == choose_score(values, NAMES) == int(np.argmax(entropies))


def test_the_sign_of_a_score_does_not_matter() -> None:
    for column in scores(997).T:
        assert score_entropy(-column) == pytest.approx(score_entropy(column), abs=1e-9)


@pytest.mark.parametrize("dead", [0.0, 3.5, np.nan, np.inf])
def test_constant_and_missing_scores_are_never_chosen(dead: float) -> None:
    values = scores(300)
    values[:, :3] = dead
    assert choose_score(values, NAMES) == 3
    values[:, 3] = dead
    assert choose_score(values, NAMES) is None
    assert choose_scores(list(values.T), np.arange(300) % 2, 2).tolist() == [-1, -1]


def test_a_score_that_hardly_varies_is_the_last_resort() -> None:
    values = np.zeros((1000, 2))
    values[:10, 1] = 1
    assert choose_score(values, ("constant", "rare")) == 1


def test_equal_scores_are_chosen_in_their_order() -> None:
    column = scores(300)[:, 1]
    assert choose_score(np.stack([column, column], axis=1), ("a", "b")) == 0


def test_each_cluster_chooses_for_itself() -> None:
    labels = np.random.default_rng(2).integers(4, size=4000)
    values = scores(4000)
    values[labels == 2, 0] = 1.0
    expected = [choose_score(values[labels == k], NAMES) for k in range(4)]
    assert choose_scores(list(values.T), labels, 4).tolist() == expected
    assert expected[2] != 0


def test_a_small_cluster_takes_the_score_that_is_best_overall_and_varies_within_it() -> None:
    labels = np.zeros(3000, int)
    labels[:5], labels[5:10] = 1, 2
    values = scores(3000)
    values[labels == 2, 0] = 0.5
    overall = np.argsort([-score_entropy(column) for column in values.T])
    assert choose_scores(list(values.T), labels, 4).tolist() == [overall[0], overall[0], overall[1], -1]


def test_order_of_samples_does_not_matter() -> None:
    values, labels = scores(2000), np.random.default_rng(3).integers(5, size=2000)
    order = np.random.default_rng(4).permutation(2000)
    assert (choose_scores(list(values[order].T), labels[order], 5) == choose_scores(list(values.T), labels, 5)).all()


def test_columns_without_names_are_refused() -> None:
    with pytest.raises(ValueError, match="column for each name"):
        choose_score(scores(10), ("only",))


@pytest.mark.parametrize("missing", [5, 6])
def test_a_score_counts_where_95_of_100_have_it(missing: int) -> None:
    values = scores(1000).reshape(10, 100, 4)[0]
    values[:missing, 0] = np.nan
    assert (choose_score(values, NAMES) == 0) == (missing == 5)
    assert choose_scores(list(values.T), np.zeros(100, int), 1).tolist() == [choose_score(values, NAMES)]
