"""The report shows samples by what chose them, a reason that is no score included."""

import shutil
from pathlib import Path

import pyarrow as pa
import yaml

from liit.engine.pages.report import write_report
from liit.engine.run.files import read_json, read_table, write_table
from liit.engine.run.tables import SELECTION
from liit.engine.settings.config import Config

BEFORE = Path(__file__).resolve().parents[1] / "run" / "rules_1"


def test_samples_that_are_always_chosen_stand_under_that_reason_without_a_score(tmp_path: Path) -> None:
    run = Path(shutil.copytree(BEFORE, tmp_path / "run"))
    rows = read_table(run / "t02" / "selection.parquet").to_pylist()
    rows[0] |= {"scorer": "always", "score": None, "stratum": None}
    write_table(run / "t02" / "selection.parquet", pa.Table.from_pylist(rows, schema=SELECTION))
    config = Config.model_validate(yaml.safe_load((run / "config.yaml").read_text()))
    write_report(tmp_path / "report.html", run, config, read_json(run / "results.json"))
    page = (tmp_path / "report.html").read_text()
    assert "always: chose 1 samples" in page
    assert "always nan" not in page
