"""Which errors are the user's to mend, in one line; their tracebacks are kept in the run folder.

Ray hands on what went wrong elsewhere in wrappings of its own, of actors that die at their start the text alone. Here they are
taken off, and what is found inside decides, wherever it happened.
"""

import errno
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from liit.engine.fleet.tries import ProcessEnded

LOG, FILE = "errors.log", "file: "
AGAIN = "the same command goes on then"
TODO = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or ask for a larger quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or take another disk",
    errno.EROFS: "mount it for writing again",
    errno.EACCES: "allow this user to read and write there",
    errno.EPERM: "allow this user to read and write there",
    errno.ENOENT: "bring it back",
    errno.ENOTDIR: "bring it back",
    errno.EIO: "see to that disk",
    errno.ESTALE: "mount that disk anew",
    errno.ENOTCONN: "mount that disk anew",
    errno.EHOSTDOWN: "see to the server of that disk",
    errno.ETIMEDOUT: "see to the server of that disk",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (fs.file-max)",
    errno.ENOMEM: "free memory, or ask for less of it in resources",
}
LESS = (
    "ask for less memory (fewer resources.actors on a node, a smaller resources.read_ahead_gb, scoring.tokens_per_batch or "
    "training.micro_batch_tokens)"
)
KILLED = (
    "ActorDiedError",
    "WorkerCrashedError",
    "NodeDiedError",
    "ActorUnavailableError",
    "WorkerHealthCheckFailedError",
)
"""Ray's errors of processes that are gone."""
_NUMBER = re.compile(r"\((?:os error|OS error) (\d+)\)|\[[Ee]rrno (\d+)\]")
_RAISED = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Ended|NotFinite)): (.+)$", re.MULTILINE)
_PLACE = re.compile(r"\bip=([\w.:]+)")
_TORN = ("PytorchStreamWriter failed", "file write failed", "unexpected pos ")
"""What torch says of a file that it could not write to its end."""


@dataclass(frozen=True, order=True)
class Found:
    """What one error among those wrapped in each other tells; the smallest tells most."""

    rank: int
    line: str


def told(error: BaseException, root: Path) -> str | None:
    """One line about what a user can mend, and where the rest is; None for an error that is not theirs.

    root: the run folder, where the traceback goes; where nothing can be written there, a temporary folder.
    """
    found = min((one for one in map(_found, within(error)) if one is not None), default=None)
    if found is None:
        return None
    if isinstance(error, ValueError) and not _is_wrapping(error):
        return found.line
    return f"{' '.join(found.line.split())} (the traceback is in {_kept(error, root)})"


def within(error: Any) -> Iterator[BaseException]:
    """The error, and all that it wraps."""
    queue, seen = [error], set[int]()
    while queue:
        one = queue.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if _is_wrapping(one) and (place := _PLACE.search(str(one))) and not _noted(one.cause):
            one.cause.add_note(f"on node {place[1]}")
        inner = [getattr(one, name, None) for name in ("cause", "controller_failure", "health_check_failure")]
        failures = getattr(one, "worker_failures", None)
        inner += list(failures.values()) if isinstance(failures, dict) else []
        inner += [] if isinstance(one, ValueError) else [one.__cause__]  # a ValueError's own words say more
        queue += [other for other in inner if isinstance(other, BaseException)]


def _is_wrapping(error: Any) -> bool:
    """Of Ray's kinds that are also of the kind of what they wrap; its own fields are empty then."""
    return isinstance(getattr(error, "cause", None), BaseException)


def _found(error: BaseException) -> Found | None:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if _is_wrapping(error):
        return None
    where = _where(error)
    if isinstance(error, OSError) and error.errno in TODO:
        file = _file(error)
        return Found(
            0, f"{where}{_short(str(error.strerror))}{f': {file}' if file else ''}; {TODO[error.errno]}; {AGAIN}"
        )
    said = str(error)
    number = _NUMBER.search(said)
    code = int(number[1] or number[2]) if number else errno.ENOSPC if any(torn in said for torn in _TORN) else 0
    if code in TODO:
        return Found(1, f"{where}{os.strerror(code)} ({_short(said)}); {TODO[code]}; {AGAIN}")
    if isinstance(error, ProcessEnded) or "ProcessEnded: " in said:
        return Found(2, f"{where}{_short(said)}; {LESS}; {AGAIN}")
    if kinds & {"OutOfMemoryError"} or "Task was killed due to the node running low on memory" in said:
        return Found(2, f"{where}out of memory ({_short(said)}); {LESS}; {AGAIN}")
    if isinstance(error, ValueError | OSError):
        return Found(3, f"{where}{_short(said)}")
    if "WorkerGroupError" in kinds:
        return Found(9, f"training failed: {_short(said)}; {AGAIN}")
    if kinds & set(KILLED):
        return _of_text(said) or Found(8, f"{where}a process ended without a word ({_short(said)}); {LESS}; {AGAIN}")
    if _noted(error):
        return Found(5, f"{where}{type(error).__name__}: {_short(said)}")
    return None


def _of_text(said: str) -> Found | None:
    """Of an actor that died at its start, which tells its error as text."""
    raised = _RAISED.findall(said)
    if "creation task" not in said or not raised:
        return None
    place = _PLACE.search(said)
    kind, line = raised[-1]
    return Found(
        4, f"{f'node {place[1]}: ' if place else ''}{'' if kind == 'ModelError' else f'{kind}: '}{line}; {AGAIN}"
    )


@contextmanager
def file_noted() -> Iterator[None]:
    """What is raised within keeps the name of its file: Ray Data puts words of its own in its place."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            error.add_note(f"{FILE}{error.filename}")
        raise


def _file(error: OSError) -> str:
    noted = [note.removeprefix(FILE) for note in getattr(error, "__notes__", []) if note.startswith(FILE)]
    own = str(error.filename or "")
    return noted[0] if noted else "" if own.startswith("Failed to ") else own


def _noted(error: BaseException) -> list[str]:
    return [note for note in getattr(error, "__notes__", []) if note.startswith("on node ")]


def _where(error: BaseException) -> str:
    notes = _noted(error)
    return f"{notes[0].removeprefix('on ')}: " if notes else ""


def _short(said: str) -> str:
    """The first line, or of a traceback the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no word of why"]
    raised = _RAISED.findall(said)
    return raised[-1][1] if len(lines) > 1 and raised else lines[0]


def _kept(error: BaseException, root: Path) -> Path | str:
    """Where the tracebacks of the error and of what it wraps were written to."""
    whole = "\n".join("".join(traceback.format_exception(one, chain=False)) for one in within(error))
    for file in (root / LOG, Path(tempfile.gettempdir()) / f"liit-{root.name}-{LOG}"):
        try:
            with file.open("a", encoding="utf-8") as stream:
                stream.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}\n{whole}\n")
        except OSError:
            continue
        return file
    return "no file, since none can be written"
