"""A run whose whole process group is killed with `kill -9` again and again, at random moments spread over its stages."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.small_run import ROOT

pytestmark = pytest.mark.faults
KILLS, SEED = int(os.environ.get("LIIT_KILLS", "20")), 0


@pytest.fixture
def config(long_settings: dict[str, Any], settings: dict[str, Any], tmp_path: Path) -> Path:
    """Two timesteps, the first of some hundred samples."""
    stream = long_settings["stream"]
    path = tmp_path / "two.yaml"
    releases = [*stream["releases"], settings["stream"]["releases"][2]]
    path.write_text(yaml.safe_dump(long_settings | {"stream": stream | {"releases": releases}}), encoding="utf-8")
    return path


def events(run: Path) -> list[dict[str, Any]]:
    log = run / "stages.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.is_file() else []
    return [json.loads(line) for line in lines]


def moments(calm: Path, count: int) -> list[tuple[str, float]]:
    """At random over the working time of an undisturbed run, in order: a result, and its seconds of work so far."""
    took = [(one["result"], one["seconds"]) for one in events(calm) if one["event"] == "finished"]
    rng, found = random.Random(SEED), []
    for at in sorted(rng.uniform(0, sum(seconds for _, seconds in took)) for _ in range(count)):
        for result, seconds in took:
            if at <= seconds:
                found.append((result, at))
                break
            at -= seconds
    return found


def come(run: Path, before: int, result: str, seconds: float) -> bool:
    """Whether this life of the run, whose events begin at `before`, has come to this moment, or beyond that result."""
    mine = events(run)[before:]
    began = [one for one in mine if one["result"] == result and one["event"] in ("began", "resumed")]
    if any(one["result"] == result and one["event"] == "finished" for one in events(run)):
        return bool(mine)
    if not began:
        return False
    since = time.time() - _time(began[-1])
    return bool(since >= seconds - began[-1]["seconds"])


def _time(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def test_killed_at_random_it_ends_as_an_undisturbed_one(
    config: Path, tmp_path: Path, lifelong: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert lifelong(config, "--output", calm).returncode == 0
    command = [sys.executable, str(ROOT / "jobs/lifelong.py"), str(config), "--output", str(killed)]
    hit = []
    for result, seconds in moments(calm, KILLS):
        before = len(events(killed))
        with (tmp_path / "log.txt").open("ab") as log:
            driver = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + 200
        while not come(killed, before, result, seconds):
            assert driver.poll() is None, f"ended before {result}: {(tmp_path / 'log.txt').read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{result} did not come"
            time.sleep(0.02)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        hit.append(events(killed)[-1]["result"].rpartition("/")[2])
    assert len(set(hit)) >= min(KILLS // 4, 4), f"all kills were of {set(hit)}"
    done = lifelong(config, "--output", killed)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in sorted(str(file.relative_to(calm)) for file in calm.glob("t*/*.parquet")):
        one, other = (pq.read_table(run / name) for run in (killed, calm))
        assert one.equals(other), f"{name} differs after kills of {hit}"
    one, other = (json.loads((run / "results.json").read_text()) for run in (killed, calm))
    assert one["accuracy"] == other["accuracy"]
    for file in calm.glob("t*/adapter/adapter_model.safetensors"):
        assert (killed / file.relative_to(calm)).read_bytes() == file.read_bytes(), f"after kills of {hit}"
