"""Planned batches: what is planned, that actors change nothing, and that a stopped run goes on where it was."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from liit.engine.fleet import planned
from liit.engine.fleet.batching import plan
from liit.engine.run.files import read_table
from liit.engine.settings.sections import Resources


class Doubler:
    """Doubles a number; a marker file makes it kill its own process once."""

    def __init__(self, trap: str | None = None) -> None:
        self.trap = trap

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        if self.trap is not None and Path(self.trap).exists() and any(one["value"] == 13 for one in samples):
            Path(self.trap).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"id": [s["id"] for s in samples], "twice": [2 * s["value"] for s in samples]})


def job(count: int, batch: int, trap: str | None = None) -> planned.Job:
    samples = pa.table(
        {"id": [str(i) for i in range(count)], "key": pa.array(range(count), pa.uint64()), "value": range(count)}
    )
    batch_N = (np.arange(count) // batch).astype(np.int32)
    return planned.Job(
        "double", Doubler, {"trap": trap}, np.arange(count, dtype=np.uint64), batch_N, lambda: [samples], 1
    )


def result(parts: list[Path]) -> dict[str, int]:
    table = pa.concat_tables([read_table(part) for part in parts])
    assert len(set(table["id"].to_pylist())) == len(table)
    return dict(zip(table["id"].to_pylist(), table["twice"].to_pylist(), strict=True))


def test_a_plan_holds_its_limits_and_sorts_by_length() -> None:
    rng = np.random.default_rng(0)
    keys, lengths = rng.permutation(200).astype(np.uint64), rng.integers(1, 90, 200)
    batch_N = plan(keys, lengths, 16, 300)
    for batch in range(batch_N.max() + 1):
        mine = lengths[batch_N == batch]
        assert 1 <= len(mine) <= 16
        assert len(mine) * mine.max() <= 300
        assert batch == 0 or lengths[batch_N == batch - 1].max() <= mine.min()


def test_a_permuted_pool_gives_the_permuted_plan() -> None:
    rng = np.random.default_rng(1)
    keys, lengths = rng.permutation(100).astype(np.uint64), rng.integers(1, 9, 100)
    order = rng.permutation(100)
    batch_N = plan(keys, lengths, 8, 64)
    assert np.array_equal(plan(keys[order], lengths[order], 8, 64), batch_N[order])


def test_a_sample_longer_than_a_batch_has_one_of_its_own() -> None:
    assert plan(np.arange(3, dtype=np.uint64), np.array([5, 500, 6]), 8, 20).tolist() == [0, 1, 0]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("pooled", [True, False])
def test_every_sample_is_done_once_and_a_second_call_does_nothing(pooled: bool, tmp_path: Path) -> None:
    work = job(40, 4)
    work = planned.Job(**{**vars(work), "pooled": pooled})
    parts = planned.run(tmp_path, work, Resources(cpus_per_actor=0.5), lambda: None)
    assert result(parts) == {str(i): 2 * i for i in range(40)}
    before = [part.stat().st_mtime_ns for part in parts]
    assert planned.run(tmp_path, work, Resources(address="nowhere"), lambda: None) == parts
    assert [part.stat().st_mtime_ns for part in parts] == before


@pytest.mark.usefixtures("ray_cluster")
def test_what_is_there_is_kept_and_only_the_rest_is_done(tmp_path: Path) -> None:
    parts = planned.run(tmp_path, job(40, 4), Resources(cpus_per_actor=0.5), lambda: None)
    kept = {part: part.stat().st_mtime_ns for part in parts[3:]}
    for part in parts[:3]:
        part.unlink()
    again = planned.run(tmp_path, job(40, 4), Resources(cpus_per_actor=0.5), lambda: None)
    assert result(again) == {str(i): 2 * i for i in range(40)}
    assert {part: part.stat().st_mtime_ns for part in again[3:]} == kept


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_actor_costs_a_retry(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.touch()
    parts = planned.run(tmp_path / "out", job(40, 4, str(trap)), Resources(cpus_per_actor=0.5), lambda: None)
    assert not trap.exists(), "no actor was killed"
    assert result(parts) == {str(i): 2 * i for i in range(40)}


class Adder(Doubler):
    """Doubles by adding, prepared beforehand."""

    def prepare(self, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**sample, "more": sample["value"]} for sample in samples]

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        return pa.table({"id": [s["id"] for s in samples], "twice": [s["value"] + s["more"] for s in samples]})


@pytest.mark.parametrize("loaders", [0, 3])
def test_batches_prepared_ahead_stay_in_order(loaders: int, tmp_path: Path) -> None:
    runner = planned.TaskRunner(str(tmp_path), Adder, {}, 1, loaders)
    batches = [[{"id": f"{batch}.{i}", "value": 10 * batch + i} for i in range(3)] for batch in range(6)]
    runner(pa.table({"task": [4], "batches": [batches]}))
    table = read_table(tmp_path / "part-0000004.parquet")
    assert table["twice"].to_pylist() == [2 * (10 * batch + i) for batch in range(6) for i in range(3)]
