import numpy as np
import pytest

from liit.selectors.duplicates import contamination, duplicates


def stream(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes with many copies, some equal in one half only; arrivals; keys."""
    chance = np.random.default_rng(seed)
    content = chance.integers(2**63, size=4, dtype=np.uint64)[chance.integers(4, size=(size, 2))]
    return content, chance.integers(3, size=size), chance.permutation(9 * size)[:size].astype(np.uint64)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("size", [0, 1, 200])
def test_the_first_arrival_then_the_smallest_key_stays(size: int, width: int) -> None:
    content, arrival, keys = stream(size)
    found = duplicates(content if width == 2 else content[:, 0], arrival, keys)
    for i in range(size):
        same = [j for j in range(size) if (content[j, :width] == content[i, :width]).all()]
        stays = min(same, key=lambda j: (arrival[j], keys[j]))
        assert found[i] == (-1 if stays == i else stays)


def test_a_later_release_changes_nothing_of_the_earlier() -> None:
    content, arrival, keys = stream(300)
    order = np.argsort(arrival, kind="stable")
    content, arrival, keys = content[order], arrival[order], keys[order]
    whole = duplicates(content, arrival, keys)
    for t in range(3):
        seen = arrival <= t
        assert (duplicates(content[seen], arrival[seen], keys[seen]) == whole[seen]).all()


def test_row_order_means_nothing() -> None:
    content, arrival, keys = stream(300)
    order = np.random.default_rng(1).permutation(300)
    whole, moved = duplicates(content, arrival, keys), duplicates(content[order], arrival[order], keys[order])
    assert ((moved == -1) == (whole[order] == -1)).all()
    assert (keys[order][moved[moved >= 0]] == keys[whole[order]][moved >= 0]).all()


def test_contamination_names_the_evaluation_sample_whatever_is_copied_in_the_stream() -> None:
    content, _, _ = stream(100)
    exam = np.concatenate([content[[3, 8, 3]], np.array([[1, 2]], np.uint64)])
    found = contamination(content, exam)
    for i in range(100):
        same = [j for j in range(4) if (exam[j] == content[i]).all()]
        assert found[i] == (same[0] if same else -1)
    assert found[3] == 0
    assert set(contamination(content, exam[:0])) == {-1}
    assert len(contamination(content[:0], exam)) == 0


def test_hashes_of_another_kind_are_refused() -> None:
    content, arrival, keys = stream(10)
    with pytest.raises(ValueError, match=r"are int64 of shape \(10, 2\)"):
        duplicates(content.astype(np.int64), arrival, keys)
    with pytest.raises(ValueError, match=r"of shape \(5, 4\)"):
        duplicates(content.reshape(5, 4), arrival, keys)
    with pytest.raises(ValueError, match="10 hashes, 9 arrivals and 10 keys"):
        duplicates(content, arrival[1:], keys)
    with pytest.raises(ValueError, match="samples have 128 bits of hash, the evaluation 64"):
        contamination(content, content[:, 0])
