"""Task similarity against the formula written out (He et al.), and its edges."""

import math

import numpy as np
import pytest

from liit.selectors.likeness import likeness


def naive(means: dict[str, np.ndarray], old: int, new: int = -1) -> float:
    """Product over modalities of sigmoid((cos - mean of all pairs) / their deviation)."""
    product = 1.0
    for rows in means.values():
        cosines = {
            (i, j): float(rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]))
            for i in range(len(rows))
            for j in range(i)
        }
        values = list(cosines.values())
        z = (cosines[new % len(rows), old] - np.mean(values)) / np.std(values)
        product *= 1 / (1 + math.exp(-z))
    return product


def test_it_is_the_product_of_squashed_standardised_cosines() -> None:
    chance = np.random.default_rng(0)
    means = {name: chance.normal(size=(5, width)) for name, width in (("image", 8), ("instruction", 3), ("answer", 4))}
    assert likeness(means)[0] == pytest.approx([naive(means, old) for old in range(4)])
    assert likeness(means, 2) == pytest.approx(
        np.array([[naive(means, old, new) for old in range(3)] for new in (3, 4)])
    )
    scaled = {name: rows * chance.uniform(0.1, 9, size=(5, 1)) for name, rows in means.items()}
    assert likeness(scaled) == pytest.approx(likeness(means))


def test_a_single_pair_is_its_cosine() -> None:
    means = {"image": np.array([[1.0, 0], [1, 1]]), "answer": np.array([[2.0, 0], [5, 0]])}
    assert likeness(means)[0] == pytest.approx([math.sqrt(0.5)])


def test_what_only_one_task_has_makes_them_unlike_and_what_both_lack_alike() -> None:
    words = np.random.default_rng(1).normal(size=(4, 3))
    images = np.random.default_rng(2).normal(size=(4, 3))
    images[1] = 0
    assert likeness({"image": images, "answer": words})[0, 1] == 0
    images[3] = 0
    both, alone = likeness({"image": images, "answer": words}), likeness({"answer": words})
    assert both[0].tolist() == [0, alone[0, 1], 0]


def test_modalities_must_have_a_row_for_each_task() -> None:
    with pytest.raises(ValueError, match="one row per task"):
        likeness({"image": np.ones((3, 2)), "answer": np.ones((2, 2))})
