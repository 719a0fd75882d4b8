"""The report of a run only looks: it is kept while nothing changes, and whatever is wrong with it, the run is done."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from liit.engine.lifelong import run
from liit.engine.pages.report import show_report, write_report
from liit.engine.run.files import read_json, read_table, write_table
from liit.engine.run.store import Store
from liit.engine.settings.config import Config


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> tuple[Path, Config]:
    folder = tmp_path / "small"
    shutil.copytree(finished, folder)
    (folder / "mlflow.json").unlink()
    config = Config.model_validate(yaml.safe_load((folder / "config.yaml").read_text()))
    return folder, config.model_copy(update={"tracking": Config().tracking})


def test_a_finished_run_keeps_its_report_and_one_with_other_results_makes_it_anew(copied: tuple[Path, Config]) -> None:
    folder, config = copied
    report = folder / "report.html"
    before = report.stat().st_mtime_ns
    for _ in range(2):
        store = Store(folder)
        results = run(config, store)
        assert report.stat().st_mtime_ns == before
        store.close()
    store = Store(folder)
    show_report(store, config, results | {"average_accuracy": 12.34})
    store.close()
    assert report.stat().st_mtime_ns > before
    assert "12.34" in report.read_text()


def test_a_page_that_cannot_be_made_is_said_and_the_run_is_done(
    copied: tuple[Path, Config], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liit.engine.run.progress.log.propagate", True)
    folder, config = copied
    (folder / "report.json").unlink()
    (folder / "t02" / "summary.parquet").write_bytes(b"torn")
    shutil.rmtree(folder / "tensorboard")
    (folder / "tensorboard").write_text("a file where the folder should be")
    store = Store(folder)
    results = run(config, store)
    store.close()
    assert results == read_json(folder / "results.json")
    assert "the report could not be made" in caplog.text
    assert "t2 is not in TensorBoard's files" in caplog.text


def test_samples_that_chance_chose_are_shown_as_such(copied: tuple[Path, Config], tmp_path: Path) -> None:
    """In one pseudo-task, and in all of them."""
    folder, config = copied
    results, path = read_json(folder / "results.json"), folder / "t02" / "selection.parquet"
    whole = read_table(path)
    largest = read_table(folder / "t02" / "clusters.parquet").to_pandas()["cluster"].value_counts().index[0]
    for chance in ({largest}, set(whole["cluster"].to_pylist())):
        table = whole
        for name in ("scorer", "score"):
            column = [
                None if cluster in chance else value
                for cluster, value in zip(table["cluster"].to_pylist(), table[name].to_pylist(), strict=True)
            ]
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.array(column, table.schema.field(name).type))
        write_table(path, table)
        write_report(tmp_path / "page.html", folder, config, results)
        page = (tmp_path / "page.html").read_text()
        count = sum(cluster in chance for cluster in whole["cluster"].to_pylist())
        assert f"chance: chose {count:,} samples" in page
        assert "nan" not in page.split("Chosen samples by reason")[1].split("Neighbours")[0]
