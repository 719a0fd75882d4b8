"""A run that trains on what another run selected, without what is never to be chosen: nothing is scored, and no path matters."""

import shutil
from pathlib import Path
from typing import Any

from liit import open_run
from liit.engine.lifelong import run
from liit.engine.main import begin
from liit.engine.run.files import read_table
from liit.engine.run.store import Store
from liit.engine.settings.config import Config


def done(folder: Path, settings: dict[str, Any], **strategy: Any) -> dict[str, Any]:
    config = Config.model_validate(settings | {"strategy": {"name": "given", "budget": 12, **strategy}})
    store = Store(folder)
    begin(config, store)
    results = run(config, store)
    store.close()
    return results


def test_another_run_chooses_and_this_one_trains(finished: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = {t: open_run(finished).selection(t) for t in (1, 2)}
    never, always = theirs[2].index[0], sorted(set(open_run(finished).profile(1).index) - set(theirs[1].index))[0]
    (tmp_path / "never.txt").write_text(f"{never}\n")
    (tmp_path / "always.txt").write_text(f"{always}\n")
    told = {"never": str(tmp_path / "never.txt"), "always": str(tmp_path / "always.txt")}
    done(tmp_path / "new", settings, run=str(finished), **told)
    ours = open_run(tmp_path / "new")
    for t in (1, 2):
        assert set(ours.selection(t).index) == set(theirs[t].index) - {never} | {always}
        assert ours.selection(t).loc[always, "scorer"] == "always"
        assert not (tmp_path / "new" / f"t{t:02d}" / "profile").exists()
        assert (tmp_path / "new" / f"t{t:02d}" / "adapter" / "adapter_model.safetensors").is_file()
        counted = read_table(tmp_path / "new" / f"t{t:02d}" / "summary.parquet").to_pandas()
        reasons = counted[counted["outcome"] == "selected"].groupby("reason")["samples"].sum().to_dict()
        assert reasons == {"given": len(ours.selection(t)) - 1, "always": 1}

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").glob("t*/adapter")}
    moved = Path(shutil.copytree(finished, tmp_path / "moved"))
    (tmp_path / "never.txt").rename(tmp_path / "not-these.txt")
    done(tmp_path / "new", settings, run=str(moved), **told | {"never": str(tmp_path / "not-these.txt")})
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "new").glob("t*/adapter")} == before
