"""A process that ends in the middle of its work: at a change that it makes to files, and nothing is done after it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

CHANGES = ("link", "mkdir", "remove", "rename", "replace", "rmdir", "unlink")
LAST = 3
"""Changes at the end, before each of which it is killed: there, work comes to stand under its name."""


class Killed(BaseException):
    """Nobody catches it."""


def killed_everywhere(start: Path, room: Path, work: Callable[[Path], object], every: int = 1) -> Iterator[Path]:
    """Copies of the folder `start` in `room`: one in which `work` came to its end, then of each in which it was killed before
    another of its changes to files.

    every: before every so manieth alone, and before each of the last.
    """
    whole = Path(shutil.copytree(start, room / "whole"))
    with _ending_before(None) as changes:
        work(whole)
    total = next(changes)
    assert total > LAST, "it changes almost nothing"
    yield whole
    for number in sorted({*range(0, total, every), *range(total - LAST, total)}):
        folder = Path(shutil.copytree(start, room / str(number)))
        with pytest.raises(Killed), _ending_before(number):
            work(folder)
        yield folder


@contextmanager
def _ending_before(number: int | None) -> Iterator[Iterator[int]]:
    """Raises Killed before the change of this number and before any later one; what counts them."""
    changes, dead = count(), list[bool]()

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            if next(changes) == number or dead:
                dead.append(True)
                raise Killed
            return change(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patched:
        for name in CHANGES:
            patched.setattr(os, name, counted(getattr(os, name)))
        yield changes
