"""Planned batches: what is planned, that actors change nothing, and that a stopped run goes on where it was."""

import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from liit.engine.fleet import planned
from liit.engine.fleet.batching import plan
from liit.engine.fleet.running import TaskError, TaskRunner, part_of
from liit.engine.run.files import read_table
from liit.engine.run.progress import log
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


class Here(Doubler):
    """Says in which process it is, in place of a result."""

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        return pa.table({"id": [s["id"] for s in samples], "twice": [os.getpid() for _ in samples]})


def numbers(start: int, stop: int) -> Iterator[list[dict[str, Any]]]:
    """The planned batches of a task: two numbers each."""
    for first in range(start, stop, 2):
        yield [{"id": str(one), "value": one} for one in range(first, min(first + 2, stop))]


def job(count: int, rows: int, worker: Any = Doubler, **arguments: Any) -> planned.Job:
    """Numbers to be doubled, so many to a task."""
    tasks = [
        planned.Task(f"{at:02d}", rows, {"start": start, "stop": start + rows})
        for at, start in enumerate(range(0, count, rows))
    ]
    return planned.Job("double", worker, arguments, tasks, numbers)


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
@pytest.mark.parametrize("light", [True, False])
def test_small_workers_stay_in_their_processes_and_others_end_with_their_job(light: bool, tmp_path: Path) -> None:
    parts = planned.run(tmp_path, replace(job(4, 4, Here), light=light), Resources(cpus_per_actor=0.5), lambda: None)
    (process,) = set(result(parts).values())
    deadline = time.monotonic() + 60
    while not light and Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert Path(f"/proc/{process}").exists() == light


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("pooled", [True, False])
def test_every_sample_is_done_once_and_a_second_call_does_nothing(pooled: bool, tmp_path: Path) -> None:
    work = replace(job(40, 4), pooled=pooled)
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
    parts = planned.run(tmp_path / "out", job(40, 4, trap=str(trap)), Resources(cpus_per_actor=0.5), lambda: None)
    assert not trap.exists(), "no actor was killed"
    assert result(parts) == {str(i): 2 * i for i in range(40)}


def runner(folder: Path, worker: Any, loaders: int = 0, **arguments: Any) -> TaskRunner:
    return TaskRunner(str(folder), worker, arguments, numbers, threads=1, loaders=loaders, ahead=1e6)


class Warner(Doubler):
    """Warns of every batch; of one number it says what a person can do."""

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        log.warning("a batch of %d", len(samples))
        if any(one["value"] == 33 for one in samples):
            raise TaskError("33 cannot be doubled; take it out")
        return super().__call__(samples)


@pytest.mark.usefixtures("ray_cluster")
def test_what_workers_warn_of_is_said_once_and_what_can_be_mended_in_its_own_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "liit"):
        planned.run(tmp_path / "a", job(16, 4, Warner), Resources(cpus_per_actor=0.5), lambda: None)
    assert [record.getMessage() for record in caplog.records] == ["double: a batch of 2"]
    with pytest.raises(TaskError, match=r"^double: 33 cannot be doubled; take it out$"):
        planned.run(tmp_path / "b", job(40, 4, Warner), Resources(cpus_per_actor=0.5), lambda: None)


