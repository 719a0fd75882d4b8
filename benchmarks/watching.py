"""What a process and those that it started take: seconds of its own, anonymous memory, files."""

import os
import threading
import time
from pathlib import Path
from types import TracebackType


def anonymous(pid: int | str = "self") -> int:
    """Bytes of a process that no file backs; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def descendants(pid: int) -> list[int]:
    """Processes that this one started, and those that they did."""
    parent_of = {}
    for entry in Path("/proc").iterdir():
        try:
            parent_of[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found, left = [], [pid]
    while left:
        children = [child for child, parent in parent_of.items() if parent == left[-1]]
        left = left[:-1] + children
        found += children
    return found


class Watch:
    """Peaks of anonymous memory while the block runs, and the seconds and the processor seconds of this process."""

    def __init__(self, every_s: float = 0.02, others_s: float = 2.0) -> None:
        self.every_s, self.others_s = every_s, others_s
        self.peak, self.largest, self.seconds, self.cpu = anonymous(), 0, 0.0, 0.0
        self._running = True
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watch":
        self._began, self._cpu = time.monotonic(), time.process_time()
        self.at = time.time()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._running = False
        self._thread.join()
        self.seconds, self.cpu = time.monotonic() - self._began, time.process_time() - self._cpu

    def _watch(self) -> None:
        others = 0.0
        while self._running:
            self.peak = max(self.peak, anonymous())
            if time.monotonic() - others >= self.others_s:
                self.largest = max([self.largest, self.peak, *map(anonymous, descendants(os.getpid()))])
                others = time.monotonic()
            time.sleep(self.every_s)


def weight(*paths: Path) -> tuple[int, int]:
    """Files and bytes of what is there of these files and folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return len(files), sum(file.stat().st_size for file in files)
