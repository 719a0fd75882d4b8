import numpy as np
import pytest

from liit.selectors.coverage import ccs
from liit.selectors.priority import priority

CHANCE = np.random.default_rng(0)
SHAPES = {
    "normal": CHANCE.normal(size=3000),
    "left-skewed": CHANCE.beta(8, 0.5, size=3000),
    "heavy tail": CHANCE.pareto(1.0, size=3000),
    "two values": CHANCE.integers(2, size=3000).astype(float),
    "mostly zero": np.where(CHANCE.random(3000) < 0.97, 0, CHANCE.normal(size=3000)),
    "constant": np.full(3000, 2.5),
    "half missing": np.where(CHANCE.random(3000) < 0.5, np.nan, CHANCE.normal(size=3000)),
    "all missing": np.full(3000, np.nan),
    "infinite": np.where(CHANCE.random(3000) < 0.1, np.inf, CHANCE.normal(size=3000)),
}


def keys(size: int) -> np.ndarray:
    return np.random.default_rng(size).permutation(3 * size)[:size].astype(np.uint64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0, 1, 7, 199, 200, 3000])
def test_exactly_the_budget_is_chosen_and_nothing_twice(shape: str, size: int) -> None:
    scores = SHAPES[shape][:size].astype(np.float32)
    for budget in {0, 1, 12, 60, 110, 120, 150, 189, 190, 834, 2699, 2700, 2999, 3000, 5000}:
        index, stratum = ccs(scores, keys(size), budget, seed=1)
        assert len(np.unique(index)) == len(index) == len(stratum) == min(budget, size)
        assert ((stratum == -1) == ~np.isfinite(scores[index])).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_missing_scores_come_only_when_nothing_else_is_left(shape: str) -> None:
    scores = SHAPES[shape]
    scored = int(np.isfinite(scores).sum())
    for budget in (scored // 2, scored, min(scored + 10, 3000)):
        index, _ = ccs(scores, keys(3000), budget, seed=1)
        assert np.isfinite(scores[index]).sum() == min(budget, scored)


def naive_ccs(scores: np.ndarray, hashes: np.ndarray, budget: int) -> list[int]:
    """Zheng et al., algorithm 1: the poorest stratum is asked first for its share of what is left."""
    ranked = np.sort(scores)
    cut = int(0.05 * len(scores))
    low, high = ranked[cut], ranked[-1 - cut]
    strata: list[list[int]] = [[] for _ in range(50)]
    for i, score in enumerate(scores):
        if low <= score <= high:
            strata[min(49, int((score - low) / (high - low) * 50))].append(i)
    waiting = sorted((s for s in strata if s), key=len)
    chosen: list[int] = []
    for position, stratum in enumerate(waiting):
        share = min(len(stratum), (budget - len(chosen)) // (len(waiting) - position))
        chosen += sorted(stratum, key=lambda i: hashes[i])[:share]
    return sorted(chosen)


def test_it_is_the_published_algorithm() -> None:
    """With a budget that no equally large strata have to draw for."""
    scores = np.sort(np.random.default_rng(5).normal(size=2000))
    hashes = priority(keys(2000), "ccs", 3, 2)
    for budget in (10, 500, 1500, 1799):
        ours = ccs(scores, keys(2000), budget, seed=3, timestep=2)[0]
        naive = naive_ccs(scores, hashes, budget)
        assert len(ours) == len(naive)
        moved = len(np.setdiff1d(ours, naive))
        assert moved <= 3, f"{moved} of {budget} differ: more than strata of equal size can account for"


def test_the_extremes_are_left_out_of_large_sets_only() -> None:
    scores = np.arange(1000.0)
    assert ccs(scores, keys(1000), 900, seed=0)[0].tolist() == list(range(50, 950))
    assert any(0 in ccs(scores[:199], keys(199), 100, seed=seed)[0] for seed in range(20))
    assert len(ccs(scores, keys(1000), 901, seed=0)[0]) == 901


def test_sparse_strata_give_as_much_as_crowded_ones() -> None:
    scores = np.concatenate([np.random.default_rng(1).random(100_000) * 0.1, np.linspace(0, 1, 100_000) ** 3])
    stratum = ccs(scores, keys(200_000), 5000, seed=0)[1]
    assert np.bincount(stratum, minlength=50).tolist() == [100] * 50


def test_a_small_budget_is_not_spent_on_one_end_of_the_score() -> None:
    scores = np.arange(100.0)
    chosen = np.concatenate([ccs(scores, keys(100), 10, seed=seed)[0] for seed in range(50)])
    assert 40 < scores[chosen].mean() < 60


def test_a_permuted_set_gives_the_permuted_choice() -> None:
    scores, names = SHAPES["half missing"], keys(3000)
    order = np.random.default_rng(2).permutation(3000)
    index, stratum = ccs(scores, names, 1700, seed=4)
    permuted, permuted_stratum = ccs(scores[order], names[order], 1700, seed=4)
    assert dict(zip(names[index], stratum, strict=True)) == dict(
        zip(names[order][permuted], permuted_stratum, strict=True)
    )


def test_seed_and_timestep_change_the_choice_and_repetition_does_not() -> None:
    first, again, other, later = (
        ccs(SHAPES["normal"], keys(3000), 300, seed=seed, timestep=t)[0].tolist()
        for seed, t in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    assert first == again
    assert first != other
    assert first != later


def test_constant_scores_are_one_stratum() -> None:
    assert set(ccs(SHAPES["constant"], keys(3000), 10, seed=0)[1]) == {0}


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 of 3 keys"):
        ccs(np.ones(3), keys(3), -1, seed=0)
