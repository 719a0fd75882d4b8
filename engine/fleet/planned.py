"""Planned work through a Ray Data actor pool, resumable: the machinery under ingest, scoring and evaluation.

A task is a part of what is to be done, with its planned batches; whoever runs it makes the same batches of it, so a row's bits
depend on nothing else. An actor writes the rows of a task as one part file by rename; a part that exists is done.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.fleet.connect import connect
from liit.engine.fleet.placing import decided
from liit.engine.fleet.running import TaskError, TaskRunner, Worker, part_of, run_in_task
from liit.engine.fleet.tries import counting
from liit.engine.run.progress import Bar, log
from liit.engine.settings.sections import Resources

MOST_LOADERS = 8
"""Of an actor, where nothing is said of them."""


@dataclass(frozen=True)
class Task:
    """A part of planned work, one sample of it at least."""

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
    light: bool = False
    """Whether a worker is small enough to be kept by such a process, where `resources.warm` is left to that."""
    unit: str = "samples"
    """What `Task.rows` counts, in words."""


def run(folder: Path, job: Job, resources: Resources, tick: Callable[[], None]) -> list[Path]:
    """Part files of all tasks in `folder`, made where they are missing; their rows are the samples, each exactly once.

    What workers warn of is said here, the first of each kind. Raises TaskError as they do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [task for task in job.tasks if not part_of(folder, task.name).is_file()]
    rows = sum(task.rows for task in job.tasks)
    if todo:
        connect(resources)
        resources = decided(resources)
        done = rows - sum(task.rows for task in todo)
        with counting(folder), Bar(job.label, rows, job.unit, done) as bar:
            said: set[str] = set()
            for told in _stream(todo, folder, job, resources):
                if told["error"] is not None:
                    raise TaskError(f"{job.label}: {told['error']}")
                done += int(told["rows"])
                bar.move_to(done)
                tick()
                for one in told["warnings"]:
                    if one["kind"] not in said:
                        log.warning("%s: %s", job.label, one["text"])
                    said.add(one["kind"])
    for abandoned in folder.glob(".*.tmp"):
        abandoned.unlink()
    return _checked([part_of(folder, task.name) for task in job.tasks], rows)


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
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its progress is said here, its errors by `faults.told`
    dataset = ray.data.from_arrow([_block(task) for task in tasks])
    cpus = cpus_of_actor(resources, ray.cluster_resources().get("CPU", 1))
    make = {
        "folder": str(folder),
        "worker": job.worker,
        "arguments": job.arguments,
        "batches": job.batches,
        "threads": resources.threads_per_actor,
        "loaders": loaders_of_actor(resources, cpus),
        "ahead": resources.read_ahead_gb * 1e9 / 2,  # an actor has two tasks: one that it runs, and the next
    }
    if job.pooled and not _warm(resources, job):
        done = dataset.map_batches(
            TaskRunner,
            fn_constructor_kwargs=make,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(resources.actor_count, len(tasks)),
                max_concurrent_calls_per_actor=2,
                max_tasks_in_flight_per_actor=2,  # none waits behind them for an actor while another has nothing to do
                enable_true_multi_threading=True,  # else Ray has the second call wait, before it has read anything
            ),
            num_cpus=cpus,
            num_gpus=resources.gpus_per_actor,
        )
    else:
        done = dataset.map_batches(
            run_in_task,
            fn_kwargs=make,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=cpus if job.pooled else 0.5,
            compute=ray.data.TaskPoolStrategy(min(resources.actor_count, len(tasks)) if job.pooled else None),
        )
    yield from done.iter_rows()


def _warm(resources: Resources, job: Job) -> bool:
    if resources.warm == "auto":
        return job.light and not resources.gpus_per_actor
    return resources.warm


def cpus_of_actor(resources: Resources, total: float) -> float:
    """Of one actor on `total` CPUs: less than asked for where the actors would leave none to the tasks that feed them."""
    spare = max(total - 1, 0)
    return min(resources.cpus_per_actor, math.floor(100 * spare / resources.actor_count) / 100)


def loaders_of_actor(resources: Resources, cpus: float) -> int:
    """Threads that prepare ahead of an actor with so many CPUs."""
    if resources.loaders_per_actor is not None:
        return resources.loaders_per_actor
    return max(min(MOST_LOADERS, int(cpus)), 1) if resources.gpus_per_actor else 0


def _checked(parts: list[Path], expected: int) -> list[Path]:
    rows = sum(pq.read_metadata(part).num_rows for part in parts)
    if rows != expected:
        raise RuntimeError(f"{parts[0].parent}: {rows} rows for {expected} samples; remove this folder and run again")
    return parts
