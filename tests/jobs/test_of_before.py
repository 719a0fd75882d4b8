"""A run that was made before results had rules (`tests/engine/run/rules_1`, of 912f73c) stays readable by all that reads."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from typer.testing import CliRunner

from liit import open_run
from liit.command import app
from liit.engine.data.exporting import export
from liit.engine.pages.report import write_report
from liit.engine.run.files import read_json, read_table, write_table
from liit.engine.run.progress import start_logging
from liit.engine.run.rules import rules_of
from liit.engine.run.status import status
from liit.engine.run.storage.places import size_of
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


def test_it_is_chosen_from_and_shown(tmp_path: Path) -> None:
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
    config = Config.model_validate(yaml.safe_load((BEFORE / "config.yaml").read_text()))
    write_report(tmp_path / "report.html", BEFORE, config, read_json(BEFORE / "results.json"))
    assert "Chosen samples by reason" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("form", ["llava", "sharegpt", "swift", "trl"])
def test_its_samples_are_exported(form: str, tmp_path: Path) -> None:
    """Those without pictures: the pictures of the others were never kept here."""
    samples = pa.concat_tables([read_table(path) for path in sorted((BEFORE / "releases").glob("*.parquet"))])
    told = samples.filter(pc.equal(pc.fill_null(pc.list_value_length(samples["images"]), 0), 0))
    assert len(told) > 5
    write_table(tmp_path / "some.parquet", told.select(["id"]))
    done = export(BEFORE, tmp_path / "some.parquet", form, "some", tmp_path / "out")
    assert done.samples == len(told)
    assert size_of(done.path) > 0


def test_a_run_on_it_stops_and_says_which_rules_have_changed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BEFORE, tmp_path / "run"))
    told = (folder / "config.yaml").read_text().replace("/data/", f"{tmp_path}/")
    (folder / "config.yaml").write_text(told)
    stream = yaml.safe_load(told)["stream"]
    for source in stream["releases"] + stream["evaluations"]:
        Path(source["path"]).parent.mkdir(exist_ok=True)
        Path(source["path"]).write_text("[]")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = CliRunner().invoke(app, ["run", str(folder / "config.yaml"), "--output", str(folder)])
    assert done.exit_code == 2, done.output
    assert "is of rules 1" in done.output
    assert {path: path.read_bytes() for path in before} == before


def test_what_would_be_made_anew_is_said_with_what_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(BEFORE, tmp_path / "run"))
    start_logging()
    store = Store(folder)
    store.make("t00/pool.parquet", lambda partial, clock: partial.write_text("anew"))
    said = capsys.readouterr().out
    assert "t00/pool.parquet is made anew: it is of rules 1, and since then where a response begins" in said
