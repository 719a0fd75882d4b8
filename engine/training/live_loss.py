"""The loss of a training while it goes on, for TensorBoard; `pages/tracking.py` replaces it when the timestep is done.

Written by this thread: `SummaryWriter` has one of its own, whose errors nobody can catch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from liit.engine.run.progress import log

FLUSH_SECONDS = 10


@contextmanager
def live_loss(root: Path, t: int, expert: str) -> Iterator[Callable[[int, float], None]]:
    """A function that TensorBoard shows the loss of a step by, while timestep t, or an expert of it, is trained.

    Where its files cannot be written that is said once, and the training goes on without it.
    """
    curve = _Curve(root / "tensorboard", t, f"training/loss_t{t:02d}" + (f"_{expert}" if expert else ""))
    try:
        yield curve.show
    finally:
        curve.end()


def event_file(folder: Path, ending: str) -> EventsWriter:
    """One that TensorBoard finds in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return EventsWriter(str(folder / "events"), ending)


def point(name: str, step: int, value: float) -> Event:
    return Event(wall_time=time.time(), step=step, summary=scalar(name, value))


class _Curve:
    """An event file with one scalar; None in its place once it could not be written."""

    def __init__(self, folder: Path, t: int, name: str) -> None:
        self.folder, self.t, self.name, self.flushed = folder, t, name, time.monotonic()
        self.file: EventsWriter | None = None
        with self._told():
            self.file = event_file(folder, f".t{t:02d}.live")

    def show(self, step: int, loss: float) -> None:
        if self.file is None:
            return
        with self._told():
            self.file.write_event(point(self.name, step, loss))
            if time.monotonic() - self.flushed > FLUSH_SECONDS:
                self.file.flush()
                self.flushed = time.monotonic()

    def end(self) -> None:
        if self.file is not None:
            with self._told():
                self.file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.file = None
            log.warning("t%d: the loss is not in TensorBoard's files (%s): %s", self.t, self.folder, error)
