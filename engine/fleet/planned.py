"""Planned batches through a Ray Data actor pool, resumable: the machinery under ingest, scoring and evaluation.

Batches are planned once from (length, key) and are the unit of work, padding included, so a row's bits depend on nothing
else. An actor writes the rows of a task (a few planned batches) as one part file by rename; a part that exists is done.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.fleet.connect import connect
from liit.engine.fleet.work import Chunks, write_work
from liit.engine.run.files import appearing, remove
from liit.engine.run.progress import Bar
from liit.engine.settings.sections import Resources


class Worker(Protocol):
    """What an actor holds: made once per actor, called once per planned batch.

    It may have a method `prepare` too, which makes of the samples what it is then called with: the part that needs no model,
    and that threads do ahead of it (`resources.loaders_per_actor`).
    """

    def __call__(self, samples: Any, /) -> pa.Table:
        """One row per sample; a sample that fails has its reason in a column, it is never left out."""
        ...


@dataclass(frozen=True)
class Job:
    """Planned work: which worker, made how, over which samples in which batches."""

    label: str
    worker: Callable[..., Worker]
    arguments: dict[str, Any]
    keys_N: np.ndarray
    batch_N: np.ndarray
    chunks: Chunks
    """The planned samples, in any order, among others maybe: tables with a column `key`."""
    batches_per_file: int
    rows_per_bucket: int | None = None
    """Samples that the driver holds in memory at a time; fewer than usual where they are large."""
    pooled: bool = True
    """Whether workers are held by an actor pool, with its GPUs; else by Ray's task processes, which outlive the job."""


def run(folder: Path, job: Job, resources: Resources, tick: Callable[[], None]) -> list[Path]:
    """Part files of all tasks in `folder`, made where they are missing; their rows are the samples, each exactly once."""
    folder.mkdir(parents=True, exist_ok=True)
    task_N = job.batch_N // job.batches_per_file
    tasks = np.unique(task_N)
    todo = np.array([task for task in tasks if not _part(folder, task).is_file()], task_N.dtype)
    left = np.isin(task_N, todo)
    if len(todo):
        connect(resources)
        done = int((~left).sum())
        with Bar(job.label, len(task_N), "samples", done) as bar:
            work = folder / "work"
            remove(work)
            work.mkdir()
            write_work(work, job.chunks, job.keys_N[left], job.batch_N[left], task_N[left], job.rows_per_bucket)
            for row in _stream(work, folder, job, resources, len(todo)):
                done += int(row["rows"])
                bar.move_to(done)
                tick()
            remove(work)
    for abandoned in folder.glob(".*.tmp"):
        abandoned.unlink()
    return _checked([_part(folder, task) for task in tasks], len(task_N))


def _stream(work: Path, folder: Path, job: Job, resources: Resources, tasks: int) -> Iterable[dict[str, Any]]:
    import ray  # as late as in `connect`

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.use_datasource_v2 = False  # the newer reader starts 32 actors for the footers of these few files
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its progress is said here, in samples
    dataset = ray.data.read_parquet(str(work), num_cpus=0.25).repartition(target_num_rows_per_block=1)
    make = {
        "folder": str(folder),
        "worker": job.worker,
        "arguments": job.arguments,
        "threads": resources.threads_per_actor,
        "loaders": resources.loaders_per_actor,
    }
    cpus = cpus_of_actor(resources, ray.cluster_resources().get("CPU", 1))
    if job.pooled and not resources.warm:
        done = dataset.map_batches(
            TaskRunner,
            fn_constructor_kwargs=make,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(resources.actors, tasks)),
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
            compute=ray.data.TaskPoolStrategy(resources.actors if job.pooled else None),
        )
    yield from done.iter_rows()


def cpus_of_actor(resources: Resources, total: float) -> float:
    """Of one actor on `total` CPUs: less than asked for where the actors would leave none to the tasks that feed them."""
    spare = max(total - 1, 0)
    return min(resources.cpus_per_actor, math.floor(100 * spare / resources.actors) / 100)


class TaskRunner:
    """The actor: runs the worker over a task's planned batches and writes their rows as one part file."""

    def __init__(
        self, folder: str, worker: Callable[..., Worker], arguments: dict[str, Any], threads: int, loaders: int
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.folder, self.loaders = Path(folder), loaders
        self.worker = worker(**arguments)

    def __call__(self, tasks: pa.Table) -> pa.Table:
        began = time.monotonic()
        written = [self._run(task["task"], task["batches"]) for task in tasks.to_pylist()]
        seconds = [time.monotonic() - began] * len(written)
        return pa.table({"task": tasks["task"], "rows": written, "seconds": seconds})

    def _run(self, task: int, batches: Sequence[list[dict[str, Any]]]) -> int:
        table = pa.concat_tables([self.worker(prepared) for prepared in self._prepared(batches)])
        expected = sum(len(batch) for batch in batches)
        if len(table) != expected:
            raise RuntimeError(f"task {task}: {len(table)} rows for {expected} samples")
        with appearing(_part(self.folder, task)) as temporary:
            pq.write_table(table, temporary, compression="none", use_dictionary=False)
        return len(table)

    def _prepared(self, batches: Sequence[list[dict[str, Any]]]) -> Iterator[Any]:
        prepare = getattr(self.worker, "prepare", None)
        if prepare is None:
            yield from batches
        elif not self.loaders:
            yield from map(prepare, batches)
        else:
            with ThreadPoolExecutor(self.loaders) as threads:
                yield from threads.map(prepare, batches)


_held: dict[str, TaskRunner] = {}


def _run_in_task(tasks: pa.Table, **make: Any) -> pa.Table:
    """A task holds its worker in the process it runs in, until one with other arguments comes."""
    name = repr(make)
    if name not in _held:
        _held.clear()
        _held[name] = TaskRunner(**make)
    return _held[name](tasks)


def _part(folder: Path, task: int) -> Path:
    return folder / f"part-{task:07d}.parquet"


def _checked(parts: list[Path], expected: int) -> list[Path]:
    rows = sum(pq.read_metadata(part).num_rows for part in parts)
    if rows != expected:
        raise RuntimeError(f"{parts[0].parent}: {rows} rows for {expected} samples; remove this folder and run again")
    return parts
