from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from liit.selectors import kmeans
from liit.selectors.clustering import cluster
from liit.selectors.directions import directions
from liit.selectors.kmeans import assign, lloyd, seeds
from liit.selectors.ward import elbow, groups, ward


def blobs(size: int, k: int, noise: float = 0.05, width: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around k random directions, and which direction each belongs to."""
    chance = np.random.default_rng(seed)
    centers = chance.normal(size=(k, width))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    truth = chance.integers(k, size=size)
    rows = centers[truth] + noise * chance.normal(size=(size, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth


def keys(size: int) -> np.ndarray:
    return np.random.default_rng(size).permutation(7 * size)[:size].astype(np.uint64)


def in_place(rows: np.ndarray) -> kmeans.Directions:
    return directions(rows, keys(len(rows)), np.arange(len(rows)))


def naive_wss(rows: np.ndarray, labels: np.ndarray) -> float:
    rows = rows.astype(np.float64)
    return sum(((rows[labels == k] - rows[labels == k].mean(axis=0)) ** 2).sum() for k in np.unique(labels))


def test_separated_blobs_are_found_and_the_elbow_counts_them() -> None:
    for k in (3, 7, 12):
        rows, truth = blobs(1500, k, seed=k)
        found = cluster(rows, keys(1500), k_grid=range(2, 25), seed=0)
        assert found.k == k
        assert adjusted_rand_score(truth, found.labels_N) > 0.999
        assert found.margin > 0.3


def test_overlapping_blobs_are_fitted_as_well_as_scikit_learn_does() -> None:
    rows, _ = blobs(3000, 12, noise=0.25)
    ours = cluster(rows, keys(3000), k_grid=[12], seed=0)
    theirs = KMeans(12, n_init=5, random_state=0).fit(rows)
    assert naive_wss(rows, ours.labels_N) < 1.03 * theirs.inertia_
    assert ours.wss_by_k[12] == pytest.approx(naive_wss(rows, ours.labels_N), rel=1e-3)
    assert ours.wss == pytest.approx(naive_wss(rows, ours.labels_N), rel=1e-5)


def test_the_curve_from_one_fit_is_near_a_fit_for_every_k() -> None:
    rows, _ = blobs(2000, 8, noise=0.2)
    curve = cluster(rows, keys(2000), k_grid=range(4, 21), seed=0).wss_by_k
    for k in (4, 8, 12, 16):
        assert curve[k] < 1.08 * KMeans(k, n_init=3, random_state=0).fit(rows).inertia_


def test_wss_never_rises_during_lloyd_iterations() -> None:
    rows = in_place(blobs(2000, 30, noise=0.3)[0])
    bad_start = rows.take(np.arange(20))
    partition, wss = lloyd(rows, bad_start, 25, 0.0)
    assert len(wss) > 5
    assert all(after <= before * (1 + 1e-7) for before, after in pairwise(wss))
    assert partition.wss == pytest.approx(naive_wss(rows.vectors_NP, partition.labels_N), rel=1e-6)


def test_an_empty_cluster_splits_another() -> None:
    rows = in_place(blobs(500, 6)[0])
    far_away = np.full((5, 16), 9.0, np.float32)
    start = np.concatenate([rows.take(np.arange(1)), far_away])
    partition, wss = lloyd(rows, start, 25, 1e-4)
    assert (partition.counts_K > 0).all()
    assert wss[-1] < 0.6 * wss[0]


def test_ward_increases_are_exact_differences_of_wss_and_each_merge_is_the_cheapest() -> None:
    rows, _ = blobs(300, 9, noise=0.4)
    rows_in_order = in_place(rows)
    partition = assign(rows_in_order, seeds(rows_in_order, 9, np.random.default_rng(0)))
    merges, increases = ward(partition.centroids_KP, partition.counts_K)
    labels = partition.labels_N
    for step, (kept, absorbed) in enumerate(merges):
        alive = np.unique(labels)
        rises = {
            (a, b): naive_wss(rows, np.where(labels == b, a, labels)) - naive_wss(rows, labels)
            for a, b in combinations(alive, 2)
        }
        assert rises[(kept, absorbed)] == pytest.approx(min(rises.values()), rel=1e-5)
        assert increases[step] == pytest.approx(rises[(kept, absorbed)], rel=1e-5)
        labels = np.where(labels == absorbed, kept, labels)
        assert (groups(merges, 9, 8 - step)[partition.labels_N] == np.unique(labels, return_inverse=True)[1]).all()


def test_a_partition_merged_has_the_sums_of_its_union() -> None:
    rows = in_place(blobs(300, 6)[0])
    partition = assign(rows, seeds(rows, 6, np.random.default_rng(0)))
    group_K = np.array([0, 1, 0, 2, 2, 1])
    merged = partition.merged(group_K)
    again = kmeans.tally(rows, group_K[partition.labels_N].astype(np.int32), 3)
    assert (merged.counts_K == again.counts_K).all()
    np.testing.assert_allclose(merged.sums_KP, again.sums_KP, rtol=1e-5)
    assert merged.wss == pytest.approx(again.wss)


def test_many_sets_of_centroids_in_one_pass_are_as_each_alone() -> None:
    rows = in_place(blobs(3000, 12, noise=0.3)[0])
    sets = [rows.take(np.arange(k)) for k in (3, 9, 20)]
    for together, centroids in zip(kmeans.assign_all(rows, sets), sets, strict=True):
        alone = assign(rows, centroids)
        assert (together.labels_N == alone.labels_N).all()
        assert (together.counts_K == alone.counts_K).all()
        np.testing.assert_allclose(together.sums_KP, alone.sums_KP, rtol=1e-5, atol=1e-4)


def test_a_sweep_lowers_the_curve_of_the_merges() -> None:
    rows, _ = blobs(2000, 25, noise=0.4)
    merged, swept = (cluster(rows, keys(2000), k_grid=range(4, 21), seed=0, sweeps=sweeps) for sweeps in (0, 2))
    assert all(swept.wss_by_k[k] <= merged.wss_by_k[k] * (1 + 1e-6) for k in merged.wss_by_k)
    assert swept.wss_by_k[8] < 0.999 * merged.wss_by_k[8]


@pytest.mark.parametrize("threads", [2, 3])
def test_neither_threads_nor_a_matrix_on_disk_change_a_bit(tmp_path: Path, threads: int) -> None:
    """Products here are above the size from which BLAS itself uses threads."""
    rows = blobs(3000, 60, noise=0.3, width=2048)[0].astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    with threadpool_limits(1, user_api="blas"):
        alone = cluster(rows, keys(3000), k_grid=range(10, 51), seed=0)
    with threadpool_limits(threads, user_api="blas"):
        mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
        beside = cluster(mapped, keys(3000), k_grid=range(10, 51), seed=0)
    assert (alone.labels_N == beside.labels_N).all()
    assert (alone.centroids_KP == beside.centroids_KP).all()


def test_private_changes_of_a_mapped_matrix_are_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", blobs(500, 5)[0])
    private = np.load(tmp_path / "rows.npy", mmap_mode="c")
    private[:, 0] = 7
    cluster(private, keys(500), k_grid=[3], seed=0)
    assert (private[:, 0] == 7).all()


def test_the_elbow_is_the_corner_of_a_bent_line() -> None:
    bent = {k: float(np.exp(10 - 2 * min(k, 8) - 0.01 * max(0, k - 8))) for k in range(2, 30)}
    assert elbow(bent)[0] == 8
    straight = {k: float(np.exp(-k / 5)) for k in range(2, 30)}
    assert elbow(straight)[1] == pytest.approx(0, abs=1e-9)
    assert elbow({3: 5.0, 4: 0.0, 5: 0.0, 6: 0.0})[0] == 4
    assert elbow({5: 1.0}) == (5, 0.0)


def test_a_flat_curve_keeps_the_last_number_of_clusters() -> None:
    rows: np.ndarray = np.random.default_rng(0).normal(size=(3000, 64))
    grid = range(2, 8)
    assert cluster(rows, keys(3000), k_grid=grid, seed=0).margin < 0.05
    for previous in (3, 6):
        assert cluster(rows, keys(3000), k_grid=grid, seed=0, previous_k=previous).k == previous


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_permuted_pool_gives_the_permuted_labels_bit_for_bit(dtype: type) -> None:
    rows: np.ndarray = blobs(1200, 9, noise=0.3)[0].astype(dtype)
    order = np.random.default_rng(5).permutation(1200)
    found = cluster(rows, keys(1200), k_grid=range(3, 15), seed=3)
    moved = cluster(rows[order], keys(1200)[order], k_grid=range(3, 15), seed=3)
    assert (moved.labels_N == found.labels_N[order]).all()
    assert (moved.distance_N == found.distance_N[order]).all()
    assert moved.wss_by_k == found.wss_by_k


def test_the_size_of_a_block_changes_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "SEEDING_ROWS", 500)
    rows, _ = blobs(2000, 10, noise=0.3)
    whole, *cut = (
        cluster(rows, keys(2000), k_grid=range(3, 15), seed=3, rows_per_block=size) for size in (5000, 17, 64, 333)
    )
    for other in cut:
        assert (other.labels_N == whole.labels_N).all()


def test_every_row_is_with_its_nearest_centroid_at_the_stated_distance() -> None:
    rows, _ = blobs(1000, 8, noise=0.3)
    rows[:3] = 0
    found = cluster(rows, keys(1000), k_grid=range(3, 12), seed=0)
    distance = np.linalg.norm(rows[:, None] - found.centroids_KP, axis=2)
    np.testing.assert_allclose(distance[np.arange(1000), found.labels_N], distance.min(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.distance_N, distance.min(axis=1), atol=1e-5)
    assert set(found.labels_N) == set(range(found.k))


def test_only_directions_matter() -> None:
    rows, _ = blobs(500, 5)
    scales = np.exp(np.random.default_rng(0).normal(size=(500, 1), scale=4)).astype(np.float32)
    plain, scaled = (cluster(x, keys(500), k_grid=[5], seed=0) for x in (rows, rows * scales))
    assert (plain.labels_N == scaled.labels_N).all()


@pytest.mark.parametrize(("size", "k"), [(1, 1), (1, 5), (3, 5), (5, 5)])
def test_fewer_samples_than_clusters_are_a_cluster_each(size: int, k: int) -> None:
    found = cluster(np.eye(size, 8, dtype=np.float32), keys(size), k_grid=[k], seed=0)
    assert sorted(found.labels_N) == list(range(size))
    assert found.k == size


def test_fewer_distinct_points_than_clusters_are_a_cluster_each() -> None:
    rows = np.repeat(np.eye(4, 8, dtype=np.float16), 25, axis=0)
    found = cluster(rows, keys(100), k_grid=range(2, 11), seed=0)
    assert found.k == 4
    assert len(set(zip(found.labels_N, np.repeat(range(4), 25), strict=True))) == 4
    assert found.distance_N.max() < 1e-3


def test_vectors_of_zero_shape_no_centroid_and_join_the_nearest() -> None:
    rows, _ = blobs(400, 5, noise=0.3)
    names = keys(700)
    alone = cluster(rows, names[:400], k_grid=[5], seed=0)
    among = cluster(np.concatenate([rows, np.zeros((300, 16), np.float32)]), names, k_grid=[5], seed=0)
    assert (among.centroids_KP == alone.centroids_KP).all()
    assert (among.labels_N[:400] == alone.labels_N).all()
    assert set(among.labels_N[400:]) == {np.argmin(np.linalg.norm(alone.centroids_KP, axis=1))}


def test_vectors_of_zero_alone_form_one_cluster() -> None:
    found = cluster(np.zeros((10, 4), np.float16), keys(10), k_grid=[2, 3], seed=0)
    assert found.labels_N.tolist() == [0] * 10
    assert found.distance_N.tolist() == [0.0] * 10


def test_no_samples_are_no_clusters() -> None:
    found = cluster(np.empty((0, 4), np.float32), np.empty(0, np.uint64), k_grid=[5], seed=0)
    assert (found.k, len(found.labels_N), found.centroids_KP.shape) == (0, 0, (0, 4))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_vector_is_named(bad: float) -> None:
    rows, _ = blobs(20, 2)
    rows[7, 3] = bad
    with pytest.raises(ValueError, match=f"key {keys(20)[7]} is not finite"):
        cluster(rows, keys(20), k_grid=[2], seed=0)


@pytest.mark.parametrize("grid", [[], [0, 5], [-1]])
def test_an_impossible_grid_is_refused(grid: list[int]) -> None:
    with pytest.raises(ValueError, match="k_grid"):
        cluster(np.ones((3, 2)), keys(3), k_grid=grid, seed=0)


def test_the_chosen_k_is_refined_by_lloyds_iterations() -> None:
    """Refined r times is r assignments and means, written out, from the merged centroids that no refinement leaves."""
    vectors, keys = (
        np.random.default_rng(4).standard_normal((400, 6)).astype(np.float32),
        np.arange(400, dtype=np.uint64),
    )
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = {r: cluster(vectors, keys, k_grid=range(2, 41), seed=1, refinements=r, tolerance=0.0) for r in (1, 2, 5)}
    k = found[5].k
    assert {one.k for one in found.values()} == {k}
    assert k < 40
    assert found[1].wss > found[2].wss > found[5].wss
    means = np.stack([units[found[1].labels_N == label].mean(0) for label in range(k)])
    for _ in range(4):
        labels = ((units[:, None] - means) ** 2).sum(2).argmin(1)
        means = np.stack([units[labels == label].mean(0) for label in range(k)])
    labels = ((units[:, None] - means) ** 2).sum(2).argmin(1)
    assert (labels == found[5].labels_N).mean() > 0.97
