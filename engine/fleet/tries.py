"""Work that may end the process it is done in is counted: after some times it is refused, not tried for ever.

Ray starts a process anew that is killed for memory, and gives it the same work. The end of a node costs one try of whatever ran
on it. What raises an error does not count: that is said, and not tried again.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST = 6
ENDING = ".tries.tmp"
"""Of the notes that count."""


class ProcessEnded(RuntimeError):
    """What is done here has ended its process again and again; one line for the person who started it."""


@contextmanager
def counted(folder: Path, name: str, most: int = MOST) -> Iterator[None]:
    """A task of this folder, begun `most` times at most where its process never gets to its end. Raises ProcessEnded beyond."""
    note = folder / f".{name}{ENDING}"
    with note.open("ab", buffering=0) as stream:
        stream.write(b".")
        begun = os.fstat(stream.fileno()).st_size
    if begun > most:
        note.unlink(missing_ok=True)
        raise ProcessEnded(_words(f"task {name}", most))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


@contextmanager
def starting(folder: Path, most: int = MOST) -> Iterator[None]:
    """The start of a process that is to do tasks of this folder. Raises ProcessEnded where `most` have died of it here."""
    here = f".start-{socket.gethostname()}-"
    died = [note for note in folder.glob(f"{here}*{ENDING}") if not _alive(note.name.removeprefix(here))]
    if len(died) >= most:
        raise ProcessEnded(_words("what tasks need, being loaded,", most))
    note = folder / f"{here}{os.getpid()}{ENDING}"
    note.touch()
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Count anew: what the counts were about may have been mended."""
    for note in folder.glob(f".*{ENDING}"):
        note.unlink()


def _alive(rest: str) -> bool:
    return Path("/proc", rest.removesuffix(ENDING)).exists()


def _words(what: str, times: int) -> str:
    return (
        f"{what} ended its process {times} times without a word, the last time on {socket.gethostname()} or before it; "
        "the system does so when memory is short"
    )
