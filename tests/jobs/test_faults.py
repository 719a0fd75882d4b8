"""What is killed with `kill -9` and called again ends as if it had not been: a run, what grows later, a comparison, a study."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from tests.long_run import between_stages, count, evaluating, scoring, trained, training
from tests.small_run import said

pytestmark = pytest.mark.faults
ROOT = Path(__file__).resolve().parents[2]


def kill_when(command: list[str], run: Path, moment: Callable[[Path], bool]) -> None:
    """Start the run, kill its driver at the moment, and wait until its local Ray is gone as well."""
    with (run.parent / "log.txt").open("ab") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 200
    while not moment(run):
        assert driver.poll() is None, f"ended before {moment.__name__}: {(run.parent / 'log.txt').read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"{moment.__name__} did not come"
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert moment(run), f"the kill came too late for {moment.__name__}: nothing was half done"


def test_a_run_killed_at_every_stage_ends_as_an_undisturbed_one(
    long_config: Path, tmp_path: Path, lifelong: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    command = [sys.executable, str(ROOT / "jobs/lifelong.py"), str(long_config), "--output", str(killed)]
    for moment in (scoring, between_stages, training, evaluating):
        kill_when(command, killed, moment)
    for output in (killed, calm):
        done = lifelong(long_config, "--output", output)
        assert done.returncode == 0, done.stdout + done.stderr
    assert trained(killed) == trained(calm)
    one, other = (json.loads((run / "results.json").read_text()) for run in (killed, calm))
    for figure in ("accuracy", "average_accuracy", "forgetting_rate", "samples"):
        assert one[figure] == other[figure]
    losses = [json.loads((run / "t01/adapter/training.json").read_text())["losses"] for run in (killed, calm)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def again_training(run: Path) -> bool:
    return (run / "t02/adapter.work").is_dir()


def weights(run: Path, t: int) -> bytes:
    return (run / f"t{t:02d}/adapter/adapter_model.safetensors").read_bytes()


def test_a_run_that_is_made_anew_and_killed_loses_neither(
    settings: dict[str, Any], finished: Path, tmp_path: Path, lifelong: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    killed, calm = (Path(shutil.copytree(finished, tmp_path / name)) for name in ("killed", "calm"))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    asked = [tmp_path / "small.yaml", "training.learning_rate=0.02", "--redo", "t2"]
    command = [sys.executable, str(ROOT / "jobs/lifelong.py"), *map(str, asked), "--output", str(killed)]
    kill_when(command, killed, again_training)
    [kept] = (killed / "superseded").iterdir()
    assert weights(kept, 2) == weights(finished, 2)
    for output in (killed, calm):
        done = lifelong(*asked, "--output", output)
        assert done.returncode == 0, done.stdout + done.stderr
        assert weights(output, 1) == weights(finished, 1)
        assert len(list((output / "superseded").iterdir())) == 1
    assert weights(killed, 2) == weights(calm, 2) != weights(finished, 2)


def ingesting(run: Path) -> bool:
    """One release is whole, and the next one is read."""
    return (run / "releases/00-base.parquet").exists() and bool(count(run, "releases/01-*.partial*"))


def answering_more(run: Path) -> bool:
    return 1 <= count(run, "t01/generations.parquet.partial.answers/part-*.parquet") < 3


QUESTIONS = 600
"""In three parts."""


def test_a_release_and_answers_to_more_questions_that_are_killed_end_as_undisturbed_ones(
    settings: dict[str, Any], tmp_path: Path, lifelong: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """What the models of before were asked is asked of none of them again."""
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    asked = [said(900 + i) for i in range(QUESTIONS)]
    (tmp_path / "later.json").write_text(json.dumps(asked))
    stream = settings["stream"]
    later = {"name": "later", "path": str(tmp_path / "later.json"), "skill": "later", "metric": "exact"}
    for name, sets in (("few", stream["evaluations"]), ("more", [*stream["evaluations"], later])):
        told = settings | {
            "stream": stream | {"releases": stream["releases"][:2], "evaluations": sets},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(told))
    few, more = (
        [sys.executable, str(ROOT / "jobs/lifelong.py"), str(tmp_path / f"{name}.yaml"), "--output", str(killed)]
        for name in ("few", "more")
    )
    kill_when(few, killed, ingesting)
    assert lifelong(tmp_path / "few.yaml", "--output", killed).returncode == 0
    before = [pq.read_table(killed / f"t0{t}/generations.parquet") for t in (0, 1)]
    kill_when(more, killed, answering_more)
    assert pq.read_table(killed / "t01/generations.parquet").equals(before[1])
    for output in (killed, calm):
        done = lifelong(tmp_path / "more.yaml", "--output", output)
        assert done.returncode == 0, done.stdout + done.stderr
    for t, answers in enumerate(before):
        now, whole = (pq.read_table(run / f"t0{t}/generations.parquet") for run in (killed, calm))
        assert now.slice(0, len(answers)).equals(answers)
        assert len(now) == len(answers) + QUESTIONS
        assert now.sort_by("id").equals(whole.sort_by("id"))
    for name in ("releases/00-base.parquet", "releases/01-words.parquet", "rows/01-words.parquet"):
        assert pq.read_table(killed / name).equals(pq.read_table(calm / name)), name
    assert read_pools(killed) == read_pools(calm)


def read_pools(run: Path) -> list[list[str]]:
    return [pq.read_table(run / f"t0{t}/pool.parquet")["id"].to_pylist() for t in (0, 1)]


def second_is_training(root: Path) -> bool:
    """One cell or trial is done, the next one is at its training."""
    return bool(list(root.glob("cells/*.json"))) and any(
        (run / "adapter.work").is_dir() for run in root.glob("runs/*/t01") if not (run / "evaluation.json").exists()
    )


@pytest.fixture
def short_config(settings: dict[str, Any], tmp_path: Path) -> Path:
    """One timestep of the small stream."""
    path = tmp_path / "short.yaml"
    short = settings | {"stream": settings["stream"] | {"releases": settings["stream"]["releases"][:2]}}
    path.write_text(yaml.safe_dump(short), encoding="utf-8")
    return path


def test_a_killed_comparison_goes_on_where_it_was(short_config: Path, tmp_path: Path) -> None:
    methods = {"random": {"strategy": "random"}, "adapt-inf": {"strategy": "adapt-inf"}}
    comparison = tmp_path / "two.yaml"
    told = {"config": str(short_config), "seeds": [0], "methods": methods}
    comparison.write_text(yaml.safe_dump(told, sort_keys=False))

    def command(root: Path) -> list[str]:
        places = ["--results", str(root / "cells"), "--output", str(root / "runs")]
        return [sys.executable, str(ROOT / "jobs/compare.py"), str(comparison), *places]

    killed, calm = tmp_path / "killed", tmp_path / "calm"
    kill_when(command(killed), killed, second_is_training)
    first = (killed / "cells/random-s0.json").read_text()
    for root in (killed, calm):
        done = subprocess.run(command(root), capture_output=True, text=True, cwd=ROOT, timeout=900, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (killed / "cells/random-s0.json").read_text() == first
    for name in methods:
        one, other = (json.loads((root / f"cells/{name}-s0.json").read_text()) for root in (killed, calm))
        measured = {"seconds", "date"}
        assert {k: v for k, v in one.items() if k not in measured} == {
            k: v for k, v in other.items() if k not in measured
        }
    page = (killed / "cells.md").read_text()
    assert all(f"| {name} | 1 |" in page for name in methods)


def test_a_killed_study_goes_on_where_it_was(short_config: Path, tmp_path: Path) -> None:
    study = {"kind": "training", "config": str(short_config), "metric": "average_accuracy", "mode": "max"}
    (tmp_path / "budgets.yaml").write_text(yaml.safe_dump({**study, "space": {"strategy.budget": [8, 12]}}))
    command = [sys.executable, str(ROOT / "tune/ablate.py"), str(tmp_path / "budgets.yaml"), "--output", str(tmp_path)]
    folder = tmp_path / "budgets"
    kill_when(command, folder, second_is_training)
    (first,) = (folder / "cells").glob("*.json")
    told = first.read_text()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "continuing the trials" in done.stdout
    assert first.read_text() == told
    assert sorted(pd.read_csv(folder / "table.csv")["strategy.budget"]) == [8, 12]
