"""Work that may end the process it is done in is counted: after some times it is refused, not tried for ever.

Ray starts a process anew that is killed for memory, and gives it the same work. The end of a node costs one try of whatever ran
on it. What raises an error does not count: that is said, and not tried again. Counts are files in a folder beside that of the
work, and are gone with the job.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from liit.engine.run.files import remove

MOST = 4


class ProcessEnded(RuntimeError):
    """What is done here has ended its process again and again; one line for the person who started it."""


def notes_of(folder: Path) -> Path:
    """Where it is counted what is done for a folder."""
    return folder.with_name(f"{folder.name}.tries")


@contextmanager
def counting(folder: Path) -> Iterator[None]:
    """A job whose tasks are counted, anew: what ended processes in an earlier one may have been mended."""
    remove(notes_of(folder))
    notes_of(folder).mkdir()
    yield
    remove(notes_of(folder))


@contextmanager
def counted(folder: Path, name: str, most: int = MOST) -> Iterator[None]:
    """A task of this folder. Raises ProcessEnded where it was begun `most` times, and its process never got to its end.

    Outside of `counting`, nothing is."""
    if not notes_of(folder).is_dir():
        yield
        return
    note = notes_of(folder) / name
    with note.open("ab", buffering=0) as stream:
        stream.write(b".")
        begun = os.fstat(stream.fileno()).st_size
    if begun > most:
        raise ProcessEnded(_words(f"task {name}", most))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


@contextmanager
def starting(folder: Path, most: int = MOST) -> Iterator[None]:
    """The start of a process that is to do tasks of this folder. Raises ProcessEnded where `most` have died of it here.

    Outside of `counting`, nothing is."""
    if not notes_of(folder).is_dir():
        yield
        return
    here = f"start-{socket.gethostname()}-"
    pids = [note.name.removeprefix(here) for note in notes_of(folder).glob(f"{here}*")]
    if sum(not Path("/proc", pid).exists() for pid in pids) >= most:
        raise ProcessEnded(_words("what tasks need, being loaded,", most))
    note = notes_of(folder) / f"{here}{os.getpid()}"
    note.touch()
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def _words(what: str, times: int) -> str:
    return (
        f"{what} ended its process {times} times without a word, the last time on {socket.gethostname()} or before it; "
        "the system does so when memory is short"
    )