class Slow(Doubler):
    """Takes its time for a batch, and says when which task was read and worked on."""

    def __init__(self, notes: str) -> None:
        super().__init__()
        self.notes = Path(notes)

    def prepare(self, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.note("read", samples)
        return samples

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        self.note("began", samples)
        time.sleep(0.3)
        self.note("done", samples)
        return super().__call__(samples)

    def note(self, what: str, samples: list[dict[str, Any]]) -> None:
        with self.notes.open("a") as stream:
            stream.write(f"{what} {samples[0]['value'] // 4}\n")


def check_overlap(notes: Path) -> None:
    """Of two tasks: the worker had one after the other, and the second was being read while the first had it."""
    lines = [line.split() for line in notes.read_text().splitlines()]
    first, second = dict.fromkeys(task for what, task in lines if what == "began")
    assert [line for line in lines if line[0] != "read"] == [
        [what, task] for task in (first, second) for _ in range(2) for what in ("began", "done")
    ]
    assert lines.index(["read", second]) < len(lines) - lines[::-1].index(["done", first]) - 1


@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_reads_its_next_task_while_it_works(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    work = job(8, 4, Slow, notes=str(notes))
    parts = planned.run(tmp_path / "out", work, Resources(cpus_per_actor=0.5), lambda: None)
    assert result(parts) == {str(i): 2 * i for i in range(8)}
    check_overlap(notes)


@pytest.mark.parametrize("loaders", [0, 2])
def test_two_calls_of_a_runner_take_turns_and_overlap(loaders: int, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    one = runner(tmp_path, Slow, loaders, notes=str(notes))
    tasks = [pa.table({"name": [str(at)], "rows": [4], "start": [4 * at], "stop": [4 * at + 4]}) for at in range(2)]
    with ThreadPoolExecutor(2) as pool:
        told = pa.concat_tables(pool.map(one, tasks))
    assert told["rows"].to_pylist() == [4, 4]
    assert result([part_of(tmp_path, str(at)) for at in range(2)]) == {str(i): 2 * i for i in range(8)}
    check_overlap(notes)


class Counter(Doubler):
    """Is called once for all batches of a task."""

    def whole(self, batches: Iterable[list[dict[str, Any]]]) -> pa.Table:
        known = list(batches)
        rows = [(one["id"], len(known)) for batch in known for one in batch]
        return pa.table({"id": [name for name, _ in rows], "twice": [count for _, count in rows]})


def test_a_worker_may_take_a_task_as_a_whole(tmp_path: Path) -> None:
    runner(tmp_path, Counter)(pa.table({"name": ["x"], "rows": [5], "start": [0], "stop": [5]}))
    assert result([part_of(tmp_path, "x")]) == dict.fromkeys("01234", 3)


class Adder(Doubler):
    """Doubles by adding, prepared beforehand."""

    def prepare(self, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(sample["value"] == 99 for sample in samples):
            raise OSError("99 cannot be read")
        return [{**sample, "more": sample["value"]} for sample in samples]

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        return pa.table({"id": [s["id"] for s in samples], "twice": [s["value"] + s["more"] for s in samples]})


@pytest.mark.parametrize("loaders", [0, 3])
def test_batches_prepared_ahead_stay_in_order(loaders: int, tmp_path: Path) -> None:
    runner(tmp_path, Adder, loaders)(pa.table({"name": ["4"], "rows": [18], "start": [10], "stop": [28]}))
    assert read_table(part_of(tmp_path, "4"))["twice"].to_pylist() == [2 * one for one in range(10, 28)]


@pytest.mark.parametrize("loaders", [0, 3])
def test_a_task_that_fails_leaves_no_part_and_the_runner_free(loaders: int, tmp_path: Path) -> None:
    one = runner(tmp_path, Adder, loaders)
    with pytest.raises(OSError, match="99 cannot be read"):
        one(pa.table({"name": ["a"], "rows": [20], "start": [90], "stop": [110]}))
    with pytest.raises(RuntimeError, match="task b: 4 rows for 5 samples"):
        one(pa.table({"name": ["b"], "rows": [5], "start": [0], "stop": [4]}))
    with pytest.raises(RuntimeError, match="task c: no batch for 5 samples"):
        one(pa.table({"name": ["c"], "rows": [5], "start": [0], "stop": [0]}))
    one(pa.table({"name": ["d"], "rows": [4], "start": [0], "stop": [4]}))
    assert [path.name for path in tmp_path.iterdir()] == ["part-d.parquet"]


def test_threads_that_read_ahead_are_chosen_for_gpus_alone() -> None:
    cpu, gpu = Resources(cpus_per_actor=8), Resources(cpus_per_actor=8, gpus_per_actor=1)
    assert [planned.loaders_of_actor(cpu, cpus) for cpus in (0.5, 8)] == [0, 0]
    assert [planned.loaders_of_actor(gpu, cpus) for cpus in (0.5, 3.5, 8, 30)] == [1, 3, 8, 8]
    assert planned.loaders_of_actor(cpu.model_copy(update={"loaders_per_actor": 2}), 1) == 2
