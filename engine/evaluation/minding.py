"""A command that ends with whoever started it, however that ends; run by its path, it imports nothing of LiIT.

    python minding.py NOTE COMMAND ...

Whoever started it holds the other end of its standard input. Once that is closed, by them or because their process is gone, every
process of the command's group is ended: asked, and after some seconds killed. It leaves their family at once, since Ray kills the
children of a worker that exits, and would kill who is to see to the others. NOTE is a file that is there until all is over.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

ADOPTING = 36
"""PR_SET_CHILD_SUBREAPER: orphans of the server become children of this process, which can then see that they have ended."""
GRACE_S = 10
"""Between asking and killing."""
LOOK_S = 0.1


def main(note: Path, command: list[str]) -> None:
    note.touch()
    if os.fork():
        return
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ADOPTING, 1)
    try:
        _mind(command)
        sys.stdout.flush()
    finally:
        note.unlink(missing_ok=True)


def _mind(command: list[str]) -> None:
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stdout.write(f"{command[0]} cannot be started: {error.strerror}\n")
        return
    try:
        while child.poll() is None and not select.select([sys.stdin], [], [], LOOK_S)[0]:
            pass
        if child.returncode is not None:
            sys.stdout.write(f"{command[0]} has ended with code {child.returncode}\n")
    finally:
        _end(child.pid)


def _end(group: int) -> None:
    """All processes of a group, which is there as long as one of them is."""
    for word in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + GRACE_S
        _told(group, word)
        while _told(group, 0) and time.monotonic() < until:
            _bury()
            time.sleep(LOOK_S)


def _bury() -> None:
    """Take leave of whoever has ended, children of children too: as long as nobody does, their group is there."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _told(group: int, word: int) -> bool:
    try:
        os.killpg(group, word)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
