"""A run that was made before results had rules (`tests/engine/run/rules_1`, of 912f73c) stays readable by all that reads."""

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from liit import open_run
from liit.command import app
from liit.engine.pages.report import write_report
from liit.engine.run.files import read_json, read_table
from liit.engine.run.progress import start_logging
from liit.engine.run.rules import rules_of
from liit.engine.run.status import status
from liit.engine.run.store import Store
from liit.engine.settings.config import Config

BEFORE = Path(__file__).resolve().parents[1] / "engine" / "run" / "rules_1"


def test_its_tables_are_read() -> None:
    run = open_run(BEFORE)
    assert run.finished
    assert run.releases == ["base", "words", "pairs"]
    assert list(run.accuracy.columns) == ["colour", "sum"]
    assert [len(run.selection(t)) for t in (1, 2)] == [12, 12]
    assert set(run.selection(2).index) <= set(run.profile(2).index)
    assert run.profile(1, ["sketch"])["sketch"].iloc[0].shape == (16,)
    assert set(run.clusters(2).index) == set(run.profile(2).index)
    assert len(run.answers(0)) == 20
    assert len(run.quarantine) == 3
    assert len(run.removed) > 0
    assert rules_of(run.results) == rules_of(read_json(BEFORE / "t01" / "adapter.made.json")) == 1
    assert Config.model_validate(run.config).strategy.budget == 12


def test_its_state_is_told() -> None:
    found = status(BEFORE)
    assert found.finished
    assert {stage.state for stage in found.stages if stage.timestep == 2} == {"done"}


def test_it_is_chosen_from_exported_and_shown(tmp_path: Path) -> None:
    profile = str(BEFORE / "t02" / "profile")
    chosen = str(tmp_path / "chosen.parquet")
    arguments = [
        "--profile",
        profile,
        "--strategy",
        "adapt-inf",
        "--budget",
        "9",
        "--k-grid",
        "2-5",
        "--output",
        chosen,
    ]
    done = CliRunner().invoke(app, ["choose", *arguments])
    assert done.exit_code == 0, done.output
    assert len(read_table(Path(chosen))) == 9
    words = [name for name in open_run(BEFORE).selection(2).index if name.startswith("words/")]
    assert words
    config = Config.model_validate(yaml.safe_load((BEFORE / "config.yaml").read_text()))
    write_report(tmp_path / "report.html", BEFORE, config, read_json(BEFORE / "results.json"))
    assert "Chosen samples by reason" in (tmp_path / "report.html").read_text()


def test_what_would_be_made_anew_is_said_with_what_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(BEFORE, tmp_path / "run"))
    start_logging()
    store = Store(folder)
    store.make("t00/pool.parquet", lambda partial, clock: partial.write_text("anew"))
    said = capsys.readouterr().out
    assert "t00/pool.parquet is made anew: it is of rules 1, and since then where a response begins" in said
