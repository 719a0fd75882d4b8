"""Projections keep inner products, are the same everywhere, and see a gradient the same however it is held."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from liit.engine.scoring.projections import PROJECTIONS, Factored, Factors, Matrix, Projection, sides, signs, stacked

Product = Callable[[Projection], float]


def test_signs_are_the_same_bits_in_another_process() -> None:
    code = (
        "from liit.engine.scoring.projections import signs; print(signs(7, 5, 3, 'layers.1.q/left').flatten().tolist())"
    )
    other = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(signs(7, 5, 3, "layers.1.q/left").flatten().tolist())
    assert not torch.equal(signs(7, 5, 3, "a"), signs(7, 5, 3, "b"))


@pytest.mark.parametrize(("dimension", "expected"), [(1024, (32, 32)), (8192, (64, 128)), (12, (3, 4)), (7, (1, 7))])
def test_sides_multiply_to_the_dimension(dimension: int, expected: tuple[int, int]) -> None:
    assert sides(dimension) == expected


def random_factors(seed: int, samples: int, positions: int, outputs: int = 20, inputs: int = 12) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(samples, positions, outputs, generator=generator)
    return Factors(g, torch.randn(samples, positions, inputs, generator=generator))


def whole(gradient: Factors) -> torch.Tensor:
    return torch.einsum("bso,bsi->boi", gradient.g, gradient.a)


@pytest.mark.parametrize("kind", list(PROJECTIONS))
def test_a_gradient_is_projected_the_same_as_factors_and_as_a_matrix(kind: str) -> None:
    gradient = random_factors(0, 3, 6)
    projection = PROJECTIONS[kind](64, 0)
    from_factors, from_matrix = projection.project("w", gradient), projection.project("w", Matrix(whole(gradient)))
    torch.testing.assert_close(from_factors, from_matrix, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.squared_norm(), whole(gradient).square().sum((1, 2)))
    torch.testing.assert_close(Matrix(whole(gradient)).squared_norm(), gradient.squared_norm())


@pytest.mark.parametrize("kind", list(PROJECTIONS))
def test_a_sample_is_projected_alone_as_in_company(kind: str) -> None:
    together, projection = random_factors(1, 4, 5), PROJECTIONS[kind](64, 0)
    alone = Factors(together.g[2:3], together.a[2:3])
    torch.testing.assert_close(projection.project("w", together)[2:3], projection.project("w", alone))


@pytest.mark.parametrize("kind", list(PROJECTIONS))
@pytest.mark.parametrize("positions", [1, 5])
def test_inner_products_are_unbiased_and_vary_no_more_than_promised(kind: str, positions: int) -> None:
    """Bounds on the variance, in units of the squared norms: 2/P dense and sparse, (1 + 2/p)² - 1 factored, rank one."""
    x, y = random_factors(2, 1, positions), random_factors(3, 1, positions)
    y = Factors(torch.cat([x.g, y.g], 1), torch.cat([x.a, y.a], 1) / 2)  # correlated: the product is away from zero
    truth = float((whole(x) * whole(y)).sum())
    scale = float(x.squared_norm() * y.squared_norm())
    estimates = []
    for seed in range(200):
        projection = PROJECTIONS[kind](64, seed)
        estimates.append(float((projection.project("w", x) * projection.project("w", y)).sum()))
    deviation = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truth) < 4 * deviation, "biased: is the scale right?"
    chance = 1 + 4 * np.sqrt(2 / len(estimates))
    if kind != "factored":
        assert np.var(estimates) <= 2 / 64 * scale * chance
    elif positions == 1:
        assert np.var(estimates) <= ((1 + 2 / 8) ** 2 - 1) * scale * 4 * chance  # y is of rank two


def test_rank_one_gradients_keep_the_bound_of_the_factored_projection() -> None:
    generator = torch.Generator().manual_seed(0)
    g, h = torch.randn(2, 1, 1, 20, generator=generator).unbind(0)
    a, b = torch.randn(2, 1, 1, 12, generator=generator).unbind(0)
    x, y = Factors(g + h, a + b), Factors(h, b)
    estimates = [
        float((projection.project("w", x) * projection.project("w", y)).sum())
        for projection in (Factored(64, seed) for seed in range(200))
    ]
    assert np.var(estimates) <= ((1 + 2 / 8) ** 2 - 1) * float(x.squared_norm() * y.squared_norm())


@pytest.mark.parametrize("kind", list(PROJECTIONS))
def test_modules_add_up_without_bias(kind: str) -> None:
    factors = {"q": random_factors(4, 1, 3, 5, 7), "lora_A": random_factors(5, 1, 3, 2, 9)}  # r below the sides
    truth = sum(float(one.squared_norm()) for one in factors.values())
    estimates = []
    for seed in range(300):
        projection = PROJECTIONS[kind](64, seed)
        total = torch.stack([projection.project(name, one) for name, one in factors.items()]).sum(0)
        estimates.append(float((total**2).sum()))
    assert abs(np.mean(estimates) - truth) < 4 * np.std(estimates) / np.sqrt(len(estimates))


def test_weights_that_read_one_input_have_the_norm_of_all_of_them() -> None:
    first, second = random_factors(6, 3, 5), random_factors(7, 3, 5)
    beside = Factors(second.g, first.a)
    together = [one.squared_norm() for one in stacked([first, second, beside])]
    assert len(together) == 2
    expected = torch.stack([one.squared_norm() for one in (first, second, beside)]).sum(0)
    torch.testing.assert_close(torch.stack(together).sum(0), expected)


def test_the_norm_of_long_and_of_short_samples_is_the_same_number() -> None:
    long = random_factors(8, 2, 40, 6, 5)
    torch.testing.assert_close(long.squared_norm(), whole(long).square().sum((1, 2)))
