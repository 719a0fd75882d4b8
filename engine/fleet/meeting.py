"""A folder for a moment, where the driver and every node write, read and try a lock; nothing of it stays."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from liit.engine.fleet.look import FROM_DRIVER, LOCKED, flocks


@dataclass(frozen=True)
class Meeting:
    """folder: where to meet, or None for the problem that kept it from being made."""

    folder: Path | None
    problem: str | None = None

    def arrived(self, wrote: str) -> bool:
        """Whether what a node wrote is read here."""
        try:
            return self.folder is not None and (self.folder / wrote).read_text(encoding="utf-8") == self.folder.name
        except OSError:
            return False


def nearest(path: Path) -> Path:
    """The path itself, or the folder above it that is there: what is made at the path is made on the disk of that one."""
    return next(one for one in (path, *path.parents) if one.exists())


@contextmanager
def meeting(output: Path) -> Iterator[Meeting]:
    """In the folder where `output` is or would be made, a file to be read and one that is locked while this lasts."""
    with ExitStack() as stack:
        folder = nearest(output) / f".liit-doctor-{uuid.uuid4().hex[:12]}"
        problem = "nothing can be written there"
        try:
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            (folder / FROM_DRIVER).write_text(folder.name, encoding="utf-8")
            lock = stack.enter_context((folder / LOCKED).open("a"))
            problem = "flock does not work there"
            if not flocks(lock.fileno()):
                (folder / LOCKED).unlink()  # by which nodes know
        except OSError as error:
            met = Meeting(None, f"{problem}: {error.strerror}")
        else:
            met = Meeting(folder)
        yield met
