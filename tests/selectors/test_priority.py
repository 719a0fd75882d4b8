import numpy as np
import pytest

from liit.selectors.priority import _mixed, priority, smallest, smallest_of_each

KEYS = np.random.default_rng(0).integers(2**63, size=5000, dtype=np.uint64)


def test_priorities_are_the_published_splitmix64_sequence() -> None:
    # first outputs of SplitMix64 seeded with 1234567: each mixes the state, which grows by the golden gamma
    states = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert _mixed(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_priorities_do_not_change_between_releases_of_this_project() -> None:
    """Old runs could not be resumed otherwise."""
    frozen = priority(np.array([0, 1, 2**64 - 1], np.uint64), "ccs", 7, 2)
    assert frozen.tolist() == [
        15035324062222539883,
        7623192800809203616,
        3351088967359622266,
    ]


def test_priority_belongs_to_the_key_and_not_to_its_place() -> None:
    order = np.random.default_rng(1).permutation(len(KEYS))
    assert (priority(KEYS[order], "a", 1) == priority(KEYS, "a", 1)[order]).all()


def test_distinct_keys_never_tie() -> None:
    consecutive = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(priority(consecutive, "a"))) == len(consecutive)


@pytest.mark.parametrize("other", [("a", 2), ("b", 1), ("a",), ("a", "1"), ("a", 1, 0)])
def test_another_salt_is_another_sample(other: tuple[int | str, ...]) -> None:
    overlap = np.intersect1d(smallest(KEYS, 500, "a", 1), smallest(KEYS, 500, *other))
    assert 20 < len(overlap) < 90  # 50 expected of independent samples, standard deviation 6.4


def test_the_sample_of_the_whole_is_the_sample_of_the_samples_of_the_parts() -> None:
    parts = np.array_split(np.arange(len(KEYS)), 7)
    merged = np.concatenate([part[smallest(KEYS[part], 100, "a")] for part in parts])
    assert (np.sort(merged[smallest(KEYS[merged], 100, "a")]) == smallest(KEYS, 100, "a")).all()


def test_every_bit_of_a_priority_is_a_fair_coin() -> None:
    bits = np.unpackbits(priority(np.arange(20_000, dtype=np.uint64), "a").view(np.uint8).reshape(-1, 8), axis=1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.016  # 4.5 standard deviations


def test_smallest_of_each_is_smallest_in_every_group() -> None:
    group_N = np.random.default_rng(2).integers(5, size=len(KEYS))
    budget_G = np.array([0, 3, 10_000, 17, 1])
    chosen = smallest_of_each(KEYS, group_N, budget_G, "a")
    naive = [np.flatnonzero(group_N == g)[smallest(KEYS[group_N == g], int(budget_G[g]), "a")] for g in range(5)]
    assert (chosen == np.sort(np.concatenate(naive))).all()


def test_signed_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="int64"):
        priority(np.arange(3), "a")  # type: ignore[arg-type]
