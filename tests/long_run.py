"""One timestep of a stream of some hundred samples, in several parts at every stage: there is a middle to be killed in."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.small_run import said, seen, write_rows

SCORED, ANSWERED = 5, 4
"""Parts of the pool and of the evaluation sets."""


@pytest.fixture(scope="session")
def long_settings(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The small configuration with more samples, longer training, and actors."""
    folder, stream = tmp_path_factory.mktemp("long"), settings["stream"]
    images = str(Path(stream["releases"][0]["path"]).parent)
    write_rows(folder / "words.json", [said(1000 + i) for i in range(900)] + [seen(20 + i) for i in range(8)])
    write_rows(folder / "exam-sum.json", [{**said(5000 + i), "references": [f"{5001 + i}"]} for i in range(600)])
    base, (colour, total) = stream["releases"][0], stream["evaluations"]
    return settings | {
        "stream": {
            "kind": "files",
            "releases": [base, {"name": "words", "path": str(folder / "words.json"), "images": images}],
            "evaluations": [colour, total | {"path": str(folder / "exam-sum.json"), "max_new_tokens": 4}],
        },
        "training": settings["training"] | {"epochs": 60, "checkpoint_every": 20},
        "resources": settings["resources"] | {"warm": False},
    }


@pytest.fixture
def long_config(long_settings: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "long.yaml"
    path.write_text(yaml.safe_dump(long_settings), encoding="utf-8")
    return path


def count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


def scoring(run: Path) -> bool:
    return 1 <= count(run, "t01/profile.partial/part-*.parquet") < SCORED


def between_stages(run: Path) -> bool:
    return (run / "t01/selection.parquet").exists() and not count(run, "t01/adapter.work/*/checkpoint*")


def training(run: Path) -> bool:
    steps = [len(file.read_text().splitlines()) for file in run.glob("t01/adapter.work/*/progress.jsonl")]
    return bool(steps) and count(run, "t01/adapter.work/*/checkpoint*") > 0 and 20 < steps[0] < 180


def evaluating(run: Path) -> bool:
    return 1 <= count(run, "t01/generations.parquet.partial.answers/part-*.parquet") < ANSWERED


def trained(run: Path) -> dict[str, bytes]:
    """The bits of what a run comes to, by the name of its file."""
    wanted = ("t01/selection.parquet", "t01/adapter/adapter_model.safetensors", "t01/answers.parquet")
    return {name: (run / name).read_bytes() for name in (*wanted, "t01/removed.parquet")}
