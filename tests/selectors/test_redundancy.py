import numpy as np
import pytest

from liit.selectors import redundancy
from liit.selectors.budgets import uniform
from liit.selectors.redundancy import farthest_first, prune, remoteness


def unit(size: int, width: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(size, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def setting(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, labels of clusters of very different sizes, keys, order."""
    chance = np.random.default_rng(seed)
    labels = (4 * chance.random(size) ** 3).astype(int)
    return unit(size, 8, seed), labels, chance.permutation(9 * size)[:size].astype(np.uint64), chance.random(size)


def naive_farthest_first(rows: np.ndarray, count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        similarity = (rows @ rows[chosen].T).max(axis=1)
        similarity[chosen] = np.inf
        chosen.append(int(np.argmin(similarity)))
    return chosen


@pytest.mark.parametrize(("size", "count"), [(1, 1), (40, 40), (300, 200), (900, 150)])
@pytest.mark.parametrize("lowest", [1, 5, 64])
def test_the_lazy_choice_is_the_plain_one(size: int, count: int, lowest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redundancy, "LOWEST", lowest)
    monkeypatch.setattr(redundancy, "BLOCK", 64)
    rows = unit(size, 6, size)
    assert farthest_first(rows, count).tolist() == naive_farthest_first(rows, count)


def test_rows_that_all_tie_are_chosen_in_their_order() -> None:
    """More ties than are looked at step by step: orthogonal rows, all of similarity 0."""
    assert farthest_first(np.eye(1300, dtype=np.float32), 1200).tolist() == list(range(1200))


def test_pruning_equals_brute_force() -> None:
    rows, labels, keys, order = setting(200)
    kept, _ = prune(rows, labels, keys, 90, order_N=order)
    expected = []
    for k, budget in enumerate(uniform(np.bincount(labels), 90)):
        members = sorted(np.flatnonzero(labels == k), key=lambda i: (order[i], keys[i]))
        expected += [members[i] for i in naive_farthest_first(rows[members], int(budget))]
    assert np.flatnonzero(kept).tolist() == sorted(expected)


@pytest.mark.parametrize("budget", [0, 1, 3, 50, 149, 150, 151, 10**6])
def test_the_count_is_exact_and_nothing_goes_that_fits(budget: int) -> None:
    rows, labels, keys, order = setting(150)
    kept, twin = prune(rows, labels, keys, budget, order_N=order)
    assert kept.sum() == min(150, budget)
    assert ((twin == -1) == kept).all() or budget == 0


def test_each_pruned_sample_names_the_kept_one_most_like_it() -> None:
    rows, labels, keys, order = setting(150)
    kept, twin = prune(rows, labels, keys, 60, order_N=order)
    for i in np.flatnonzero(~kept):
        candidates = np.flatnonzero(kept & (labels == labels[i]))
        assert twin[i] == candidates[np.argmax(rows[candidates] @ rows[i])]


def test_with_fewer_places_than_clusters_the_twin_is_found_elsewhere() -> None:
    rows, labels, keys, order = setting(150)
    kept, twin = prune(rows, labels, keys, 2, order_N=order)
    assert kept[twin[~kept]].all()


def test_exact_copies_go_before_anything_else_whatever_their_cluster_weighs() -> None:
    rows, labels, keys, order = setting(60)
    rows, labels = np.concatenate([rows, np.repeat(rows[:1], 40, axis=0)]), np.concatenate([labels, labels[[0] * 40]])
    keys, order = np.arange(100, dtype=np.uint64), np.concatenate([order, np.full(40, 2.0)])
    kept, twin = prune(rows, labels, keys, 60, order_N=order)
    assert kept.tolist() == [True] * 60 + [False] * 40
    assert (twin[60:] == 0).all()
    assert prune(rows, labels, keys, 61, order_N=order)[0].sum() == 61


def test_a_chain_loses_its_middle_and_not_its_end() -> None:
    """a ~ b ~ c with a and c unlike: similarity to b, which is gone, must not cost c its place."""
    angle = np.deg2rad([0, 30, 60])
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    kept, _ = prune(rows, np.zeros(3, int), np.arange(3, dtype=np.uint64), 2, order_N=np.arange(3))
    assert kept.tolist() == [True, False, True]


def test_a_permuted_pool_is_pruned_alike() -> None:
    rows, labels, keys, order = setting(400)
    rows[50:80] = rows[:30]
    labels[50:80] = labels[:30]
    order[:] = np.round(order)  # many ties
    shuffle = np.random.default_rng(1).permutation(400)
    kept, twin = prune(rows, labels, keys, 123, order_N=order)
    moved, moved_twin = prune(rows[shuffle], labels[shuffle], keys[shuffle], 123, order_N=order[shuffle])
    assert (moved == kept[shuffle]).all()
    assert (keys[shuffle][moved_twin[~moved]] == keys[twin[shuffle][~moved]]).all()


def test_half_precision_and_zero_embeddings_are_fine() -> None:
    rows, labels, keys, order = setting(100)
    rows[:4] = 0
    assert prune(rows.astype(np.float16), labels, keys, 50, order_N=order)[0].sum() == 50


def test_a_broken_embedding_is_named() -> None:
    rows, labels, keys, order = setting(100)
    rows[3, 2] = np.nan
    with pytest.raises(ValueError, match=f"key {keys[3]} is not finite"):
        prune(rows, labels, keys, 50, order_N=order)


def test_no_samples_are_no_samples() -> None:
    kept, twin = prune(np.empty((0, 4)), np.empty(0, int), np.empty(0, np.uint64), 0, order_N=np.empty(0))
    assert len(kept) == len(twin) == 0


@pytest.mark.parametrize("keep", ["diverse", "in order"])
def test_each_cluster_keeps_its_share_copies_or_not(keep: str) -> None:
    rows, labels, keys, order = setting(150)
    rows[labels == 1] = rows[labels == 1][0]  # all of a cluster are copies of one
    share = np.minimum(np.bincount(labels), [5, 20, 3, *[60] * (labels.max() - 2)])
    kept, twin = prune(rows, labels, keys, int(share.sum()), order_N=order, share_K=share, diverse=keep == "diverse")
    assert np.bincount(labels[kept], minlength=len(share)).tolist() == share.tolist()
    assert (labels[twin[~kept]] == labels[~kept]).all()
    if keep == "in order":
        for k in range(len(share)):
            members = sorted(np.flatnonzero(labels == k), key=lambda i: (order[i], keys[i]))
            assert set(members[: share[k]]) == set(np.flatnonzero(kept & (labels == k)))
    with pytest.raises(ValueError, match="are not 9 samples of clusters"):
        prune(rows, labels, keys, 9, order_N=order, share_K=share)


def test_how_far_a_sample_is_from_its_own_is_of_directions() -> None:
    rows, labels, keys, _ = setting(80)
    far = remoteness(3 * rows, labels.astype(np.int32), keys)
    unit_rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = [np.linalg.norm(unit_rows[i] - unit_rows[labels == labels[i]].mean(0)) for i in range(80)]
    np.testing.assert_allclose(far, expected, atol=1e-5)
