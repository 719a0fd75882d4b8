"""A small stream of a user's own files: three releases, one with bad samples, two evaluation sets; real images."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = "<script>document.title = 'changed'</script>"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230), "white": (240, 240, 240)}


@pytest.fixture(scope="session")
def stream(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The `stream` section of a configuration, its files written."""
    folder = tmp_path_factory.mktemp("stream")
    rng = np.random.default_rng(0)
    for name, rgb in COLOURS.items():
        noise = rng.integers(0, 15, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(noise + np.array(rgb, np.uint8)).save(folder / f"{name}.png")
    (folder / "torn.png").write_bytes((folder / "red.png").read_bytes()[:60])
    write_rows(folder / "base.json", [seen(i) for i in range(12)])
    bad = [{**seen(90), "image": "torn.png"}, {**seen(91), "image": "../red.png"}, {**seen(92), "conversations": []}]
    copies = [seen(3), said(105)]  # of a sample of the first release, and of one of the evaluation sets
    write_rows(folder / "words.json", [said(i) for i in range(30)] + [seen(20 + i) for i in range(8)] + copies + bad)
    write_rows(folder / "pairs.json", [both(i) for i in range(16)])
    write_rows(folder / "exam-colour.json", [seen(100 + i) for i in range(10)])
    sums = [{**said(100 + i), "references": [f"{101 + i}"]} for i in range(10)]
    write_rows(folder / "exam-sum.json", [*sums, said(200)])  # the last one's reference is its last turn, and no number
    return {
        "kind": "files",
        "releases": [{"name": n, "path": str(folder / f"{n}.json")} for n in ("base", "words", "pairs")],
        "evaluations": [
            {"name": f"exam-{n}", "path": str(folder / f"exam-{n}.json"), "skill": n, "metric": m, "max_new_tokens": 8}
            for n, m in (("colour", "exact"), ("sum", "number"))
        ],
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def seen(i: int) -> dict[str, Any]:
    colour = list(COLOURS)[i % 4]
    question = f"<image>\nWhich colour, {i}?"
    return {"id": f"seen-{i}", "image": f"{colour}.png", "conversations": turns(question, colour), "task": "colour"}


def said(i: int) -> dict[str, Any]:
    return {"id": i, "conversations": turns(f"What is {i} and 1?", f"it is {i + 1}", "Sure?", "yes"), "task": "sum"}


def both(i: int) -> dict[str, Any]:
    first, second = list(COLOURS)[i % 4], list(COLOURS)[(i + 1) % 4]
    text = turns(f"<image> and <image>: name both, {i}{SCRIPT}", f"{first} {second}")
    return {"id": f"both-{i}", "image": [f"{first}.png", f"{second}.png"], "conversations": text, "task": "pair"}


@pytest.fixture(scope="session")
def settings(stream: dict[str, Any], tiny_llava: str) -> dict[str, Any]:
    """A configuration for the small stream: seconds a stage, the default strategy. Without actors, which give the same bits."""
    return {
        "name": "small",
        "model": {"path": tiny_llava, "max_length": 200},
        "stream": stream,
        "strategy": {"name": "lite-adapt-inf", "budget": 12, "pool_budget": 30},
        "scoring": {"samples_per_batch": 4, "gradient": {"dimension": 64}, "embedding": 32},
        "clustering": {"k_grid": [2, 3, 4, 5]},
        "training": {
            "lora": {"r": 4, "alpha": 8, "dropout": 0.1},
            "epochs": 2,
            "batch_size": 4,
            "micro_batch_size": 4,
            "learning_rate": 0.01,
            "checkpoint_every": 2,
        },
        "evaluation": {"samples_per_batch": 5},
        "resources": {"num_cpus": 2, "cpus_per_actor": 0.5, "cpus_per_worker": 1, "warm": True},
        "max_bad_share": 0.1,
    }


@pytest.fixture(scope="session")
def finished(ray_cluster: None, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the small stream; its folder. What it was shown to is in `mlflow` beside it."""
    from liit.engine.lifelong import run  # Ray and DeepSpeed, which most tests need none of
    from liit.engine.main import begin
    from liit.engine.run.store import Store
    from liit.engine.settings.config import Config

    folder = tmp_path_factory.mktemp("run") / "small"
    store = Store(folder)
    config = Config.model_validate(settings | {"tracking": {"mlflow": str(folder.with_name("mlflow"))}})
    begin(config, store)
    run(config, store)
    store.close()
    return folder


@pytest.fixture
def config_file(settings: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def lifelong() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python jobs/lifelong.py ...` as a person would; returns what it printed and its exit code."""

    def call(*arguments: object, timeout_s: float = 900, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "jobs" / "lifelong.py"), *map(str, arguments)]
        return subprocess.run(
            command, env=os.environ | env, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, check=False
        )

    return call
