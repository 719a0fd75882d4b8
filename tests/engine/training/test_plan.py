"""Laws of the training plan, by brute force over small cases."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from liit.engine.training.plan import Plan, dropout_seed, rate

CASES = list(itertools.product((1, 2, 5, 8, 23), (1, 4, 8), (1, 2, 3), (1, 2, 5)))  # rows, batch, micro-batch, workers


def plan_of(n: int, batch: int, micro: int, *, seed: int = 3, epochs: int = 2) -> Plan:
    generator = np.random.default_rng(n)
    return Plan(generator.integers(5, 90, n), generator.random(n) < 0.4, seed, epochs, batch, micro)


@pytest.mark.parametrize(("n", "batch", "micro", "workers"), CASES)
def test_every_row_counts_exactly_once_in_every_epoch(n: int, batch: int, micro: int, workers: int) -> None:
    plan = plan_of(n, batch, micro)
    for epoch in range(plan.epochs):
        counts: Counter[int] = Counter()
        for position, rank in itertools.product(range(plan.steps_per_epoch), range(workers)):
            for part in plan.share(epoch * plan.steps_per_epoch + position, rank, workers):
                for row, weight in zip(part.rows, part.weights, strict=True):
                    counts[row] += weight
        assert counts == dict.fromkeys(range(n), 1)


@pytest.mark.parametrize(("n", "batch", "micro", "workers"), CASES)
def test_ranks_march_in_step_and_agree_on_images(n: int, batch: int, micro: int, workers: int) -> None:
    plan = plan_of(n, batch, micro)
    for step in range(plan.steps):
        shares = [plan.share(step, rank, workers) for rank in range(workers)]
        assert len({len(share) for share in shares}) == 1
        assert len(shares[0]) == math.ceil(len(plan.batch(step)) / (workers * micro))
        for parts in zip(*shares, strict=True):
            assert all(len(part.rows) >= 1 and sum(part.weights) <= micro for part in parts)
            assert len({bool(plan.images_N[list(part.rows)].any()) for part in parts}) == 1


def test_a_step_takes_the_same_rows_for_any_workers_and_micro_batch() -> None:
    for step in range(plan_of(23, 8, 1).steps):
        taken = set()
        for micro, workers in itertools.product((1, 2, 8), (1, 2, 3)):
            parts = [part for rank in range(workers) for part in plan_of(23, 8, micro).share(step, rank, workers)]
            rows = [row for part in parts for row, weight in zip(part.rows, part.weights, strict=True) if weight]
            taken.add(tuple(sorted(rows)))
        assert len(taken) == 1


@pytest.mark.parametrize(("n", "batch", "micro", "workers"), CASES)
def test_a_budget_of_tokens_bounds_padded_micro_batches_and_changes_no_step(
    n: int, batch: int, micro: int, workers: int
) -> None:
    for tokens in (1, 100, 250):
        plan = replace(plan_of(n, batch, micro), micro_batch_tokens=tokens)
        for step in range(plan.steps):
            shares = [plan.share(step, rank, workers) for rank in range(workers)]
            assert len({len(share) for share in shares}) == 1
            taken = []
            for part in (part for share in shares for part in share):
                own = [row for row, weight in zip(part.rows, part.weights, strict=True) if weight]
                width = max((int(plan.lengths_N[row]) for row in own), default=0)
                assert len(own) <= micro
                assert len(own) <= 1 or len(own) * width <= tokens
                taken += own
            assert sorted(taken) == sorted(plan.batch(step).tolist())


def test_micro_batches_are_filled_as_far_as_the_budget_reaches() -> None:
    plan = Plan(np.array([10, 80, 20, 40, 10, 10]), np.zeros(6, dtype=bool), 3, 1, 6, 6, 80)
    assert [sorted(plan.lengths_N[list(part.rows)].tolist()) for part in plan.share(0, 0, 1)] == [
        [80],
        [20, 40],
        [10, 10, 10],
    ]


def test_the_order_comes_from_seed_and_epoch() -> None:
    plan = plan_of(50, 50, 4)
    assert plan.batch(0).tolist() == plan_of(50, 50, 4).batch(0).tolist()
    assert plan.batch(0).tolist() != plan.batch(1).tolist()
    assert plan.batch(0).tolist() != plan_of(50, 50, 4, seed=4).batch(0).tolist()


def test_rates_rise_to_the_peak_and_fall_by_the_schedule() -> None:
    cosine, linear, constant = (
        [rate(step, 20, schedule, 0.2) for step in range(20)] for schedule in ("cosine", "linear", "constant")
    )
    assert cosine[:4] == linear[:4] == constant[:4] == [0.25, 0.5, 0.75, 1.0]
    assert constant[4:] == [1.0] * 16
    np.testing.assert_allclose(linear[4:], np.linspace(1, 0, 17)[:-1])
    np.testing.assert_allclose(cosine[4:], (1 + np.cos(np.pi * np.arange(16) / 16)) / 2)


def test_dropout_seeds_differ_between_steps_and_ranks() -> None:
    seeds = {dropout_seed(seed, step, rank) for seed in range(3) for step in range(20) for rank in range(4)}
    assert len(seeds) == 3 * 20 * 4
    assert dropout_seed(1, 2, 3) == dropout_seed(1, 2, 3)
