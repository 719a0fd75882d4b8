"""What a user can mend is one line and exit code 1 (2 before anything was started), without a traceback; the same command goes on
when it is mended."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from liit.engine.fleet.tries import MOST
from liit.engine.main import FAILED, REFUSED
from tests.long_run import trained, training
from tests.small_run import ROOT

pytestmark = pytest.mark.faults
Lifelong = Callable[..., subprocess.CompletedProcess[str]]
FAILING = "tests.jobs.failing"


@pytest.fixture
def failing(settings: dict[str, Any], tiny_llava: str, tmp_path: Path) -> Path:
    """One short timestep with a penalty and a score that fail where a file says so; `model` beside it is its model."""
    shutil.copytree(tiny_llava, tmp_path / "model")
    told = settings | {
        "model": settings["model"] | {"path": str(tmp_path / "model")},
        "stream": settings["stream"] | {"releases": settings["stream"]["releases"][:2]},
        "scoring": settings["scoring"] | {"custom": {"own": f"{FAILING}:score"}, "scores": ["own"]},
        "training": settings["training"] | {"penalties": [f"{FAILING}:penalty"]},
        "resources": settings["resources"] | {"warm": False},
    }
    path = tmp_path / "failing.yaml"
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return path


def stopped(done: subprocess.CompletedProcess[str]) -> str:
    """The line that it stopped with."""
    said = done.stdout + done.stderr
    assert done.returncode == FAILED, said
    assert "Traceback" not in said, said
    [line] = [line for line in said.splitlines() if "stopped: " in line]
    return line.partition("stopped: ")[2]


def ended(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_process_that_is_killed_again_and_again_and_a_worker_that_raises(
    failing: Path, tmp_path: Path, lifelong: Lifelong
) -> None:
    model, run, trap = tmp_path / "model", tmp_path / "run", tmp_path / "trap"
    trap.touch()
    line = stopped(lifelong(failing, "--output", run, FAILING_SCORE=str(trap)))
    assert f"ended its process {MOST} times" in line
    assert "ask for less memory" in line
    trap.unlink()
    for how, says in (("killed", "ask for less memory"), ("raised", "TypeError: this penalty is of another age")):
        (model / "failing").write_text(how)
        assert says in (line := stopped(lifelong(failing, "--output", run)))
        assert str(run / "errors.log") in line
    assert line.startswith("node "), line
    assert "in _fail" in (run / "errors.log").read_text()
    (model / "failing").unlink()
    ended(lifelong(failing, "--output", run))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", disk], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def leave(disk: Path, size: int) -> None:
    """Make the disk full but for so many bytes."""
    other = disk / "other"
    other.unlink(missing_ok=True)
    with other.open("wb") as stream:
        for _ in range(max(shutil.disk_usage(disk).free - size, 0) // 4096):
            stream.write(b"\0" * 4096)


def test_a_disk_that_is_full_again_and_again(
    settings: dict[str, Any], finished: Path, small_disk: Path, tmp_path: Path, lifelong: Lifelong
) -> None:
    short = settings | {"stream": settings["stream"] | {"releases": settings["stream"]["releases"][:2]}}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    run, before = small_disk / "run", ""
    for size in (30_000, 150_000, 300_000):
        leave(small_disk, size)
        line = stopped(lifelong(tmp_path / "short.yaml", "--output", run))
        assert "No space left on device" in line, line
        assert "make room there; the same command goes on" in line
        log = (run / "stages.jsonl").read_text()
        assert log.startswith(before), "nothing that was made is lost"
        before = log
    (small_disk / "other").unlink()
    ended(lifelong(tmp_path / "short.yaml", "--output", run))
    assert trained(run) == trained(finished)


@pytest.fixture
def immutable(tmp_path: Path) -> Iterator[Callable[[Path, bool], None]]:
    """Makes folders as if their disk had been mounted anew for reading alone, and back."""
    made: list[Path] = []

    def make(folder: Path, so: bool) -> None:
        made.append(folder)
        subprocess.run(["chattr", "-R", "-f", "+i" if so else "-i", folder], check=False)

    tried = tmp_path / "tried"
    tried.mkdir()
    if subprocess.run(["chattr", "+i", tried], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be made immutable here (chattr +i)")
    subprocess.run(["chattr", "-i", tried], check=True)
    yield make
    for folder in tuple(made):
        make(folder, False)


def test_a_run_folder_that_turns_read_only_and_a_model_that_vanishes(
    long_settings: dict[str, Any],
    tiny_llava: str,
    tmp_path: Path,
    lifelong: Lifelong,
    immutable: Callable[[Path, bool], None],
) -> None:
    model, run = tmp_path / "model", tmp_path / "run"
    shutil.copytree(tiny_llava, model)
    config = tmp_path / "long.yaml"
    config.write_text(yaml.safe_dump(long_settings | {"model": long_settings["model"] | {"path": str(model)}}))
    command = [sys.executable, str(ROOT / "jobs/lifelong.py"), str(config), "--output", str(run)]
    log = tmp_path / "log.txt"

    def when_training(then: Callable[[], object]) -> str:
        with log.open("w") as out:
            driver = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT)
        deadline = time.monotonic() + 300
        while not training(run):
            assert driver.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        then()
        code = driver.wait(300)
        return stopped(subprocess.CompletedProcess(command, code, log.read_text(), ""))

    line = when_training(lambda: immutable(run, True))
    assert "allow this user to read and write there" in line
    assert f"traceback is in {run}" not in line, "nothing can be written there"
    immutable(run, False)
    (model / "model.safetensors").rename(tmp_path / "kept")
    done = lifelong(config, "--output", run)
    assert done.returncode == REFUSED, "gone before anything was started"
    assert f"error: {model}" in done.stdout or f"error: model {model}" in done.stdout, done.stdout + done.stderr
    (tmp_path / "kept").rename(model / "model.safetensors")
    ended(lifelong(config, "--output", run))
