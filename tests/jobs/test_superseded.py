"""What is judged otherwise is kept as it was, with its own configuration and results: before another metric, or fewer sets."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from liit.engine.lasting.continuing import continued
from liit.engine.lifelong import run
from liit.engine.main import begin
from liit.engine.plan import advice, plan
from liit.engine.run.files import read_json
from liit.engine.run.reading import open_run
from liit.engine.run.store import Store
from liit.engine.run.superseding import supersede
from liit.engine.settings.config import Config

Change = dict[str, Any]


def judged(folder: Path) -> dict[str, str]:
    """The metric that the last timestep's answers of each skill were judged by."""
    skills = read_json(folder / "t02/evaluation.json")
    return {skill: data["metric"] for skill, one in skills.items() for data in one["datasets"].values()}


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("change", ["metric", "fewer"])
def test_a_metric_or_a_set_less_leaves_the_run_as_it_was_told_and_what_it_came_to(
    settings: dict[str, Any], finished: Path, tmp_path: Path, change: str
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    told, results = (folder / "config.yaml").read_text(), read_json(folder / "results.json")
    first, second = settings["stream"]["evaluations"]
    sets = [first | {"metric": "f1"}, second] if change == "metric" else [first]
    now = settings | {"stream": settings["stream"] | {"evaluations": sets}, "output": str(folder)}
    config = continued(Config.model_validate(now))
    found, store = plan(config), Store(folder)
    assert not found.superseding
    begin(config, store, found)
    run(config, store)
    store.close()

    [kept] = (folder / "superseded").iterdir()
    old = open_run(kept)
    assert old.finished
    assert (kept / "config.yaml").read_text() == told
    assert read_json(kept / "results.json") == results
    assert list(old.accuracy.columns) == ["colour", "sum"]
    assert set(read_json(kept / "superseded.json")["superseded"]) == {f"t0{t}/evaluation.json" for t in range(3)}
    here = {one["name"]: one for one in yaml.safe_load((folder / "config.yaml").read_text())["stream"]["evaluations"]}
    assert here["exam-colour"]["metric"] == ("f1" if change == "metric" else "exact")
    assert here["exam-sum"]["until"] == (None if change == "metric" else 3)
    metrics = {"colour": "exact", "sum": "number"}
    assert judged(kept) == metrics
    assert judged(folder) == (metrics | {"colour": "f1"} if change == "metric" else {"colour": "exact"})


@pytest.mark.parametrize(
    ("training", "told", "untold"),
    [
        ({"learning_rate": 0.02}, ["`--redo t1`", "`liit fork "], "cannot change"),
        (
            {"lora": {"r": 3}},
            ["`--redo all`", "training.lora.r cannot change during a run: an adapter keeps its shape", "name: given"],
            "`liit fork ",
        ),
    ],
    ids=["learning rate", "shape"],
)
def test_what_is_advised_is_not_refused_then(
    settings: dict[str, Any], finished: Path, training: Change, told: list[str], untold: str
) -> None:
    now = settings | {"training": settings["training"] | training, "output": str(finished)}
    config = continued(Config.model_validate(now))
    said = "\n".join(advice(plan(config), config))
    assert all(one in said for one in told), said
    assert untold not in said


def test_what_could_not_be_used_goes_with_its_release_and_stays_where_a_profile_goes(
    finished: Path, tmp_path: Path
) -> None:
    for result, goes in (("releases/01-words.parquet", True), ("t01/profile", False)):
        folder = Path(shutil.copytree(finished, tmp_path / str(goes)))
        bad = (folder / "t01/quarantine.parquet").read_bytes()
        supersede(folder, {result: ("why",)})
        [kept] = (folder / "superseded").iterdir()
        assert (kept / "t01/quarantine.parquet").read_bytes() == bad
        assert (folder / "t01/quarantine.parquet").exists() != goes
        assert (folder / "t02/quarantine.parquet").exists() == (kept / "t02/quarantine.parquet").exists()
