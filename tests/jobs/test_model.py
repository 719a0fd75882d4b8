"""`liit model` says where the model is and what was lost on the way, and refuses in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from liit.command import app
from liit.engine.run.files import read_json
from tests.engine.handing.made_up import made_up_run

ROOT = Path(__file__).resolve().parents[2]


def liit(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["model", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_the_command_writes_the_folder_and_says_what_became_of_it(tiny_llava: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", tiny_llava, training__projector_learning_rate=1e-3)
    code, said = liit(run, "--output", tmp_path / "adapter", "--base", "org/base")
    assert code == 0
    assert "vLLM refuses modules_to_save" in said
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    code, said = liit(run, "--output", tmp_path / "merged", "--merged", "--timestep", 1)
    assert code == 0
    assert "the cast to float32, which the base is stored in, lost nothing" in said
    assert (tmp_path / "merged" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--timestep", "7"], "no adapter of timestep 7; those that have one are t1, t2"),
        ([], "give the name that others load it by"),
        (["--base", "../here"], "is a path of this machine"),
    ],
)
def test_what_cannot_be_handed_on_is_refused_in_one_line(
    tiny_llava: str, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    run = made_up_run(tmp_path / "run", tiny_llava)
    code, said = liit(run, "--output", tmp_path / "out", *arguments)
    assert code == 2
    assert reason in said
    assert not (tmp_path / "out").exists()


def test_a_base_of_the_hub_is_named_by_its_id_and_commit(tiny_llama: str, tmp_path: Path) -> None:
    commit, hub = "0123456789abcdef" * 2 + "01234567", tmp_path / "home" / "hub" / "models--org--tiny"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text(commit)
    shutil.copytree(tiny_llama, hub / "snapshots" / commit)
    run = made_up_run(tmp_path / "run", tiny_llama)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"model": config["model"] | {"path": "org/tiny"}}))
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "liit.command", "model", str(run)]
    command += ["--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "base_model: org/tiny\n" in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    settings = read_json(tmp_path / "out" / "adapter_config.json")
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("org/tiny", commit)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    code, said = liit(tmp_path, "--output", tmp_path / "out")
    assert code == 2
    assert "is no run" in said
