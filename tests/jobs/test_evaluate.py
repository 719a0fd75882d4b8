"""Any model on a run's evaluation sets: the run's own adapter gives the run's answers, and so does what was handed on."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from liit import open_run
from liit.command import app
from liit.engine.any_model import Examined, examine, examined, other_sets
from liit.engine.evaluation.routed_model import RoutedModel
from liit.engine.handing.handing_on import hand_on
from liit.engine.models.experts import BASE, QUERIES, Experts
from liit.engine.run.files import read_json, read_table, write_json
from liit.engine.run.store import Store
from liit.engine.settings.config import Config, ConfigError
from liit.jobs.evaluate import say, say_what_differs
from tests.engine.handing.made_up import write_adapter


def told(folder: Path) -> dict[str, str]:
    rows = read_table(folder / "answers.parquet", ["id", "answer"]).to_pylist()
    return {row["id"]: row["answer"] for row in rows}


def look_at(what: Examined, folder: Path) -> dict[str, Any]:
    store = Store(folder)
    try:
        return examine(what, store)
    finally:
        store.close()


def test_a_run_s_models_answer_as_they_did_in_the_run(
    finished: Path, tiny_llava: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config.model_validate(open_run(finished).config)
    adapter = hand_on(finished, tmp_path / "adapter", base="org/base").folder
    merged = hand_on(finished, tmp_path / "merged", merged=True).folder
    asked = {
        "base": (examined(tiny_llava, config), 0),
        "first": (examined(str(finished / "t01" / "adapter"), config), 1),
        "adapter": (examined(str(adapter), config, base=tiny_llava), 2),
        "merged": (examined(str(merged), config), 2),
    }
    for name, (what, t) in asked.items():
        summary = look_at(what, tmp_path / "looks" / name)
        assert told(tmp_path / "looks" / name / "t00") == told(finished / f"t0{t}"), name
        assert summary == read_json(finished / f"t0{t}" / "evaluation.json"), name
    run = open_run(finished)
    assert other_sets(summary, run) == []
    say("merged", summary, run)
    said = capsys.readouterr().out
    assert [word for word in ("t0 base", "t1 words", "t2 pairs", "merged", "colour", "sum") if word not in said] == []
    summary["sum"]["datasets"]["exam-sum"]["n"] += 1
    assert other_sets(summary, run) == ["exam-sum"]
    say_what_differs(summary, run)
    again = tmp_path / "looks" / "merged" / "stages.jsonl"
    before = again.read_text()
    look_at(asked["merged"][0], tmp_path / "looks" / "merged")
    assert again.read_text() == before, "what is there is not done again"


@pytest.mark.usefixtures("ray_cluster")
def test_experts_that_were_handed_on_answer_each_sample_by_its_own(
    settings: dict[str, Any], tiny_llava: str, tmp_path: Path
) -> None:
    draw, folder, tasks = torch.Generator().manual_seed(0), tmp_path / "experts", {BASE: ("t0",), "words": ("t1",)}
    write_adapter(folder / "words", tiny_llava, 0.2, seed=1)
    keys = {name: {of: torch.randn(32, generator=draw).numpy() for of in QUERIES} for name in tasks}
    config = Config.model_validate(settings)
    about = {"model": config.model.model_dump(), "tasks": config.tasks.model_dump()}
    Experts(folder, about, tasks, keys, ("words",)).save()
    look_at(examined(str(folder), config), tmp_path / "look")
    exams = [path for path in sorted((tmp_path / "look" / "exam").glob("*.parquet")) if "." not in path.stem]
    said = told(tmp_path / "look" / "t00")
    rows = [row for path in exams for row in read_table(path).to_pylist() if row["id"] in said]
    model = RoutedModel(folder)
    assert set(model.route(rows)) == {BASE, "words"}
    assert said == dict(zip([row["id"] for row in rows], model.answer(rows, 8), strict=True))


def test_what_a_folder_holds_decides_what_is_examined(tiny_llava: str, tmp_path: Path) -> None:
    config = Config.model_validate({"model": {"path": "digits-base", "revision": "main", "max_length": 99}})
    hub = examined("org/model", config)
    assert (hub.name, hub.config.model.path, hub.config.model.revision, hub.adapter) == (
        "model",
        "org/model",
        None,
        None,
    )
    assert examined(tiny_llava, config).config.model.max_length == 99
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(ConfigError, match="is no model: it has neither"):
        examined(str(adapter), config)
    write_json(adapter / "adapter_config.json", {"base_model_name_or_path": "org/base", "revision": "abc"})
    one, moved = examined(str(adapter), config), examined(str(adapter), config, base=tiny_llava)
    assert (one.config.model.path, one.config.model.revision, one.adapter) == ("org/base", "abc", adapter)
    assert (moved.config.model.path, moved.config.model.revision) == (tiny_llava, None)
    experts = tmp_path / "experts"
    experts.mkdir()
    tasks = {"samples": 7, "image_encoder": None}
    write_json(experts / "experts.json", {"model": {"path": "org/base", "dtype": "bfloat16"}, "tasks": tasks})
    several = examined(str(experts), config).config
    assert (several.model.path, several.model.dtype, several.tasks.samples) == ("org/base", "bfloat16", 7)
    assert several.training.experts is not None
    with pytest.raises(ConfigError, match="--base is for adapters"):
        examined(tiny_llava, config, base="org/base")


def test_a_run_s_folder_is_refused_with_where_its_models_are(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({}))
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), str(config_file)])
    assert done.exit_code == 2
    assert "its adapters are" in " ".join(done.output.split())
