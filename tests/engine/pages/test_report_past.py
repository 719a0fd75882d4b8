"""A page of a run that is done is made again when more is known of its past."""

import shutil
from pathlib import Path

import yaml

from liit.engine.main import write_config
from liit.engine.pages.report import show_report
from liit.engine.run.files import read_json
from liit.engine.run.reading import open_run
from liit.engine.run.store import Store
from liit.engine.settings.config import Config
from liit.engine.settings.sections import Pool

DONE = Path(__file__).resolve().parents[1] / "run" / "rules_1"


def test_what_is_withdrawn_after_the_last_timestep_is_told(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DONE, tmp_path / "run"))
    config = Config.model_validate(yaml.safe_load((folder / "config.yaml").read_text()))
    page, taught = folder / "report.html", open_run(folder).selection(2).index[0]
    store = Store(folder)
    times = []
    for lines in ((), (f"id: {taught} # the owner asked",), (f"id: {taught} # the owner asked",)):
        told = config.model_copy(update={"pool": Pool(withdrawals={3: lines} if lines else {})})
        write_config(told, folder)
        show_report(store, told, read_json(folder / "results.json"))
        times.append(page.stat().st_mtime_ns)
    store.close()
    assert times[0] < times[1] == times[2], "and only then"
    assert taught in page.read_text().split("withdrawn since", 1)[1]
