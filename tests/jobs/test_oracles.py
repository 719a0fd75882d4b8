"""An oracle in a run: it chooses evenly over tasks and skills that the stream names, resumes, and is planned as others are."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import liit
from liit.engine.lifelong import run
from liit.engine.main import begin
from liit.engine.plan import plan
from liit.engine.run.files import read_table
from liit.engine.run.store import Reached, Store
from liit.engine.settings.config import Config

FIRST = "t01/selection.parquet"


def as_far_as_the_first_selection(config: Config) -> None:
    store = Store(config.output, until=FIRST)
    begin(config, store)
    with pytest.raises(Reached):
        run(config, store)
    store.close()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("name", ["oracle-tasks", "oracle-skills"])
def test_a_run_chooses_evenly_goes_on_and_is_planned(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    told = settings | {"strategy": {"name": name, "budget": 12}, "output": str(tmp_path / "run")}
    config = Config.model_validate(told)
    as_far_as_the_first_selection(config)
    named = {row["id"]: row["task"] for row in read_table(tmp_path / "run/releases").select(["id", "task"]).to_pylist()}
    chosen = liit.open_run(tmp_path / "run").selection(1)
    assert Counter(named[one] for one in chosen.index) == {"colour": 6, "sum": 6}
    assert not (tmp_path / "run/t01/profile").exists()
    row = liit.open_run(tmp_path / "run").kinds.loc[1]
    assert [row["effective"], row["effective skills"]] == pytest.approx([2, 2])
    assert row["by chance"] < 2

    made = (tmp_path / "run" / FIRST).stat().st_mtime_ns
    as_far_as_the_first_selection(config)
    assert (tmp_path / "run" / FIRST).stat().st_mtime_ns == made
    assert plan(config, FIRST).verdicts[FIRST].state == "kept"
    sets = [one | {"skill": "all"} for one in settings["stream"]["evaluations"]]
    other = Config.model_validate(told | {"stream": settings["stream"] | {"evaluations": sets}})
    assert (plan(other, FIRST).verdicts[FIRST].state == "kept") == (name == "oracle-tasks")
