import numpy as np
import pytest

from liit.selectors.budgets import density_weights, project_box_simplex
from liit.selectors.cells import cells
from liit.selectors.density import density_budgets, thinned


def clusters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Centroids of different spread, and sizes."""
    chance = np.random.default_rng(seed)
    directions = chance.normal(size=(count, 8))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * chance.uniform(0.2, 1, size=(count, 1)), chance.integers(1, 60, size=count)


@pytest.mark.parametrize("seed", range(20))
def test_the_shares_meet_the_conditions_of_karush_kuhn_and_tucker(seed: int) -> None:
    """One multiplier for the sum; a bound holds only where it is in the way of p N + λ."""
    centroids, sizes = clusters(12, seed)
    total = int(np.random.default_rng(seed).integers(12, sizes.sum() + 1))
    wanted = density_weights(centroids, temperature=0.05) * total
    lower, upper = np.minimum(sizes, 1.0), sizes.astype(float)
    share = project_box_simplex(wanted, lower, upper, total)
    inside = (share > lower + 1e-9) & (share < upper - 1e-9)
    shift = share - wanted
    multiplier = shift[inside].mean() if inside.any() else shift[share <= lower + 1e-9].min(initial=np.inf)
    assert share.sum() == pytest.approx(total)
    np.testing.assert_allclose(shift[inside], multiplier, atol=1e-7)
    assert (shift[(share <= lower + 1e-9) & (lower < upper)] >= multiplier - 1e-7).all()
    assert (shift[(share >= upper - 1e-9) & (lower < upper)] <= multiplier + 1e-7).all()
    budgets = density_budgets(centroids, sizes, total, temperature=0.05)
    assert (np.abs(budgets - share) < 1).all(), "rounding moved a share by a whole sample"


@pytest.mark.parametrize("minimum", [0, 1, 5])
@pytest.mark.parametrize("total", [0, 1, 7, 30, 200, 10**6])
def test_budgets_are_exact_and_give_every_cluster_its_minimum(minimum: int, total: int) -> None:
    for seed in range(10):
        centroids, sizes = clusters(9, seed)
        budgets = density_budgets(centroids, sizes, total, minimum=minimum, temperature=0.01)
        assert budgets.sum() == min(total, sizes.sum())
        assert (budgets <= sizes).all()
        if total >= np.minimum(sizes, minimum).sum():
            assert (budgets >= np.minimum(sizes, minimum)).all()


def test_inside_a_cluster_the_farthest_from_the_centroid_stay() -> None:
    chance = np.random.default_rng(0)
    rows, keys = chance.normal(size=(400, 8)), chance.permutation(900)[:400].astype(np.uint64)
    found = cells(rows, keys, 6, seed=0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centre = found.centroids_KP / np.linalg.norm(found.centroids_KP, axis=1, keepdims=True)
    cosine = np.einsum("np,np->n", unit, centre[found.labels_N])
    chosen = thinned(rows, keys, 120, k=6, minimum=1, temperature=0.1, neighbours=3, seed=0)
    out = np.setdiff1d(np.arange(400), chosen)
    for k in range(6):
        stay, go = chosen[found.labels_N[chosen] == k], out[found.labels_N[out] == k]
        assert cosine[stay].max(initial=-1) <= cosine[go].min(initial=1) + 1e-6


def test_unusable_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="minimum -1"):
        density_budgets(*clusters(3, 0), 5, minimum=-1)
    with pytest.raises(ValueError, match="-5 samples"):
        density_budgets(*clusters(3, 0), -5)
