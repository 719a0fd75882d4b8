import numpy as np
import pytest

from liit.selectors.ranking import DIRECTIONS, ranked
from liit.selectors.uniform import random_replay, random_sample

KEYS = np.random.default_rng(0).permutation(9000)[:1000].astype(np.uint64)
ARRIVAL = np.repeat([0, 1, 2, 3], [500, 200, 200, 100])


def test_every_sample_is_as_likely_as_any_other() -> None:
    times = np.bincount(np.concatenate([random_sample(KEYS, 100, seed=s, timestep=1) for s in range(2000)]))
    assert len(times) == 1000
    assert times.mean() == 200
    assert np.var(times) == pytest.approx(2000 * 0.1 * 0.9, rel=0.2)


def test_replay_is_all_of_the_newest_and_a_tenth_of_the_past() -> None:
    chosen = ARRIVAL[random_replay(KEYS, ARRIVAL, seed=0, timestep=2)]
    assert (chosen == 2).sum() == 200
    assert (chosen < 2).sum() == 70
    assert (chosen > 2).sum() == 0


@pytest.mark.parametrize(("fraction", "count"), [(0, 100), (1, 1000)])
def test_replay_of_nothing_and_of_everything(fraction: float, count: int) -> None:
    assert len(random_replay(KEYS, ARRIVAL, seed=0, timestep=3, fraction=fraction)) == count


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fraction is 1\.5"):
        random_replay(KEYS, ARRIVAL, seed=0, timestep=3, fraction=1.5)


def test_ranking_is_sorting() -> None:
    scores = np.random.default_rng(1).permutation(1000).astype(np.float32)
    expected = {"highest": range(900, 1000), "lowest": range(100), "middle": range(450, 550)}
    for direction in DIRECTIONS:
        chosen = ranked(scores, KEYS, 100, direction=direction, seed=0, timestep=0)
        assert sorted(scores[chosen]) == list(expected[direction])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("budget", [0, 1, 600, 700, 701, 999, 1000, 2000])
def test_missing_scores_come_last_in_every_direction(direction: str, budget: int) -> None:
    scores = np.random.default_rng(2).normal(size=1000)
    scores[:150], scores[150:300] = np.nan, np.inf
    chosen = ranked(scores, KEYS, budget, direction=direction, seed=0, timestep=0)
    assert len(np.unique(chosen)) == min(budget, 1000)
    assert np.isfinite(scores[chosen]).sum() == min(budget, 700)


def test_equal_scores_are_drawn_by_hash() -> None:
    first, other = (ranked(np.ones(1000), KEYS, 100, direction="highest", seed=s, timestep=0) for s in (0, 1))
    assert first.tolist() != other.tolist()
    assert 400 < first.mean() < 600


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="'up' score; take 0 or more of highest, lowest, middle"):
        ranked(np.ones(3), KEYS[:3], 1, direction="up", seed=0, timestep=0)
