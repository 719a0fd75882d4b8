"""What cannot be run is refused in one clear line, with exit code 2, before Ray starts."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from liit.engine.main import REFUSED
from liit.engine.preflight import check_quantised, check_tracking
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.settling import DEFAULT

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("strategy.budgett=5", "strategy.budgett: no such key"),
        ("strategy.budget=-5", "strategy.budget: Input should be greater than 0 (got -5)"),
        ("strategy.name=best", "unknown strategy 'best'"),
        ("nowhere.yaml", "config file nowhere.yaml: No such file"),
        ("model.path=/nowhere", "model /nowhere: no config.json"),
        ("output=/proc/run", "output /proc/run cannot be written"),
        ("seed", "config file seed"),
        ("strategy.options={bims: 5}", "unknown strategy options ['bims']"),
        ("strategy.options={scores: nll}", "option scores is 'nll'; pass a list of names"),
        ("scoring.scores=[beauty]", "cannot profile ['beauty']; scores are ['nll'"),
        ("strategy.opening={timesteps: 5}", "strategy.opening.timesteps=5 leaves nothing to strategy lite-adapt-inf"),
        ("strategy.opening={name: multi-task, timesteps: 2}", "opening: multi-task trains at the last timestep alone"),
        ("clustering.vector=hidden", "cannot profile ['hidden']"),
        ("model.date=tomorrow", "model.date: Value error, Invalid isoformat string: 'tomorrow'"),
        (
            "model.template_kwargs={think: no}",
            "model.template_kwargs.think: the chat template of digits-base does not ask",
        ),
        ("scoring.gradient.gradient=adam", "adam gradients are formed whole, which only parameters: lora"),
    ],
)
def test_a_bad_argument_is_refused_in_one_line(
    argument: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from liit.engine.main import Wanted, main

    output = None if argument.startswith("output") else str(tmp_path / "run")
    assert main(Wanted([argument], output, dry_run=False)) == REFUSED
    lines = [line for line in capsys.readouterr().out.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert says in lines[0]


def test_a_score_or_targets_that_are_not_there_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from liit.engine.main import Wanted, main

    own = ["scoring.custom={odd: 'nowhere:score'}", "scoring.scores=[odd]"]
    assert main(Wanted(own, str(tmp_path / "run"), dry_run=False)) == REFUSED
    assert "score odd: 'nowhere:score' is not module:function" in capsys.readouterr().out
    tokens = ["strategy.unit=tokens", "strategy.pool_budget=null"]
    assert main(Wanted(tokens, str(tmp_path / "run"), dry_run=True)) == REFUSED
    assert "strategy.pool_budget is in samples; give it" in capsys.readouterr().out
    assert (
        main(Wanted(["strategy=coincide", "clustering.vector=embedding"], str(tmp_path / "run"), dry_run=True))
        == REFUSED
    )
    assert "strategy coincide does not choose by these clusters" in capsys.readouterr().out
    assert main(Wanted(["llava-1.5-7b.yaml", "strategy.name=less"], str(tmp_path / "run"), dry_run=True)) == REFUSED
    assert "strategy less selects for targets; give stream.targets" in capsys.readouterr().out
    moved = ["strategy=less", "scoring.gradient.gradient=zero-order"]
    assert main(Wanted(moved, str(tmp_path / "run"), dry_run=True)) == REFUSED
    assert "inner products, which zero-order features have not" in capsys.readouterr().out


def test_a_model_folder_without_a_processor_is_refused(
    tiny_llava: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from liit.engine.main import Wanted, main

    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).symlink_to(Path(tiny_llava) / name)
    assert main(Wanted([f"model.path={bare}"], str(tmp_path / "run"), dry_run=False)) == REFUSED
    assert f"model {bare}: its processor cannot be loaded" in capsys.readouterr().out


def test_a_model_whose_weights_are_gone_is_named_before_anything_is_said_to_have_changed(
    tiny_llava: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from liit.engine.main import Wanted, main

    bare = tmp_path / "bare"
    shutil.copytree(tiny_llava, bare, ignore=shutil.ignore_patterns("model.safetensors"))
    assert main(Wanted([f"model.path={bare}"], str(tmp_path / "run"), dry_run=False)) == REFUSED
    assert f"error: model {bare}: model.safetensors is not there" in capsys.readouterr().out


def test_the_command_line_exits_with_2_and_starts_no_ray(lifelong: Call, tmp_path: Path) -> None:
    done = lifelong("strategy.name=best", "--output", tmp_path / "run", RAY_ADDRESS="127.0.0.1:1")
    assert done.returncode == REFUSED
    assert "unknown strategy 'best'; choose one of: adapt-inf" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def stand_in(told: dict[str, Any], model: str) -> None:
    """What `make real` writes into `build/real`, in small."""
    if not Path(told["model"]["path"]).is_relative_to("build"):
        return
    Path(told["model"]["path"]).parent.mkdir(parents=True)
    Path(told["model"]["path"]).symlink_to(model)
    stream = told["stream"]
    for source in stream["releases"] + stream["evaluations"] + stream["targets"]:
        turns = [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": "Three."}]
        Path(source["path"]).parent.mkdir(parents=True, exist_ok=True)
        Path(source["path"]).write_text(json.dumps([{"id": source["name"], "conversations": turns}]))


@pytest.mark.parametrize("config", sorted(DEFAULT.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid_and_says_its_plan(
    config: Path, tiny_llama: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from liit.engine.main import Wanted, main

    told = yaml.safe_load(config.read_text())
    monkeypatch.chdir(tmp_path)
    stand_in(told, tiny_llama)
    assert main(Wanted([str(config)], None, dry_run=True)) == 0
    said = capsys.readouterr().out
    steps = set(re.findall(r"\bt\d\b", said))
    releases = told["stream"].get("releases", [])
    assert len(steps) >= max(5, len(releases))
    assert steps == {f"t{t}" for t in range(len(steps))}
    assert "in all" in said


def test_quantised_weights_need_their_package_and_whole_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate({"training": {"quantised": 4}})
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ConfigError, match=r"training.quantised needs the package bitsandbytes: pip install 'liit\[quantised\]'"
    ):
        check_quantised(config)
    with pytest.raises(ValueError, match=r"training.quantised needs training.zero_stage <= 2"):
        Config.model_validate({"training": {"quantised": 4, "zero_stage": 3}})


@pytest.mark.parametrize("extra", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_refused_a_folder_of_its_name_is_none(
    extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = Config.model_validate({"tracking": {extra: "somewhere"}})
    says = f"tracking.{extra} needs the package {extra}: pip install 'liit\\[{extra}\\]'"
    monkeypatch.setitem(sys.modules, extra, None)  # as Python marks what cannot be imported
    with pytest.raises(ConfigError, match=says):
        check_tracking(config)
    monkeypatch.delitem(sys.modules, extra)
    (tmp_path / extra).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match=says):
        check_tracking(config)
