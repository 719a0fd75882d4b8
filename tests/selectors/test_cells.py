import numpy as np
import pytest

from liit.selectors import cells as module
from liit.selectors.cells import cells


def blobs(size: int, centres: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of any norm around some directions, their keys, and the direction that each belongs to."""
    chance = np.random.default_rng(seed)
    group = chance.integers(centres, size=size)
    rows = np.eye(centres, 32)[group] + 0.02 * chance.normal(size=(size, 32))
    rows *= chance.uniform(0.1, 9, size=(size, 1))
    return rows.astype(np.float16), chance.permutation(5 * size)[:size].astype(np.uint64), group


def pairs(labels: np.ndarray) -> np.ndarray:
    return labels[:, None] == labels


@pytest.mark.parametrize("few", [64, 3], ids=["careful start", "drawn start"])
def test_planted_groups_are_found_and_never_mixed(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", few)
    rows, keys, group = blobs(600, 8)
    found = cells(rows, keys, 8 if few > 3 else 30, seed=0)
    assert (pairs(found.labels_N) <= pairs(group)).all()
    assert few == 3 or (pairs(found.labels_N) == pairs(group)).all()


def test_centroids_are_means_of_unit_rows_and_distances_are_to_them() -> None:
    rows, keys, _ = blobs(400, 5)
    unit = rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    found = cells(rows, keys, 11, seed=0, largest=30)
    for k, centroid in enumerate(found.centroids_KP):
        np.testing.assert_allclose(centroid, unit[found.labels_N == k].mean(axis=0), atol=1e-5)
    naive = np.linalg.norm(unit - found.centroids_KP[found.labels_N], axis=1)
    np.testing.assert_allclose(found.distance_N, naive, atol=1e-5)
    assert found.sizes_K.min() > 0
    assert found.sizes_K.sum() == 400


def test_vectors_of_zero_belong_somewhere_and_move_no_centroid() -> None:
    rows, keys, _ = blobs(500, 4)
    rows[::5] = 0
    found = cells(rows, keys, 4, seed=0)
    unit = rows.astype(float) / np.maximum(np.linalg.norm(rows.astype(float), axis=1, keepdims=True), 1e-9)
    for k, centroid in enumerate(found.centroids_KP):
        own = unit[(found.labels_N == k) & rows.any(axis=1)]
        np.testing.assert_allclose(centroid, own.mean(axis=0), atol=1e-5)
    assert found.sizes_K.sum() == 500


@pytest.mark.parametrize("kind", ["apart", "all alike", "all zero", "one outlier"])
def test_no_cell_is_larger_than_allowed_whatever_the_rows(kind: str) -> None:
    rows, keys, _ = blobs(500, 4)
    if kind != "apart":
        rows[:] = rows[0] if kind == "all alike" else 0
    if kind == "one outlier":
        rows[:], rows[7] = 1, -1
    found = cells(rows, keys, 3, seed=0, largest=40)
    assert found.sizes_K.max() <= 40
    assert found.sizes_K.min() > 0


def test_a_cell_has_twenty_rows_on_average_however_many_are_asked_for() -> None:
    rows, keys, _ = blobs(400, 6)
    assert len(cells(rows, keys, 10_000, seed=0).centroids_KP) <= 20
    assert len(cells(rows[:7], keys[:7], 10_000, seed=0).centroids_KP) == 1


def test_row_order_means_nothing_and_the_seed_does() -> None:
    chance = np.random.default_rng(3)
    rows, keys = chance.normal(size=(700, 16)), chance.permutation(2000)[:700].astype(np.uint64)
    order = chance.permutation(700)
    whole, moved = cells(rows, keys, 30, seed=1, largest=50), cells(rows[order], keys[order], 30, seed=1, largest=50)
    assert (moved.labels_N == whole.labels_N[order]).all()
    assert (moved.centroids_KP == whole.centroids_KP).all()
    assert (cells(rows, keys, 30, seed=2, largest=50).labels_N != whole.labels_N).any()


def test_nothing_has_no_cells() -> None:
    found = cells(np.empty((0, 4), np.float32), np.empty(0, np.uint64), 5, seed=0)
    assert found.centroids_KP.shape == (0, 4)
    assert len(found.sizes_K) == 0


@pytest.mark.parametrize(("k", "largest"), [(0, 5), (5, 0)])
def test_cells_of_nothing_are_refused(k: int, largest: int) -> None:
    with pytest.raises(ValueError, match=f"cannot make {k} cells of at most {largest} rows"):
        cells(np.ones((3, 2)), np.arange(3, dtype=np.uint64), k, seed=0, largest=largest)
