"""A run from an adapter that a team has, whose timesteps fall too far: none of them is gone on from, all of it is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from liit import open_run
from liit.command import app
from liit.engine.data.readers.formats import read
from liit.engine.lifelong import run
from liit.engine.main import begin, say_results
from liit.engine.run.store import Store
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet
from liit.engine.training.given_adapter import given
from tests.engine.training.given_adapters import save_taught

pytestmark = pytest.mark.usefixtures("ray_cluster")


def configured(settings: dict[str, Any], adapter: Path, folder: Path, gate: list[dict[str, Any]]) -> Config:
    """A learning rate at which nothing is learned and everything lost; LoRA sketches of the scored model."""
    training = settings["training"] | {"learning_rate": 1.0, "gate": gate}
    scoring = settings["scoring"] | {"gradient": {"dimension": 64, "parameters": "lora"}}
    model = settings["model"] | {"adapter": str(adapter)}
    mine = {"model": model, "training": training, "scoring": scoring, "output": str(folder)}
    return Config.model_validate(settings | mine)


def go(config: Config) -> dict[str, Any]:
    store = Store(config.output)
    begin(config, store)
    results = run(config, store)
    store.close()
    return results


def parents(folder: Path, name: str) -> list[str]:
    found: list[str] = json.loads((folder / f"{name}.made.json").read_text())["parents"]
    return found


def mark(folder: Path, name: str) -> str:
    return str(json.loads((folder / f"{name}.made.json").read_text())["fingerprint"])


def test_what_falls_is_left_aside_and_another_gate_makes_only_what_goes_on_from_another(
    settings: dict[str, Any], tiny_llava: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exam = EvaluationSet.model_validate(settings["stream"]["evaluations"][0])
    adapter = save_taught(tiny_llava, tmp_path / "team", [dict(one) for one in read(exam)], steps=60)  # type: ignore[arg-type]
    folder = tmp_path / "run"
    strict = configured(settings, adapter, folder, [{"skill": "*", "drop": 5}])
    results = go(strict)

    value = [row["colour"] for row in results["accuracy"]]
    assert value[0] > 50, "t0 is the given adapter: the bare model answers nothing"
    assert max(value[1:]) < value[0] - 5
    assert results["gate"]["stands"] == [0, 0, 0]
    assert [(one["timestep"], one["against"], one["skill"]) for one in results["gate"]["falls"]] == [
        (1, 0, "colour"),
        (2, 0, "colour"),
    ]
    assert open_run(folder).results["gate"] == results["gate"]
    for t in (1, 2):
        assert parents(folder, f"t0{t}/profile")[-1] == str(adapter), "the current model is the one that stands"
        assert parents(folder, f"t0{t}/adapter")[-1] == str(adapter)
        assert (folder / f"t0{t}/adapter/adapter_model.safetensors").is_file(), "what fell is kept"
    assert parents(folder, "t00/generations.parquet")[0] == str(adapter)

    capsys.readouterr()
    say_results(strict, results)
    assert "adapter: none stands by training.gate; the model of t0 does" in capsys.readouterr().out
    said = CliRunner().invoke(app, ["status", str(folder)]).output
    assert said.count("so training.gate leaves its adapter aside; the model of t0 stands") == 2
    assert "Left aside" in (folder / "report.html").read_text()

    first, second = mark(folder, "t01/adapter"), mark(folder, "t02/adapter")
    moved = Path(shutil.move(adapter, tmp_path / "elsewhere"))
    loose = configured(settings, moved, folder, [{"skill": "sum", "drop": 5}])
    assert given(loose) == given(loose)
    results = go(loose)
    assert results["gate"] == {"stands": [0, 1, 2], "falls": []}
    assert mark(folder, "t01/adapter") == first, (
        "neither the gate nor the place of an adapter is what another was made from"
    )
    assert mark(folder, "t02/adapter") != second
    assert parents(folder, "t02/adapter")[-1] == "t01/adapter"
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["adapter"] == str(moved)
