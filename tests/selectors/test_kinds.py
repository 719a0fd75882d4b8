"""Effective kinds and coverage against their definitions."""

import math

import numpy as np
import pytest

from liit.selectors.kinds import coverage, effective, rare


@pytest.mark.parametrize("kinds", [1, 2, 7, 46])
def test_even_shares_count_every_kind_and_one_that_has_all_counts_one(kinds: int) -> None:
    assert effective(np.full(kinds, 13)) == pytest.approx(kinds)
    assert effective(np.eye(kinds, dtype=int)[0] * 50) == pytest.approx(1)
    assert effective(np.zeros(kinds, int)) == 0


def test_it_is_the_naive_formula_and_neither_order_nor_scale_nor_empty_kinds_change_it() -> None:
    counts = np.random.default_rng(0).integers(1, 99, size=20)
    naive = math.exp(-sum(n / counts.sum() * math.log(n / counts.sum()) for n in counts.tolist()))
    assert effective(counts) == pytest.approx(naive)
    assert effective(np.concatenate([counts[::-1] * 3, [0, 0]])) == pytest.approx(naive)


def test_moving_a_sample_from_a_larger_kind_to_a_smaller_one_raises_it() -> None:
    counts = np.array([30, 20, 5])
    assert effective(counts + np.array([-1, 0, 1])) > effective(counts)


def test_rare_is_what_chance_expects_less_than_one_of_and_coverage_what_is_there_of_it() -> None:
    pool, chosen = np.array([980, 10, 9, 1, 0]), np.array([99, 0, 1, 0, 0])
    assert rare(pool, 100).tolist() == [False, False, True, True, False]
    assert coverage(pool, chosen) == 0.5
    assert coverage(np.array([5, 5]), np.array([5, 5])) == 1
