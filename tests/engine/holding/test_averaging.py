"""Averaging in time: the mean of what two adapters add to the weights, cut to a rank and no further than it must be."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from liit.engine.holding.averaging import WEIGHTS, average, balanced, mean
from liit.engine.models import adapters, loading
from liit.engine.models.adapters import MOMENTS
from tests.engine.training.given_adapters import save_adapter

Factors = tuple[torch.Tensor, torch.Tensor]


def factors(seed: int, outputs: int, inputs: int, rank: int) -> Factors:
    """A (rank, inputs) and B (outputs, rank)."""
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(rank, inputs, generator=chance), torch.randn(outputs, rank, generator=chance) / 10


def dense(one: Factors) -> torch.Tensor:
    return one[1].double() @ one[0].double()


@pytest.mark.parametrize("shape", [(20, 30, 4), (30, 20, 4), (9, 30, 6), (30, 7, 6), (5, 5, 8)])
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_a_mean_is_the_best_of_its_rank_and_the_cut_is_what_is_missing(
    shape: tuple[int, int, int], alpha: float
) -> None:
    old, new = factors(0, *shape), factors(1, *shape)
    exact = (1 - alpha) * dense(old) + alpha * dense(new)
    found = mean(old, new, alpha)
    u, s, vt = torch.linalg.svd(exact, full_matrices=False)
    rank = shape[2]
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    torch.testing.assert_close(found.b @ found.a, best, rtol=1e-9, atol=1e-9)
    assert found.cut == pytest.approx(float((exact - best).square().sum()), abs=1e-9)
    assert found.kept == pytest.approx(float(best.square().sum()))
    assert (found.a.shape, found.b.shape) == (new[0].shape, new[1].shape)


def test_the_mean_of_two_that_share_a_row_space_is_exact() -> None:
    """As where A is frozen, or adapters of rank r/2 lie side by side: the mean is of rank r, and nothing is cut."""
    (a, b0), (_, b1) = factors(0, 12, 16, 4), factors(1, 12, 16, 4)
    found = mean((a, b0), (a, b1), 0.3)
    torch.testing.assert_close(found.b @ found.a, (0.7 * b0 + 0.3 * b1).double() @ a.double())
    assert found.cut == pytest.approx(0, abs=1e-12)


def test_a_direction_that_is_not_in_use_can_still_be_learned() -> None:
    """Were A and B both zero there, neither would have a gradient any more."""
    old, new = (factors(seed, 12, 16, 4) for seed in (0, 1))
    for _, b in (old, new):
        b[:, 1:] = 0
    found = mean(old, new, 0.5)
    assert (found.b.norm(dim=0) > 1e-6).tolist() == [True, True, False, False]
    torch.testing.assert_close(found.a @ found.a.T, new[0].double().square().sum() / 4 * torch.eye(4).double())


@pytest.fixture
def two(tiny_llama: str, tmp_path: Path) -> tuple[Path, Path]:
    """An adapter, and another that was trained from it."""
    before, trained = (save_adapter(tiny_llama, tmp_path / name, seed=at) for at, name in enumerate(("before", "new")))
    weights = load_file(trained / WEIGHTS)
    save_file({name: one + torch.randn_like(one) / 10 for name, one in weights.items()}, trained / WEIGHTS)
    save_file({name: one.square() for name, one in weights.items()}, trained / MOMENTS)
    (trained / "training.json").write_text("{}", encoding="utf-8")
    return before, trained


def test_all_of_the_trained_one_is_plain_training_bit_for_bit(two: tuple[Path, Path], tmp_path: Path) -> None:
    before, trained = two
    assert average(trained, before, 1, tmp_path / "mean") == {"alpha": 1.0, "cut": 0.0, "largest_cut": 0.0}
    files = sorted(path.name for path in trained.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "mean").iterdir())
    assert all((tmp_path / "mean" / name).read_bytes() == (trained / name).read_bytes() for name in files)


def test_none_of_it_leaves_the_adapter_and_at_first_the_model(two: tuple[Path, Path], tmp_path: Path) -> None:
    before, trained = two
    assert average(trained, before, 0, tmp_path / "same")["cut"] == 0
    same, old = load_file(tmp_path / "same" / WEIGHTS), load_file(before / WEIGHTS)
    assert same.keys() == old.keys()
    assert all(torch.equal(same[name], old[name]) for name in old)
    average(trained, None, 0, tmp_path / "bare")
    bare = load_file(tmp_path / "bare" / WEIGHTS)
    assert not any(one.any() for name, one in bare.items() if "lora_B" in name)


def test_what_is_handed_on_adds_the_mean_to_the_model(two: tuple[Path, Path], tiny_llama: str, tmp_path: Path) -> None:
    """As PEFT reads it; Adam's moments, which are of other weights, are not handed on."""
    said = average(two[1], two[0], 0.5, tmp_path / "mean")
    plain = dict(loading.load_model(tiny_llama).named_parameters())

    def added(folder: Path) -> dict[str, torch.Tensor]:
        model = loading.load_model(tiny_llama, adapter=str(folder))
        adapters.merge(model, ())
        whole = {name.removeprefix("base_model.model."): one for name, one in model.named_parameters()}
        return {name: (whole[name] - one).detach().double() for name, one in plain.items() if "_proj" in name}

    old, new, found = (added(folder) for folder in (*two, tmp_path / "mean"))
    missing = sum(float((found[name] - (old[name] + new[name]) / 2).square().sum()) for name in found)
    whole = sum(float((old[name] + new[name]).square().sum()) / 4 for name in found)
    assert said["cut"] == pytest.approx((missing / whole) ** 0.5, rel=1e-3)
    assert 0 < said["cut"] <= said["largest_cut"] < 1
    assert not (tmp_path / "mean" / MOMENTS).exists()


