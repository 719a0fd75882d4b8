"""`liit model` says where the model is and what was lost on the way, and refuses in one line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from liit.command import app
from tests.engine.handing.made_up import made_up_run


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


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    code, said = liit(tmp_path, "--output", tmp_path / "out")
    assert code == 2
    assert "is no run" in said
