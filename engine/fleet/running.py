"""What runs a task where its actor is: reads it, prepares its batches ahead, has the worker do them, writes the rows."""

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.fleet.ahead import made_ahead
from liit.engine.fleet.faults import file_noted
from liit.engine.fleet.tries import counted, starting
from liit.engine.run.files import appearing
from liit.engine.run.progress import log


class Batchwise(Protocol):
    """A worker, made once per actor, that is called once per planned batch.

    It may have a method `prepare` too, which makes of a batch what it is then called with: the part that needs no model, and
    that threads do ahead of it (`resources.loaders_per_actor`); `nbytes` of that says how much memory it takes.
    """

    def __call__(self, batch: Any, /) -> pa.Table:
        """One row per sample; a sample that fails has its reason in a column, it is never left out."""
        ...


@runtime_checkable
class Taskwise(Protocol):
    """A worker that is called once per task, with its batches one after the other; `prepare` as of the other kind."""

    def whole(self, batches: Iterable[Any], /) -> pa.Table:
        """One row per sample of all batches."""
        ...


Worker = Batchwise | Taskwise


class TaskError(ValueError):
    """What the person who started the run can mend, in one line: said where the run is, and not as an actor's traceback."""


WARNINGS = pa.list_(pa.struct([("kind", pa.string()), ("text", pa.string())]))
TOLD = pa.schema([("task", pa.string()), ("rows", pa.int64()), ("warnings", WARNINGS), ("error", pa.string())])


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
        """threads: of torch. loaders, ahead: threads of `made_ahead`, and bytes for each of two tasks."""
        self.folder, self.batches = Path(folder), batches
        self.threads, self.loaders, self.ahead = threads, loaders, ahead
        self._use_threads()
        with starting(self.folder):
            self.worker = worker(**arguments)
        self.turn = threading.Lock()

    def __call__(self, tasks: pa.Table) -> pa.Table:
        """Of each task the rows written, what its worker warned of meanwhile, and the words of a TaskError."""
        self._use_threads()
        with file_noted():
            return pa.Table.from_pylist([self._told(**task) for task in tasks.to_pylist()], schema=TOLD)

    def _told(self, name: str, **task: Any) -> dict[str, Any]:
        written, error = 0, None
        with heard() as warnings:
            try:
                written = self._run(name, **task)
            except TaskError as raised:
                error = str(raised)
        said = [{"kind": kind, "text": text} for kind, text in warnings.items()]
        return {"task": name, "rows": written, "warnings": said, "error": error}

    def _use_threads(self) -> None:
        """Each thread that Ray calls in has a number of its own."""
        import torch

        torch.set_num_threads(self.threads)

    def _run(self, name: str, rows: int, **what: Any) -> int:
        with counted(self.folder, name), closing(self._prepared(self.batches(**what))) as prepared:
            first = next(prepared, None)
            if first is None:
                raise RuntimeError(f"task {name}: no batch for {rows} samples")
            with self.turn:
                table = self._rows(chain([first], prepared))
        if len(table) != rows:
            raise RuntimeError(f"task {name}: {len(table)} rows for {rows} samples")
        with appearing(part_of(self.folder, name)) as temporary:
            pq.write_table(table, temporary, compression="none", use_dictionary=False)
        return len(table)

    def _rows(self, prepared: Iterator[Any]) -> pa.Table:
        if isinstance(self.worker, Taskwise):
            return self.worker.whole(prepared)
        return pa.concat_tables(map(self.worker, prepared))

    def _prepared(self, batches: Iterator[Any]) -> Generator[Any, None, None]:
        prepare = getattr(self.worker, "prepare", None)
        if prepare is None:
            return (batch for batch in batches)
        return made_ahead(prepare, batches, self.loaders, self.ahead)


@contextmanager
def heard() -> Iterator[dict[str, str]]:
    """What is warned of in this process meanwhile, the first of each kind: an actor's own log is where nobody looks."""
    ear = _Ear(logging.WARNING)
    log.addHandler(ear)
    try:
        yield ear.heard
    finally:
        log.removeHandler(ear)


class _Ear(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.heard: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.setdefault(str(record.msg), record.getMessage())


_held: dict[str, TaskRunner] = {}


def run_in_task(tasks: pa.Table, **make: Any) -> pa.Table:
    """A task holds its worker in the process it runs in, until one with other arguments comes."""
    name = repr(make)
    if name not in _held:
        _held.clear()
        _held[name] = TaskRunner(**make)
    return _held[name](tasks)


def part_of(folder: Path, name: str) -> Path:
    """The file of a task's rows."""
    return folder / f"part-{name}.parquet"
