"""The projection keeps inner products, and is the same everywhere."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from liit.engine.sketch import Sketcher, sides, signs, squared_norm


def test_signs_are_the_same_bits_in_another_process() -> None:
    code = "from liit.engine.sketch import signs; print(signs(7, 5, 3, 'layers.1.q/left').flatten().tolist())"
    other = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(signs(7, 5, 3, "layers.1.q/left").flatten().tolist())
    assert not torch.equal(signs(7, 5, 3, "a"), signs(7, 5, 3, "b"))


@pytest.mark.parametrize(("dimension", "expected"), [(1024, (32, 32)), (8192, (64, 128)), (12, (3, 4)), (7, (1, 7))])
def test_sides_multiply_to_the_dimension(dimension: int, expected: tuple[int, int]) -> None:
    assert sides(dimension) == expected


def test_inner_products_are_unbiased_over_seeds_within_the_bound_of_rank_one_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    g, h = torch.randn(2, 1, 20, generator=generator).unbind(0)
    a, b = torch.randn(2, 1, 12, generator=generator).unbind(0)
    g, h, a, b = g + h, h, a + b, b  # correlated, so the product is away from zero
    truth = float((g * h).sum() * (a * b).sum())
    estimates = []
    for seed in range(400):
        sketcher = Sketcher(64, seed)
        left, right = (sketcher.project("w", x[:, None], y[:, None]) for x, y in ((g, a), (h, b)))
        estimates.append(float((left * right).sum()))
    scale = float(g.norm() * h.norm() * a.norm() * b.norm())
    deviation = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truth) < 4 * deviation, "biased: is the scale 1/√side on both sides?"
    assert np.var(estimates) <= ((1 + 2 / 8) ** 2 - 1) * scale**2


def test_modules_add_up_without_bias() -> None:
    generator = torch.Generator().manual_seed(1)
    factors = [
        (torch.randn(1, 3, o, generator=generator), torch.randn(1, 3, i, generator=generator))
        for o, i in ((5, 7), (9, 4))
    ]
    truth = sum(float(squared_norm(g, a)) for g, a in factors)
    estimates = []
    for seed in range(600):
        sketcher = Sketcher(64, seed)
        total = torch.stack([sketcher.project(str(name), g, a) for name, (g, a) in enumerate(factors)]).sum(0)
        estimates.append(float((total**2).sum()))
    assert abs(np.mean(estimates) - truth) < 4 * np.std(estimates) / np.sqrt(len(estimates))


def test_the_gram_identity_is_the_norm_of_the_matrix() -> None:
    generator = torch.Generator().manual_seed(2)
    g, a = torch.randn(3, 6, 5, generator=generator), torch.randn(3, 6, 8, generator=generator)
    matrix = torch.einsum("bso,bsi->boi", g, a)
    torch.testing.assert_close(squared_norm(g, a), (matrix**2).sum((1, 2)))
