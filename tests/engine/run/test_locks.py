"""One run has a folder at a time, with flock and on file systems that have none, whatever becomes of the one that has it."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from liit.engine.fleet.look import look
from liit.engine.fleet.meeting import meeting
from liit.engine.run.storage import locks
from liit.engine.run.storage.locks import InUse, Lock, Lost, held
from liit.engine.run.store import Store, StoreError
from liit.engine.run.superseding import files_of

HOLDS = """
import errno, fcntl, os, sys, time
from pathlib import Path
from liit.engine.run.storage import locks
def none(*_):
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
locks.fcntl.flock = none
locks.BEAT_S = 0.1
lock = locks.Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Lustre that is mounted without -o flock."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(locks, "BEAT_S", 0.1)
    monkeypatch.setattr(locks, "WATCH_S", 1.0)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.usefixtures("without_flock")
def test_without_flock_one_run_has_the_folder_and_the_next_begins_when_it_has_let_go(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    assert held(tmp_path)
    with pytest.raises(StoreError, match=f"is in use by another run .process {holder.pid} on .*; choose another"):
        Store(tmp_path)
    holder.kill()
    holder.wait()
    assert not held(tmp_path)
    begun = time.monotonic()
    store = Store(tmp_path)
    assert time.monotonic() - begun < locks.WATCH_S, "a process that ended on this machine is not waited for"
    assert held(tmp_path)
    store.close()
    assert not held(tmp_path)
    Store(tmp_path).close()
    assert list(files_of(tmp_path)) == [], "locks are no part of a run"


@pytest.mark.usefixtures("without_flock")
@pytest.mark.parametrize("left", ["", "12 elsewhere another-boot/pid:[1] 000000000007\n"])
def test_what_a_machine_that_died_has_left_is_watched_and_then_passed_over(tmp_path: Path, left: str) -> None:
    (tmp_path / ".lock-3").write_text(left)
    begun = time.monotonic()
    lock = Lock(tmp_path)
    assert time.monotonic() - begun >= locks.WATCH_S
    assert [path.name for path in tmp_path.glob(".lock-*")] == [".lock-4"]
    lock.close()


@pytest.mark.usefixtures("without_flock")
def test_of_many_that_begin_at_once_one_has_the_folder(tmp_path: Path) -> None:
    def begin(_: int) -> Lock | None:
        try:
            return Lock(tmp_path)
        except InUse:
            return None

    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            (lock,) = [lock for lock in pool.map(begin, range(8)) if lock is not None]
        lock.close()


@pytest.mark.usefixtures("without_flock")
def test_a_run_that_stood_still_and_was_taken_for_dead_finishes_nothing_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.make("before", lambda partial, clock: partial.touch())
    (tmp_path / ".lock-2").write_text("12 elsewhere another-boot/pid:[1] 000000000007\n")
    with pytest.raises(Lost, match=r"another run .process 12 on elsewhere. has taken .*, because this one stood"):
        store.make("after", lambda partial, clock: partial.touch())
    assert (tmp_path / "before").is_file()
    assert not (tmp_path / "after").exists()


def test_a_run_with_flock_sees_one_that_has_none(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert held(tmp_path)
    with pytest.raises(InUse, match=str(holder.pid)):
        Lock(tmp_path)


def test_what_is_wrong_with_a_lock_is_said_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(StoreError, match=r"cannot be written: Input/output error"):
        Store(tmp_path)


@pytest.mark.usefixtures("without_flock")
def test_the_doctor_minds_no_missing_flock_but_one_that_only_some_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with meeting(tmp_path / "run") as met:
        assert met.folder is not None
        assert {"read", "write", "lock"}.isdisjoint(look([], [], str(met.folder))["met"])
        monkeypatch.undo()
        assert look([], [], str(met.folder))["met"]["lock"] == "it has flock here, and not there"
