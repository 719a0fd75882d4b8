"""A server of others on this node: started on a free port, waited for until it is healthy, stopped with all that it started."""

import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

from liit.engine.evaluation import minding
from liit.engine.fleet.running import TaskError
from liit.engine.run.progress import log

LAST_LINES, LOOK_S, GONE_S = 8, 0.2, 60
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The server is on this machine: no proxy of the environment stands between."""


def filled(text: str, places: Mapping[str, str]) -> str:
    """The text with `{name}` replaced, of these names alone: other braces are the server's own."""
    return re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], found[0]), text)


class Serving:
    """The process of a server. Its log and the note that it is there lie in a folder that others may look at."""

    def __init__(self, command: str, places: Mapping[str, str], folder: Path) -> None:
        """places: by the words in the command, beside `port`. It may not be up yet; see `wait`."""
        port = _free_port()
        mark = f"server-{socket.gethostname()}-{port}"
        self.address = f"http://127.0.0.1:{port}"
        self.log_file, self.note = folder / f"{mark}.log", folder / f"{mark}.there"
        words = [filled(word, {**places, "port": str(port)}) for word in shlex.split(command)]
        with self.log_file.open("ab") as stream:
            minder = [sys.executable, "-I", minding.__file__, str(self.note), *words]
            self._minded = subprocess.Popen(minder, stdin=subprocess.PIPE, stdout=stream, stderr=stream)
        self._minded.wait()  # until it has let the server go its own way

    @property
    def ended(self) -> bool:
        return not self.note.exists()

    def wait(self, health: str, seconds: float) -> None:
        """Until it is healthy. Raises TaskError with the last lines of its log where it has ended, or takes too long."""
        until = time.monotonic() + seconds
        while not _answers(self.address + health) or self.ended:  # whoever else answers at its port, where it has ended
            if self.ended:
                raise TaskError(f"the server of evaluation.server has ended before it was healthy; {self.said()}")
            if time.monotonic() > until:
                raise TaskError(
                    f"the server of evaluation.server did not answer {health} within {seconds:g} s "
                    f"(evaluation.server.start_s); {self.said()}"
                )
            time.sleep(LOOK_S)

    def said(self) -> str:
        """The last lines of its log, as one."""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        last = [line.strip() for line in lines if line.strip()][-LAST_LINES:]
        return f"the end of its log: {' | '.join(last)}" if last else "its log is empty"

    def stop(self) -> None:
        """And wait until every process of it is gone."""
        assert self._minded.stdin is not None
        self._minded.stdin.close()
        _wait(lambda: self.ended, GONE_S)


def wait_until_gone(folder: Path, seconds: float = GONE_S) -> bool:
    """Whether all servers whose notes lie in the folder are gone within so many seconds: they hold memory of GPUs until then."""
    return _wait(lambda: not list(folder.glob("*.there")), seconds)


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    """Whether it was done within so many seconds."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
    return True


@contextmanager
def nobody_left(folder: Path) -> Iterator[None]:
    """No server whose note lies in the folder is there at the start, of a run that was stopped, and none at the end."""
    _see_off(folder)
    try:
        yield
    finally:
        _see_off(folder)


def _see_off(folder: Path) -> None:
    if not wait_until_gone(folder):
        notes = sorted(folder.glob("*.there"))
        log.warning("%s is not known to have ended after %d s; see to it", ", ".join(map(str, notes)), GONE_S)
        for note in notes:
            note.unlink(missing_ok=True)


def _answers(address: str) -> bool:
    with suppress(OSError, HTTPException), LOCAL.open(address, timeout=5) as reply:
        return bool(reply.status == 200)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
