"""Planned work through a Ray Data actor pool, resumable: the machinery under ingest, scoring and evaluation.

A task is a part of what is to be done, with its planned batches; whoever runs it makes the same batches of it, so a row's bits
depend on nothing else. An actor writes the rows of a task as one part file by rename; a part that exists is done.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.fleet.ahead import made_ahead
from liit.engine.fleet.connect import connect
from liit.engine.fleet.faults import file_noted
from liit.engine.fleet.placing import decided
from liit.engine.fleet.tries import counted, counting, starting
from liit.engine.run.files import appearing
from liit.engine.run.progress import Bar
from liit.engine.settings.sections import Resources


class Batchwise(Protocol):
    """A worker, made once per actor, that is called once per planned batch.

    It may have a method `prepare` too, which makes of a batch what it is then called with: the part that needs no model, and
    that threads do ahead of it (`resources.loaders_per_actor`); `nbytes` of that says how much memory it takes.
    """

    def __call__(self, samples: Any, /) -> pa.Table:
        """One row per sample; a sample that fails has its reason in a column, it is never left out."""
        ...


@runtime_checkable
class Taskwise(Protocol):
    """A worker that is called once per task, with its batches one after the other; `prepare` as of the other kind."""

    def whole(self, batches: Iterable[Any], /) -> pa.Table:
        """One row per sample of all batches."""
        ...


Worker = Batchwise | Taskwise


@dataclass(frozen=True)
class Task:
    """A part of planned work."""

    name: str
    """Of its part file."""
    rows: int
    """How many come of it."""
    what: Mapping[str, Any]
    """What `Job.batches` is told: text, numbers, bytes, and arrays, which come as lists."""


@dataclass(frozen=True)
class Job:
    """Planned work: which worker, made how, over which tasks."""

    label: str
    worker: Callable[..., Worker]
    arguments: dict[str, Any]
    tasks: Sequence[Task]
    batches: Callable[..., Iterator[Any]]
    """The planned batches of a task, by what it says: called where the worker is."""
    pooled: bool = True
    """Whether workers are held by an actor pool, with its GPUs; else by Ray's task processes, which outlive the job."""


