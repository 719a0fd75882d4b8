"""What holds a model to what it knows, over a whole small stream: similarity with importance, and experts."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from liit.engine import learning
from liit.engine.choosing.pseudo_tasks import name_tasks, names_of
from liit.engine.evaluation.routed_model import RoutedModel
from liit.engine.lifelong import run
from liit.engine.models.experts import Experts
from liit.engine.pages.tracking import training_curves
from liit.engine.plan import plan
from liit.engine.run.store import Store
from liit.engine.settings.config import Config
from liit.engine.training import ray_train
from liit.engine.training.job import TrainJob
from liit.engine.training.teaching import teach


def finished_with(folder: Path, settings: dict[str, Any], strategy: str, **training: Any) -> Path:
    own = {"strategy": {"name": strategy, "budget": 12}, "training": settings["training"] | training}
    store = Store(folder)
    try:
        run(Config.model_validate(settings | own), store)
    finally:
        store.close()
    return folder


def unexamined(settings: dict[str, Any]) -> dict[str, Any]:
    """The same stream without evaluation sets."""
    return settings | {"stream": settings["stream"] | {"evaluations": []}}


@pytest.mark.usefixtures("ray_cluster")
def test_averaging_goes_on_behind_a_finished_training_and_says_its_share_and_its_cut(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    trainer, average = ray_train._trainer, learning.average

    def counted(job: TrainJob) -> Any:
        trained.append(job.name[:3])
        return trainer(job)

    def killed(*_: object) -> dict[str, float]:
        monkeypatch.setattr(learning, "average", average)
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_train, "_trainer", counted)
    monkeypatch.setattr(learning, "average", killed)
    own, rule = unexamined(settings), {"alpha": "fisher", "samples": 8}
    with pytest.raises(KeyboardInterrupt):
        finished_with(tmp_path / "mean", own, "sequential", averaging=rule)
    folder = finished_with(tmp_path / "mean", own, "sequential", averaging=rule)
    assert trained == ["t01", "t02"], "what was trained before it was stopped is not trained again"
    said = [json.loads((folder / f"t0{t}/adapter.made.json").read_text())["averaging"] for t in (1, 2)]
    assert all(0 < one["alpha"] < 1 for one in said)
    assert said[0]["cut"] == 0, "B alone is smaller"
    assert 0 < said[1]["cut"] < 0.9
    assert not list(folder.glob("*/*partial*"))
    changed = own | {"strategy": {"name": "sequential", "budget": 12}}
    changed["training"] = own["training"] | {"averaging": {"alpha": 0.5}}
    again = Config.model_validate(changed)
    assert "training.averaging.alpha fisher → 0.5" in plan_of(again, folder)["t01/adapter"]


def plan_of(config: Config, folder: Path) -> dict[str, tuple[str, ...]]:
    """What a run would make anew, and why."""
    return plan(config.model_copy(update={"output": str(folder)})).superseding


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
    folder = finished_with(tmp_path / "tir", unexamined(settings), "sequential", regulariser=rule)
    alike = [json.loads((folder / f"t{t:02d}" / "similarity.json").read_text()) for t in (1, 2)]
    assert [list(one) for one in alike] == [["t00"], ["t00", "t01"]]
    assert all(0 <= value <= 1 for one in alike for value in one.values())
    assert [[weight for _, weight in one] for one in held] == [
        pytest.approx([1 - value for value in one.values()], abs=1e-4) for one in alike
    ]
    for t in (0, 1):
        importance = load_file(folder / f"t{t:02d}" / "importance" / f"t{t:02d}.safetensors")
        assert sum(float(one.sum()) for one in importance.values()) > 0
    assert not (folder / "t02" / "importance").exists(), "nothing comes after it"
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
    exams = [path for path in sorted((folder / "exam").glob("*.parquet")) if "." not in path.stem]
    written = {row["id"]: row["answer"] for row in pq.read_table(folder / "t02" / "answers.parquet").to_pylist()}
    exam = [row for path in exams for row in pq.read_table(path).to_pylist() if row["id"] in written]
    model = RoutedModel(after)
    together = model.route(exam)
    assert together == [model.route([one])[0] for one in exam]
    assert len(set(together)) > 1, "one expert answers everything, so nothing is tested here"
    answered = model.answer(exam, 8)
    assert answered == [written[one["id"]] for one in exam]
    assert answered[:4] == [model.answer([one], 8)[0] for one in exam[:4]]


def test_a_task_goes_on_with_its_own_expert_or_that_of_one_like_it_enough() -> None:
    none: dict[str, np.ndarray] = {}
    taught = {"base": ("t00",), "t01": ("t01",), "t02": ("t02", "t03")}
    experts = Experts(Path("x"), {}, taught, {"base": none})
    alike = dict(zip(("t00", "t01", "t02", "t03"), (0.1, 0.2, 0.3, 0.6), strict=True))
    assert experts.for_task("t04", alike, 0.5) == ("t02", "t02")
    assert experts.for_task("t04", alike, 0.7) == ("t04", "t02")
    assert experts.for_task("t04", alike, 0.7, afresh=True) == ("t04", "base")
    assert experts.for_task("t04", alike, 0.5, afresh=True) == ("t02", "t02"), "what goes on does not begin anew"
    assert experts.for_task("t04", alike | {"t00": 0.9}, 0.5) == ("t04", "base")
    assert experts.for_task("t01", alike, 0.5) == ("t01", "t01"), "a pseudo-task that was matched is at home"
    assert experts.for_task("t00", alike | {"t00": 0.9}, 0.5) == ("t00", "base"), "the base has no weights of its own"


def test_clusters_keep_the_names_of_the_groups_whose_samples_they_hold(tmp_path: Path) -> None:
    pools = [np.arange(20), np.arange(60), np.arange(70)]
    first = np.where(pools[1] < 18, 4, pools[1] // 30)  # nearly all of t0; two new clusters
    second = np.where(
        pools[2] < 18, 1, np.where(pools[2] < 30, 0, pools[2] % 2 + 2)
    )  # the same two, then halves of one
    for t, labels in enumerate((None, first, second)):
        keys = pa.array(pools[t], pa.uint64())
        pq.write_table(pa.table({"key": keys}), tmp_path / f"pool{t}")
        if labels is not None:
            pq.write_table(pa.table({"key": keys, "cluster": labels}), tmp_path / f"clusters{t}")
        before, clusters = (tmp_path / f"tasks{t - 1}", tmp_path / f"clusters{t}") if t else (None, None)
        name_tasks(t, tmp_path / f"pool{t}", clusters, before, 0.6, tmp_path / f"tasks{t}")
    names = [names_of(pools[t], t, tmp_path / f"tasks{t}") for t in range(3)]
    assert set(names[0]) == {"t00"}
    assert names[1].tolist() == ["t00"] * 18 + ["t01-0"] * 12 + ["t01-1"] * 30
    assert names[2].tolist() == ["t00"] * 18 + ["t01-0"] * 12 + [f"t02-{key % 2 + 2}" for key in range(30, 70)]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("how", [pytest.param("experts", marks=pytest.mark.long), "regulariser"])
def test_gradient_clusters_can_be_the_tasks(how: str, settings: dict[str, Any], tmp_path: Path) -> None:
    rule = {"threshold": 0.2} if how == "experts" else {"kind": "ewc", "strength": 5.0, "similarity": True}
    tasks = {"tasks": {"of": "clusters"}, "clustering": {"k_grid": [2]}}
    root = finished_with(tmp_path / how, unexamined(settings) | tasks, "adapt-inf", **{how: rule})
    chosen = pq.read_table(root / "t02" / "selection.parquet")["key"].to_numpy()
    names = set(names_of(chosen, 2, root / "t02" / "pseudo-tasks.parquet"))
    assert len(names) > 1, "one pseudo-task, so nothing is tested here"
    if how == "experts":
        experts = Experts.load(root / "t02" / "adapter")
        homes = {experts.of_task(name) for name in names}
        assert homes == set(experts.taught)
        for expert in homes:
            assert (root / "t02" / "adapter" / str(expert) / "training.json").is_file()
        return
    chosen = pq.read_table(root / "t01" / "selection.parquet")["key"].to_numpy()
    taught = set(names_of(chosen, 1, root / "t01" / "pseudo-tasks.parquet"))
    assert {file.stem for file in (root / "t01" / "importance").iterdir()} == taught
    alike = json.loads((root / "t02" / "similarity.json").read_text())
    assert set(alike) == taught | {"t00"}
    assert all(0 <= value <= 1 for value in alike.values())
