"""What holds a model to what it knows, over a whole small stream: similarity with importance, and experts."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from liit.engine import learning
from liit.engine.config import Config
from liit.engine.experts import Experts
from liit.engine.lifelong import run
from liit.engine.routed_model import RoutedModel
from liit.engine.store import Store
from liit.engine.teaching import teach
from liit.engine.tracking import training_curves


def finished_with(folder: Path, settings: dict[str, Any], strategy: str, **training: Any) -> Path:
    own = {"strategy": {"name": strategy, "budget": 12}, "training": settings["training"] | training}
    store = Store(folder)
    run(Config.model_validate(settings | own), store)
    store.close()
    return folder


@pytest.mark.usefixtures("ray_cluster")
def test_importance_of_every_old_task_is_weighed_by_its_similarity(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[list[tuple[str, float]]] = []

    def recording(*arguments: Any) -> None:
        held.append(arguments[-1])
        teach(*arguments)

    monkeypatch.setattr(learning, "teach", recording)
    rule = {"kind": "ewc", "strength": 5.0, "similarity": True}
    folder = finished_with(tmp_path / "tir", settings, "sequential", regulariser=rule)
    alike = [json.loads((folder / f"t{t:02d}" / "similarity.json").read_text()) for t in (1, 2)]
    assert [list(one) for one in alike] == [["t00"], ["t00", "t01"]]
    assert all(0 <= value <= 1 for one in alike for value in one.values())
    assert [[weight for _, weight in one] for one in held] == [
        pytest.approx([1 - value for value in one.values()], abs=1e-4) for one in alike
    ]
    for t in (0, 1):
        importance = load_file(folder / f"t{t:02d}" / "importance.safetensors")
        assert sum(float(one.sum()) for one in importance.values()) > 0
    assert not (folder / "t02" / "importance.safetensors").exists(), "nothing comes after it"
    for t in (1, 2):
        penalties = json.loads((folder / f"t{t:02d}" / "adapter" / "training.json").read_text())["penalties"]
        assert penalties[0] == 0
        assert penalties[-1] > 0


@pytest.mark.usefixtures("ray_cluster")
def test_experts_stay_as_they_are_and_the_loaded_model_answers_as_the_run_did(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = finished_with(tmp_path / "experts", settings, "adapt-inf", experts={"threshold": 1})
    before, after = folder / "t01" / "adapter", folder / "t02" / "adapter"
    assert dict(Experts.load(after).tasks) == {"base": ("t00",), "t01": ("t01",), "t02": ("t02",)}
    assert (folder / "t02" / "adapter" / "t02" / "training.json").is_file()
    assert "training/loss_t02" in training_curves(Store(folder), 2)
    began = min(
        line["time"]
        for line in map(json.loads, (folder / "stages.jsonl").read_text().splitlines())
        if line["result"] == "t02/adapter"
    )
    for file in (before / "t01").iterdir():
        assert (after / "t01" / file.name).read_bytes() == file.read_bytes()
        assert datetime.fromtimestamp(file.stat().st_mtime, UTC) < datetime.fromisoformat(began), "never written again"
    exam = pq.read_table(folder / "exam.parquet").to_pylist()
    written = {row["id"]: row["answer"] for row in pq.read_table(folder / "t02" / "answers.parquet").to_pylist()}
    model = RoutedModel(after)
    together = model.route(exam)
    assert together == [model.route([one])[0] for one in exam]
    assert len(set(together)) > 1, "one expert answers everything, so nothing is tested here"
    answered = model.answer(exam, 8)
    assert answered == [written[one["id"]] for one in exam]
    assert answered[:4] == [model.answer([one], 8)[0] for one in exam[:4]]


def test_a_task_goes_on_with_the_expert_of_one_that_is_like_it_enough() -> None:
    none: dict[str, np.ndarray] = {}
    experts = Experts(Path("x"), {}, {"base": ("t00",), "t01": ("t01",), "t02": ("t02", "t03")}, {"base": none})
    assert experts.for_task([0.1, 0.2, 0.3, 0.6], 0.5, 4) == ("t02", "t02")
    assert experts.for_task([0.1, 0.2, 0.3, 0.6], 0.7, 4) == ("t04", "t02")
    assert experts.for_task([0.9, 0.2, 0.3, 0.6], 0.5, 4) == ("t04", "base")