def run(folder: Path, job: Job, resources: Resources, tick: Callable[[], None]) -> list[Path]:
    """Part files of all tasks in `folder`, made where they are missing; their rows are the samples, each exactly once."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [task for task in job.tasks if not _part(folder, task.name).is_file()]
    rows = sum(task.rows for task in job.tasks)
    if todo:
        connect(resources)
        resources = decided(resources)
        done = rows - sum(task.rows for task in todo)
        with counting(folder), Bar(job.label, rows, "samples", done) as bar:
            for row in _stream(todo, folder, job, resources):
                done += int(row["rows"])
                bar.move_to(done)
                tick()
    for abandoned in folder.glob(".*.tmp"):
        abandoned.unlink()
    return _checked([_part(folder, task.name) for task in job.tasks], rows)


def _block(task: Task) -> pa.Table:
    """A task as a row of its own."""
    what = {
        name: pa.ListArray.from_arrays(pa.array([0, len(value)], pa.int32()), _whole(value))
        if isinstance(value, pa.Array | pa.ChunkedArray)
        else [value]
        for name, value in task.what.items()
    }
    return pa.table({"name": [task.name], "rows": [task.rows], **what})


def _whole(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _stream(tasks: Sequence[Task], folder: Path, job: Job, resources: Resources) -> Iterable[dict[str, Any]]:
    import ray  # as late as in `connect`

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # not one that says that there was one: `faults.told` looks at it
    logging.getLogger("ray.data").setLevel(
        logging.CRITICAL
    )  # progress is said here in samples, errors by `faults.told`
    dataset = ray.data.from_arrow([_block(task) for task in tasks])
    make = {
        "folder": str(folder),
        "worker": job.worker,
        "arguments": job.arguments,
        "batches": job.batches,
        "threads": resources.threads_per_actor,
        "loaders": resources.loaders_per_actor,
        "ahead": resources.read_ahead_gb * 1e9 / 2,  # an actor has two tasks: one that it runs, and the next
    }
    cpus = cpus_of_actor(resources, ray.cluster_resources().get("CPU", 1))
    if job.pooled and not resources.warm:
        done = dataset.map_batches(
            TaskRunner,
            fn_constructor_kwargs=make,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(resources.actor_count, len(tasks)), max_concurrent_calls_per_actor=2
            ),
            num_cpus=cpus,
            num_gpus=resources.gpus_per_actor,
        )
    else:
        done = dataset.map_batches(
            _run_in_task,
            fn_kwargs=make,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=cpus if job.pooled else 0.5,
            compute=ray.data.TaskPoolStrategy(resources.actor_count if job.pooled else None),
        )
    yield from done.iter_rows()


def cpus_of_actor(resources: Resources, total: float) -> float:
    """Of one actor on `total` CPUs: less than asked for where the actors would leave none to the tasks that feed them."""
    spare = max(total - 1, 0)
    return min(resources.cpus_per_actor, math.floor(100 * spare / resources.actor_count) / 100)


class TaskRunner:
    """The actor: runs the worker over the planned batches of tasks and writes the rows of each as one part file.

    Two calls may be under way: one task has the worker, the next one's first batches are read and prepared meanwhile.
    """

    def __init__(
        self,
        folder: str,
        worker: Callable[..., Worker],
        arguments: dict[str, Any],
        batches: Callable[..., Iterator[Any]],
        threads: int,
        loaders: int,
        ahead: float,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.folder, self.batches = Path(folder), batches
        self.loaders, self.ahead = loaders, ahead
        with starting(self.folder):
            self.worker = worker(**arguments)
        self.turn: AbstractContextManager[object] = threading.Lock()

    def __call__(self, tasks: pa.Table) -> pa.Table:
        began = time.monotonic()
        with file_noted():
            written = [self._run(**task) for task in tasks.to_pylist()]
        seconds = [time.monotonic() - began] * len(written)
        return pa.table({"task": tasks["name"], "rows": written, "seconds": seconds})

    def _run(self, name: str, rows: int, **what: Any) -> int:
        with counted(self.folder, name):
            prepared = self._prepared(self.batches(**what))
            first = next(prepared)
            with self.turn:
                table = self._rows(chain([first], prepared))
        if len(table) != rows:
            raise RuntimeError(f"task {name}: {len(table)} rows for {rows} samples")
        with appearing(_part(self.folder, name)) as temporary:
            pq.write_table(table, temporary, compression="none", use_dictionary=False)
        return len(table)

    def _rows(self, prepared: Iterator[Any]) -> pa.Table:
        if isinstance(self.worker, Taskwise):
            return self.worker.whole(prepared)
        return pa.concat_tables(map(self.worker, prepared))

    def _prepared(self, batches: Iterator[Any]) -> Iterator[Any]:
        prepare = getattr(self.worker, "prepare", None)
        return batches if prepare is None else made_ahead(prepare, batches, self.loaders, self.ahead)


_held: dict[str, TaskRunner] = {}


def _run_in_task(tasks: pa.Table, **make: Any) -> pa.Table:
    """A task holds its worker in the process it runs in, until one with other arguments comes."""
    name = repr(make)
    if name not in _held:
        _held.clear()
        _held[name] = TaskRunner(**make)
    return _held[name](tasks)


def _part(folder: Path, name: str) -> Path:
    return folder / f"part-{name}.parquet"


def _checked(parts: list[Path], expected: int) -> list[Path]:
    rows = sum(pq.read_metadata(part).num_rows for part in parts)
    if rows != expected:
        raise RuntimeError(f"{parts[0].parent}: {rows} rows for {expected} samples; remove this folder and run again")
    return parts
