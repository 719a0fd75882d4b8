"""One process at a time in a folder: by flock, and on file systems that have none by a file that its holder goes on writing.

Such files are `.lock-1`, `.lock-2`, ...: whoever makes the next number, which only one process can, has the folder. Numbers only
grow and the last file stays, so that a process that was slow to look never makes one that counts. A holder is gone when its file
says so, when its process has ended on this machine, or when nothing new was written for `WATCH_S`; no clocks are compared.
"""

import errno
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from liit.engine.run.progress import log

NAME = ".lock"
BEAT_S, WATCH_S = 2.0, 60.0
"""How often a holder writes, and how long one is watched that may have died on another machine."""
NONE_HERE = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}
"""What flock raises on file systems that have none."""
_FREE = "free"


class InUse(Exception):
    """Another process has the folder; the message is who, in words, where that is known."""


class Lost(ValueError):
    """Another process has taken the folder, because this one stood still."""


class Lock:
    """Holds a folder until it is closed. Raises InUse, or OSError where nothing can be written there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: Path | None = None
        self._ended = threading.Event()
        self._file = (folder / NAME).open("a")
        flocks = _flock(self._file.fileno(), fcntl.LOCK_EX)
        last = _last(folder)
        if last is not None and _lives(last):
            raise InUse(_who(last))
        if not flocks:
            self._hold(0 if last is None else _number(last))

    def check(self) -> None:
        """Raises Lost where another process has the folder by now."""
        last = _last(self._folder)
        if self._mine is not None and last is not None and last != self._mine:
            raise Lost(f"another run ({_who(last)}) has taken {self._folder}, because this one stood still")

    def close(self) -> None:
        """Let another process have the folder."""
        self._file.close()
        self._ended.set()
        if self._mine is not None and _last(self._folder) == self._mine:
            self._mine.write_text(_FREE, encoding="utf-8")

    def _hold(self, before: int) -> None:
        mine = self._folder / f"{NAME}-{before + 1}"
        try:
            with mine.open("x", encoding="utf-8") as stream:
                stream.write(_told(0))
        except FileExistsError as error:
            raise InUse(_who(mine)) from error
        if _last(self._folder) != mine:
            mine.unlink()
            raise InUse("")
        self._mine = mine
        for other in _files(self._folder):
            if other != mine:
                other.unlink(missing_ok=True)
        log.info("%s: its file system has no flock; while the run goes on, %s is written instead", self._folder, mine)
        threading.Thread(target=self._beat, args=(mine,), daemon=True, name="lock").start()

    def _beat(self, mine: Path) -> None:
        beat = 0
        while not self._ended.wait(BEAT_S):
            beat += 1
            try:
                with mine.open("r+", encoding="utf-8") as stream:
                    stream.write(_told(beat))
            except FileNotFoundError:
                return  # taken, which `check` says
            except OSError as error:
                log.warning("%s cannot be written: %s", mine, error.strerror)


def held(folder: Path) -> bool:
    """Whether a process has the folder now, without waiting: one on another machine, by when it last wrote."""
    last = _last(folder)
    if last is not None and not _gone(last):
        return _process_here(_text(last) or "") is not None or time.time() - last.stat().st_mtime < WATCH_S
    if not (folder / NAME).is_file():
        return False
    with (folder / NAME).open() as file:
        try:
            _flock(file.fileno(), fcntl.LOCK_SH)
        except (InUse, OSError):
            return True
    return False


def _flock(file: int, kind: int) -> bool:
    """Whether the lock is held now; False where there is none. Raises InUse."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise InUse("") from error
    except OSError as error:
        if error.errno not in NONE_HERE:
            raise
        return False
    return True


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob(f"{NAME}-*") if path.name[len(NAME) + 1 :].isdigit())


def _number(path: Path) -> int:
    return int(path.name[len(NAME) + 1 :])


def _last(folder: Path) -> Path | None:
    return max(_files(folder), key=_number, default=None)


def _told(beat: int) -> str:
    """Always as long for one process, so that it is written over in place."""
    return f"{os.getpid()} {socket.gethostname()} {_machine()} {beat:012d}\n"


def _machine() -> str:
    """This start of this machine, and the room of its process numbers: in a container they are others."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip()}/{os.readlink('/proc/self/ns/pid')}" if boot.is_file() else "?"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _who(path: Path) -> str:
    words = (_text(path) or "").split()
    return f"process {words[0]} on {words[1]}" if len(words) == 4 else ""


def _process_here(text: str) -> int | None:
    """The process of this machine that a file's text is of; None of another machine's, and of a text that is being written."""
    words = text.split()
    return int(words[0]) if len(words) == 4 and words[2] == _machine() else None


def _gone(path: Path) -> bool:
    """Whether its holder has let go, or has ended on this machine."""
    text = _text(path) or ""
    if text == _FREE:
        return True
    if (process := _process_here(text)) is None:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # of another person
    return False


def _lives(path: Path) -> bool:
    """Whether its holder is at work; one of which nothing is known but an old file is watched."""
    if _gone(path):
        return False
    seen, until = _text(path), time.monotonic() + WATCH_S
    log.info("%s: looking for up to %.0f s whether its run (%s) still goes on", path.parent, WATCH_S, _who(path))
    while time.monotonic() < until:
        time.sleep(min(BEAT_S, 0.5))
        if _gone(path):
            return False
        if _text(path) != seen:
            return True
    return False
