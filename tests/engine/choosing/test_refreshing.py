"""A profile of which a part is kept: every sample once, what is scored anew is what moved, and a kill changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from liit.engine.choosing.refreshing import refresh
from liit.engine.run.files import read_json, read_table, write_table
from liit.engine.run.store import Clock
from liit.engine.run.tables import CLUSTERS, POOL, SAMPLE, key_of
from liit.engine.scoring.scoring import Samples, samples_of
from liit.engine.scoring.specification import profiler_spec
from liit.engine.settings.config import Config
from liit.selectors.refreshing import Rules
from tests.selectors.test_refreshing import sample_by_hand

ANSWERS = ("yes", "noo", "zzz")
"""By data set and cluster; one of the models thinks otherwise about z."""
GONE = 4


def row(number: int, arrival: int) -> dict[str, Any]:
    kind = number % 3
    turns = [
        {"role": "user", "text": f"is it {number}?"},
        {"role": "assistant", "text": ANSWERS[kind] * (number % 4 + 1)},
    ]
    name = f"d{kind}/{number}"
    known = {"id": name, "key": key_of(name), "dataset": f"d{kind}", "arrival": arrival}
    return known | {"conversation": turns, "images": [], "length": 60}


def changed(model: str, folder: Path, change: Callable[[Any], object]) -> str:
    """The same model with other weights."""
    other = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        change(other)
    other.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


class Stream:
    """Two releases and their pools; at the second some of the first have left."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        rows = [[row(number, 1) for number in range(90)], [row(number, 2) for number in range(90, 120)]]
        self.releases = [folder / f"release-{at}.parquet" for at in range(2)]
        for path, mine in zip(self.releases, rows, strict=True):
            write_table(path, pa.Table.from_pylist(mine, schema=SAMPLE))
        pools = {1: rows[0], 2: rows[0][GONE:] + rows[1], 3: rows[0][GONE:] + rows[1]}
        for t, mine in pools.items():
            (folder / f"t{t:02d}").mkdir()
            known = [{name: one[name] for name in POOL.names} for one in mine]
            write_table(folder / f"t{t:02d}/pool.parquet", pa.Table.from_pylist(known, schema=POOL))
            labels = [{"id": one["id"], "key": one["key"], "cluster": int(one["dataset"][1]) + 5} for one in mine]
            write_table(folder / f"t{t:02d}/clusters.parquet", pa.Table.from_pylist(labels, schema=CLUSTERS))

    def samples(self, t: int, model: str | None = None, **told: Any) -> Samples:
        config = Config.model_validate(
            {
                "model": {"path": model or self.model},
                "scoring": {"samples_per_batch": 8, "gradient": {"dimension": 64}, "refresh": {"least": 5, **told}},
                "resources": {"num_cpus": 2, "cpus_per_actor": 0.5, "warm": True},
            }
        )
        spec = profiler_spec(config, None, ("nll", "entropy", "forgetting"), ("sketch",))
        before = self.folder / f"t{t - 1:02d}/profile" if t > 1 else None
        return samples_of(self.releases[:t], self.folder / f"t{t:02d}/pool.parquet", before, spec, config, f"t{t}")

    def whole(self, t: int, to: Path, model: str | None = None) -> pa.Table:
        samples = self.samples(t, model)
        samples.finish(samples.score(to, f"t{t}", self.clock), to, to.with_name("quarantine.parquet"))
        return read_table(to).sort_by("key")

    def again(
        self, t: int, to: Path, model: str, clusters: bool = True, **told: Any
    ) -> tuple[pa.Table, dict[str, Any]]:
        before = self.folder / f"t{t - 1:02d}"
        groups = before / "clusters.parquet" if clusters else None
        told_samples = self.samples(t, model, **told)
        refresh(
            told_samples, before / "profile", groups, t, to, to.with_name("quarantine.parquet"), "again", self.clock
        )
        table = read_table(to).sort_by("key")
        pool = read_table(self.folder / f"t{t:02d}/pool.parquet")
        assert table["key"].to_pylist() == sorted(pool["key"].to_pylist()), "a sample has no row, or two"
        return table, read_json(to.with_name("refresh.json"))

    @property
    def clock(self) -> Clock:
        return Clock(self.folder / "clock.json", {})


