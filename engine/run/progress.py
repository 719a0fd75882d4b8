"""What a person sees: a bar on a terminal, a plain line now and then in a log; bytes and seconds in words."""

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger("liit")


def start_logging() -> None:
    """Plain lines on standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


class Bar:
    """Progress of one stage over `total` units, `done` of which an earlier process did."""

    def __init__(self, label: str, total: int, unit: str, done: int = 0, every_s: float = 10.0) -> None:
        self.label, self.total, self.unit, self.done, self.every_s = label, total, unit, done, every_s
        self.began, self.said, self.before = time.monotonic(), time.monotonic(), done
        self._pace: tuple[float, int] | None = None  # when and where the first units were done: starting up is no pace
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> "Bar":
        resumed = f", {self.done} done before" if self.done else ""
        if sys.stdout.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} {task.fields[unit]} {task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(file=sys.stdout))
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.done, unit=self.unit, note="")
            self._bar.start()
        else:
            log.info("%s: %d %s%s", self.label, self.total, self.unit, resumed)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            seconds = time.monotonic() - self.began
            log.info("%s: %d %s in %.1f s", self.label, self.done - self.before, self.unit, seconds)

    def move_to(self, done: int, note: str = "") -> None:
        """So many units are done now."""
        self.done = done
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif self._pace is None:
            self._pace = now, done
        elif now - self.said >= self.every_s and done > self._pace[1]:
            self.said = now
            left = (now - self._pace[0]) / (done - self._pace[1]) * (self.total - done)
            log.info("%s: %d/%d %s, %.0f s left %s", self.label, done, self.total, self.unit, left, note)


def size(count: float) -> str:
    """So many bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """So many seconds."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
