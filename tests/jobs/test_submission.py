"""The job as a cluster runs it: a real head node, `ray job submit --working-dir .`, a whole run of two timesteps."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from tests.ending import end
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
OPEN = {
    "RAY_AUTH_MODE": "disabled",  # cluster and client alike; see "Token authentication" in the README
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # the job's `python` is this one
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard address of a head node of its own, which ends with the test."""
    ports = {
        name: free_port()
        for name in ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    log = tmp_path_factory.mktemp("head") / "head.log"
    with log.open("w") as out:
        head = subprocess.Popen(command, env=os.environ | OPEN, stdout=out, stderr=out, cwd="/", start_new_session=True)
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        _wait_for(f"{address}/api/version", head, log)
        yield address
    finally:
        end(head)


def _wait_for(url: str, head: subprocess.Popen[bytes], log: Path, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and head.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"no head node at {url}: {log.read_text()}")


def submit(cluster: str, *job: object) -> str:
    """What a Python script of the checkout prints as a job of the cluster."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", cluster]
    command += ["--runtime-env", "runtime_env.yaml", "--working-dir", ".", "--", "python", *map(str, job)]
    done = subprocess.run(
        command, env=os.environ | OPEN, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_submitted_job_selects_what_a_local_run_selects(
    finished: Path, cluster: str, config_file: Path, tmp_path: Path
) -> None:
    said = submit(cluster, "jobs/lifelong.py", config_file, "--output", tmp_path / "submitted")
    assert "average accuracy" in said
    for t in ("t01", "t02"):
        one, other = (pq.read_table(folder / t / "selection.parquet") for folder in (tmp_path / "submitted", finished))
        assert one["id"].to_pylist() == other["id"].to_pylist()


@pytest.mark.long
def test_studies_run_as_jobs_both_kinds(cluster: str, settings: dict[str, Any], tmp_path: Path) -> None:
    short = settings | {"stream": settings["stream"] | {"releases": settings["stream"]["releases"][:2]}}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    budgets = {"kind": "training", "config": str(tmp_path / "short.yaml"), "metric": "average_accuracy", "mode": "max"}
    (tmp_path / "budgets.yaml").write_text(yaml.safe_dump({**budgets, "space": {"strategy.budget": [12]}}))
    submit(cluster, "tune/ablate.py", tmp_path / "budgets.yaml", "--output", tmp_path)
    trained = pd.read_csv(tmp_path / "budgets" / "table.csv")
    assert trained["strategy.budget"].tolist() == [12]
    assert trained["training_s"].item() > 0
    profile = next((tmp_path / "budgets" / "runs").glob("*/t01/profile"))
    fixed = ["space.k=[2, 3, 4]", "space.seed=[0, 1]", "--budget", 5, "--profile", profile, "--output", tmp_path]
    submit(cluster, "tune/ablate.py", "k", *fixed)
    assert pd.read_csv(tmp_path / "k" / "table.csv")["k"].tolist() == [2, 2, 3, 3, 4, 4]
