"""What was scored again is read back from the run folder, by people and by the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from liit.engine.choosing.refreshed import say, written
from liit.engine.pages.report import scored
from liit.engine.pages.report_data import RunFolder
from liit.engine.run.files import write_json, write_table
from liit.engine.run.reading import RunError, open_run
from liit.engine.run.tables import POOL

WHY = {"new": 1150, "sampled": 40, "too old": 0, "moved": 80, "kept": 730}
GROUPS = 10


def found(t: int) -> dict[str, Any]:
    """Ten groups of 85, of which the first moved and nothing is known of the second."""
    drift_G = np.linspace(0.9, 0, GROUPS)
    drift_G[1] = np.inf
    counts = [np.full(GROUPS, 85), np.full(GROUPS, 4), np.arange(GROUPS) // 9]
    return written(
        t, WHY, "cluster", [str(at) for at in range(GROUPS)], counts, {"nll": drift_G}, drift_G > 0.8, {"a": 1, "b": t}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of four timesteps, of which the last two could keep rows."""
    config = {"stream": {"releases": [{"name": name} for name in "abcd"]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    for t in range(4):
        (tmp_path / f"t{t:02d}").mkdir()
        write_table(tmp_path / f"t{t:02d}/pool.parquet", POOL.empty_table())
        if t > 1:
            write_json(tmp_path / f"t{t:02d}/refresh.json", found(t))
    return tmp_path


def test_counts_and_drifts_are_frames(folder: Path) -> None:
    run = open_run(folder)
    assert run.refreshed.loc[2].to_dict() == {"samples": 2000, "scored": 1270, **WHY}
    assert list(run.refreshed.index) == [2, 3]
    drift = run.drift(3)
    assert drift["nll"].iloc[1] == np.inf
    assert drift["moved"].tolist() == [True, True, *[False] * 8]
    with pytest.raises(RunError, match=r"t01 has no refresh\.json: all of its pool was scored, or nothing"):
        run.drift(1)
    for t in (2, 3):
        (folder / f"t{t:02d}/refresh.json").unlink()
    assert open_run(folder).refreshed.empty


def test_the_report_shows_them(folder: Path) -> None:
    (section,) = scored(RunFolder(folder, {}), {})
    assert section.table is not None
    assert section.table["group"].tolist() == [str(at) for at in range(GROUPS)]
    assert section.pictures


def test_a_timestep_says_how_many_were_scored_and_why(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liit.engine.run.progress.log.propagate", True)
    with caplog.at_level("INFO"):
        say(found(2))
    assert "t2: 1,270 of 2,000 samples scored: 1,150 new, 40 sampled, 80 moved" in caplog.text
    assert "t2: 2 of 10 groups (cluster) moved: 0 (nll 0.9), 1 (nll ?)" in caplog.text