def test_fishers_share_is_least_for_both_losses_along_the_move(two: tuple[Path, Path], tmp_path: Path) -> None:
    before, trained = (load_file(folder / WEIGHTS) for folder in two)
    chance = torch.Generator().manual_seed(0)
    fishers: list[dict[str, torch.Tensor]] = []
    for number in range(2):
        fishers.append({name: torch.rand(one.shape, generator=chance) * (1 + number) for name, one in before.items()})
        named = {name.partition(".layers.")[2].removesuffix(".weight"): one for name, one in fishers[-1].items()}
        save_file({f"layers.{name}": one for name, one in named.items()}, tmp_path / f"{number}.safetensors")

    def loss(share: float) -> float:
        away = {name: trained[name] - before[name] for name in before}
        old = sum(float((fishers[0][name] * (share * one).square()).sum()) for name, one in away.items())
        return old + sum(float((fishers[1][name] * ((1 - share) * one).square()).sum()) for name, one in away.items())

    old, new = ([tmp_path / f"{number}.safetensors"] for number in range(2))
    alpha = balanced(two[1], two[0], old, new)
    assert alpha == pytest.approx(2 / 3, abs=0.02), "twice as much to lose in what is new"
    assert loss(alpha) < min(loss(alpha - 0.01), loss(alpha + 0.01))
    assert balanced(two[1], two[1], old, new) == 1, "nothing moved"


def test_what_is_no_lora_or_of_another_shape_is_refused(
    two: tuple[Path, Path], tiny_llama: str, tmp_path: Path
) -> None:
    wide = save_adapter(tiny_llama, tmp_path / "wide", r=5)
    with pytest.raises(ValueError, match=r"another shape; training\.averaging needs two alike"):
        average(two[1], wide, 0.5, tmp_path / "mean")
    save_file({"model.layers.7.q_proj.lora_A": torch.ones(4, 4)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"the importance of another adapter: model\.layers\.7"):
        balanced(two[1], two[0], [tmp_path / "other.safetensors"], [tmp_path / "other.safetensors"])