@pytest.fixture(scope="module")
def stream(ray_cluster: None, tiny_llama: str, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    found = Stream(tmp_path_factory.mktemp("stream"), tiny_llama)
    found.whole(1, found.folder / "t01/profile")
    return found


@pytest.fixture(scope="module")
def nearly(tiny_llama: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that has hardly moved."""
    return changed(tiny_llama, tmp_path_factory.mktemp("nearly"), lambda model: model.lm_head.weight.mul_(1.0001))


@pytest.fixture(scope="module")
def otherwise(tiny_llama: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that says z from now on."""
    letter = AutoTokenizer.from_pretrained(tiny_llama)("z", add_special_tokens=False)["input_ids"][0]
    folder = tmp_path_factory.mktemp("otherwise")
    return changed(tiny_llama, folder, lambda model: model.lm_head.weight[letter].mul_(0.2))


def by_model(table: pa.Table, mark: str) -> set[int]:
    return set(table.filter(pc.equal(table["model"], mark))["key"].to_pylist())


def stays_of(stream: Stream) -> pa.Table:
    pool = read_table(stream.folder / "t02/pool.parquet")
    return pool.filter(pc.equal(pool["arrival"], 1))


@pytest.mark.parametrize("clusters", [True, False])
def test_where_nothing_moved_only_new_and_sampled_are_scored(
    clusters: bool, stream: Stream, nearly: str, tmp_path: Path
) -> None:
    table, told = stream.again(2, tmp_path / "t02/profile", nearly, clusters)
    stays = stays_of(stream)
    group_N = np.array([int(name[1]) for name in stays["dataset"].to_pylist()])
    asked = sample_by_hand(stays["key"].to_numpy(), group_N, Rules(least=5), 0, 2)
    new = {key_of(f"d{number % 3}/{number}") for number in range(90, 120)}
    assert by_model(table, stream.samples(2, nearly).model) == asked | new
    kept = table.filter(pc.equal(table["model"], stream.samples(1).model))
    old = read_table(stream.folder / "t01/profile").sort_by("key")
    assert kept.equals(old.filter(pc.is_in(old["key"], kept["key"].combine_chunks())).combine_chunks())
    counts = {"new": 30, "sampled": 15, "too old": 0, "moved": 0, "kept": 71}
    assert told["why"] == counts
    assert told["scored"] == 45
    assert told["by"] == ("cluster" if clusters else "dataset")
    assert [one["group"] for one in told["groups"]] == (["5", "6", "7"] if clusters else ["d0", "d1", "d2"])
    assert (tmp_path / "t02/profile/columns.json").is_file()


def test_a_group_that_moved_is_scored_whole_and_as_it_would_be_alone(
    stream: Stream, otherwise: str, tmp_path: Path
) -> None:
    table, told = stream.again(2, tmp_path / "t02/profile", otherwise, score_drift=1.5, vector_drift=0.4)
    assert [one["moved"] for one in told["groups"]] == [False, False, True], told["groups"]
    stays = stays_of(stream)
    moved = stays.filter(pc.equal(stays["dataset"], "d2"))["key"].to_pylist()
    assert set(moved) <= by_model(table, stream.samples(2, otherwise).model)
    assert told["why"]["moved"] + told["groups"][2]["sampled"] == len(moved)
    whole = stream.whole(2, tmp_path / "whole", otherwise)
    fresh = pc.equal(table["model"], stream.samples(2, otherwise).model)
    for name in ("nll", "entropy"):
        ours, theirs = (one[name].filter(fresh).to_numpy() for one in (table, whole))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("told", [{"score_drift": 0}, {"share": 1}])
def test_without_a_threshold_it_is_the_whole_pool_bit_by_bit(
    told: dict[str, Any], stream: Stream, otherwise: str, tmp_path: Path
) -> None:
    table, found = stream.again(2, tmp_path / "t02/profile", otherwise, **told)
    assert found["why"]["kept"] == 0
    assert table.equals(stream.whole(2, tmp_path / "whole", otherwise))


def test_a_kill_in_or_between_the_passes_changes_no_bit(stream: Stream, otherwise: str, tmp_path: Path) -> None:
    told: dict[str, Any] = {"score_drift": 1.5, "vector_drift": 0.4}
    folder = tmp_path / "t02/profile"
    table, found = stream.again(2, folder, otherwise, **told)
    for kind in ("first", "moved", "kept"):
        for part in sorted(folder.glob(f"part-{kind}-*.parquet"))[:1]:
            part.unlink()
        (folder / "columns.json").unlink()
        left = {part: part.stat().st_mtime_ns for part in folder.glob("*.parquet")}
        again, same = stream.again(2, folder, otherwise, **told)
        assert again.equals(table)
        assert same == found
        assert {part: part.stat().st_mtime_ns for part in left} == left, "what was there was made again"


def test_no_row_is_older_than_it_may_be_and_the_model_of_now_is_not_asked_twice(
    stream: Stream, nearly: str, otherwise: str, tmp_path: Path
) -> None:
    calm: dict[str, Any] = {"score_drift": 9, "vector_drift": 2}
    own = Stream(tmp_path, stream.model)
    own.whole(1, tmp_path / "t01/profile")
    _, second = own.again(2, tmp_path / "t02/profile", nearly, **calm)
    first = own.samples(1).model
    assert second["models"] == {first: 1, own.samples(2, nearly).model: 2}
    older = by_model(read_table(tmp_path / "t02/profile"), first)
    assert len(older) == second["why"]["kept"] == 71
    table, third = own.again(3, tmp_path / "two/profile", otherwise, max_age=2, **calm)
    assert by_model(table, first), "rows may be two timesteps old"
    assert third["why"]["too old"] == 0
    table, third = own.again(3, tmp_path / "one/profile", otherwise, max_age=1, **calm)
    assert not by_model(table, first)
    asked = third["why"]["sampled"] + third["why"]["too old"]
    assert len(older) <= asked <= len(older) + third["why"]["sampled"]
    _, third = own.again(3, tmp_path / "same/profile", nearly, **calm)
    assert third["why"]["sampled"] == 15, "five of each group"
    table, _ = own.again(3, tmp_path / "back/profile", own.model, **calm)
    assert by_model(table, first) >= older, "rows of the model of now are scored again"


def test_a_model_that_is_the_one_before_is_asked_for_nothing_but_what_is_new(stream: Stream, tmp_path: Path) -> None:
    table, told = stream.again(2, tmp_path / "t02/profile", stream.model)
    assert told["why"] == {"new": 30, "sampled": 0, "too old": 0, "moved": 0, "kept": 86}
    assert not any(group["moved"] for group in told["groups"])
    whole = stream.whole(2, tmp_path / "whole")
    np.testing.assert_allclose(table["nll"].to_numpy(), whole["nll"].to_numpy(), rtol=1e-5, atol=1e-6)


def test_forgetting_goes_on_from_the_lowest_loss_that_a_kept_row_has(
    stream: Stream, nearly: str, otherwise: str, tmp_path: Path
) -> None:
    own = Stream(tmp_path, stream.model)
    nll = [own.whole(1, tmp_path / "t01/profile")]
    nll.append(own.again(2, tmp_path / "t02/profile", otherwise, score_drift=9, vector_drift=2)[0])
    last = own.again(3, tmp_path / "t03/profile", nearly, score_drift=0)[0]
    best: dict[int, float] = {}
    for table in nll:
        for key, value in zip(table["key"].to_pylist(), table["nll"].to_pylist(), strict=True):
            best[key] = min(best.get(key, np.inf), value)
    for key, value, forgotten in zip(*(last[name].to_pylist() for name in ("key", "nll", "forgetting")), strict=True):
        assert forgotten == pytest.approx(value - best[key], abs=1e-5)
